"""Log lines: fields of ours are shown, and objects that other libraries attach break no line."""

import json
import logging
import queue
from dataclasses import dataclass, field
from typing import Any

from hatchet_operator.logs import make_formatter


@dataclass
class Unprintable:
    """As kopf's settings: a dataclass with something inside that can't be copied."""

    waiting: Any = field(default_factory=queue.SimpleQueue)


def make_record(logger: str, **fields: object) -> logging.LogRecord:
    return logging.getLogger(logger).makeRecord(logger, logging.INFO, "file", 1, "pod created", (), None, extra=fields)


def test_a_json_line_has_the_fields_of_ours() -> None:
    line = json.loads(make_formatter("json").format(make_record("hatchet_operator.engine", pod="fanout-1")))
    assert {name: line[name] for name in ("severity", "logger", "message", "pod")} == {
        "severity": "INFO",
        "logger": "hatchet_operator.engine",
        "message": "pod created",
        "pod": "fanout-1",
    }


def test_a_json_line_of_another_library_is_without_its_objects() -> None:
    line = json.loads(make_formatter("json").format(make_record("kopf.objects", settings=Unprintable())))
    assert line.keys() == {"time", "severity", "logger", "message"}


def test_a_text_line_has_the_fields_of_ours() -> None:
    assert (
        make_formatter("text")
        .format(make_record("hatchet_operator.engine", pod="fanout-1"))
        .endswith("INFO    hatchet_operator.engine: pod created pod=fanout-1")
    )


def test_what_users_wrote_forges_no_line_and_moves_no_cursor() -> None:
    record = make_record("hatchet_operator.engine", key="a\nb\x1b[2J\0\u202e", run="é✔")
    line = make_formatter("text").format(record)
    assert line.endswith(r"pod created key=a\nb\x1b[2J\x00\u202e run=é✔")
    assert "\n" not in line
