"""The format of log lines. The text of a line is constant, its details are in fields: `logging`'s extra."""

import logging
import sys
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from hatchet_operator.terminal import lines, one_line

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = "hatchet_operator"


class TextFormatter(logging.Formatter):
    """A line for people: time, severity, module, text, and the fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        shown = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return one_line(super().formatMessage(record) + shown)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback if there is one."""
        return lines(super().format(record))


class JsonLineFormatter(JsonFormatter):
    """A line for programs: an object with time, severity, logger, message, and the fields."""

    def __init__(self) -> None:
        renamed = {"asctime": "time", "levelname": "severity", "name": "logger"}
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=renamed)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        for name in vars(record).keys() - _STANDARD - _fields(record).keys():
            log_data.pop(name, None)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of our own lines. Other libraries put whole objects into records, some without a text form."""
    if not record.name.startswith(_OURS):
        return {}
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    return TextFormatter() if log_format == "text" else JsonLineFormatter()


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Write log lines of at least this severity to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
