"""How log lines look. The text of a line is constant, what it is about stands in fields: `logging`'s extra."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = "hatchet_operator"


class TextFormatter(logging.Formatter):
    """A line for people: time, severity, module, text, and the fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        # Other libraries put whole objects into their records.
        shown = "".join(f" {name}={value}" for name, value in fields.items()) if record.name.startswith(_OURS) else ""
        return super().formatMessage(record) + shown


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format == "text":
        return TextFormatter()
    renamed = {"asctime": "time", "levelname": "severity", "name": "logger"}
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=renamed)


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Write the log to stderr, from this severity on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
