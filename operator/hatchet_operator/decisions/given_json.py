"""Whether a text that somebody gives to a command is a JSON object that can be handed on; told before anything starts.

Python's parser takes more than JSON is, and keeps one of two equal keys in silence.
"""

import json
import sys
from typing import Any, NoReturn

from hatchet_operator.resources.nesting import depth_problem, read_json

_WINDOW = 60  # characters that are shown on either side of a fault


def object_problem(text: str, where: str) -> str | None:
    """Say why a text is not a JSON object, and where, or None.

    Args:
        text: What was given.
        where: How it was given, which the sentence begins with.
    """
    example = """expected a JSON object, as in '{"k": 1}'"""
    if not text.strip():
        return f"{where} is empty; {example}"
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole_number, object_pairs_hook=_object_of)
    except json.JSONDecodeError as error:
        return f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}\n{_pointer(text, error)}"
    except RecursionError:
        return depth_problem(read_json(text), where)
    except _Fault as fault:
        return f"{where} {fault}"
    if not isinstance(value, dict):
        return f"{where} must be a JSON object, as in '{{\"k\": 1}}'; it is {_kind_of(value)}"
    if _has_lone_surrogate(text, value):
        return f"{where} has half of a surrogate pair (\\ud800 to \\udfff), which is no text; expected UTF-8"
    return depth_problem(read_json(text), where)


class _Fault(Exception):
    """What is JSON by its grammar and can't be taken all the same."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Fault(f"is not JSON: {name} is not a JSON number")


def _whole_number(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise _Fault(f"has a number of {len(digits)} digits, of which Python reads {most}; write it as text") from None


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Fault(f"has the key {json.dumps(key)} twice in one object: one of the values would be lost")
        found[key] = value
    return found


def _has_lone_surrogate(text: str, value: dict[str, Any]) -> bool:
    if "\\ud" not in text.lower() and text.isprintable():
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _pointer(text: str, error: json.JSONDecodeError) -> str:
    """Return the part of the line with the fault, and below it a mark."""
    line = text.split("\n")[error.lineno - 1].rstrip("\r")
    begin = max(0, error.colno - 1 - _WINDOW)
    shown = line[begin : error.colno - 1 + _WINDOW]
    return f"  {shown}\n  {' ' * (error.colno - 1 - begin)}^"


def _kind_of(value: object) -> str:
    kinds: dict[type, str] = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
