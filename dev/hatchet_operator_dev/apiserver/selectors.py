"""Label and field selectors: text of a query parameter into a predicate.

``parse_labels`` and ``parse_fields`` return ``None`` for a selector that selects everything, so that callers skip the
test. A label that is absent satisfies ``!=`` and ``notin``, which surprises everyone once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import bad_request

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]
FieldReader = Callable[[Object], str]

_SET_BASED = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<absent>!\s*)?(?P<key>[^\s!=,()<>]+)$")
_NUMERIC = re.compile(r"^(?P<key>[^\s!=,()<>]+)\s*(?P<op>[<>])\s*(?P<value>-?\d+)$")
_OUTSIDE_PARENTHESES = re.compile(r",(?![^()]*\))")


def parse_labels(text: str | None) -> Callable[[Object], bool] | None:
    """Compile a labelSelector: ``a=b``, ``a!=b``, ``a in (b, c)``, ``a notin (b)``, ``a``, ``!a``, joined by commas."""
    if not text or not text.strip():
        return None
    tests = [_label_test(part.strip(), text) for part in _OUTSIDE_PARENTHESES.split(text)]

    def selects(obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return selects


def _label_test(part: str, whole: str) -> Test:
    if match := _SET_BASED.match(part):
        key, values = match["key"], frozenset(value.strip() for value in match["values"].split(","))
        if match["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUALITY.match(part):
        key, value = match["key"], match["value"]
        if match["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _NUMERIC.match(part):
        key, bound, greater = match["key"], int(match["value"]), match["op"] == ">"
        return lambda labels: _compares(labels.get(key), bound, greater)
    if match := _EXISTS.match(part):
        key, absent = match["key"], match["absent"] is not None
        return lambda labels: (key in labels) is not absent
    raise bad_request(
        f'unable to parse requirement: found "{part}", expected: a label selector such as "a=b,c in (d,e),!f" '
        f'in "{whole}"'
    )


def _compares(value: str | None, bound: int, greater: bool) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > bound if greater else number < bound


def parse_fields(text: str | None, readers: Mapping[str, FieldReader]) -> Callable[[Object], bool] | None:
    """Compile a fieldSelector against the fields a kind lets clients select by; an unknown field is a 400."""
    if not text:
        return None
    wanted: list[tuple[FieldReader, str, bool]] = []
    for part in text.split(","):
        key, operator, value = _split_field(part)
        reader = readers.get(key)
        if reader is None:
            raise bad_request(f"field label not supported: {key}")
        wanted.append((reader, value, operator != "!="))

    def selects(obj: Object) -> bool:
        return all((reader(obj) == value) is equal for reader, value, equal in wanted)

    return selects


def _split_field(part: str) -> tuple[str, str, str]:
    for operator in ("!=", "==", "="):
        key, found, value = part.partition(operator)
        if found:
            return key.strip(), operator, value.strip()
    raise bad_request(f"invalid field selector: {part!r}; can't understand {part!r}")


def field_reader(path: tuple[str, ...]) -> FieldReader:
    """Read a field as the text that selectors compare; a missing field reads as the empty string."""

    def read(obj: Object) -> str:
        value: Any = obj
        for key in path:
            if not isinstance(value, dict):
                return ""
            value = value.get(key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    return read
