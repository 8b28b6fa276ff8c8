"""How deep JSON may be nested, how to read what is nested deeper, and how to read an object that a client sent.

kube-apiserver takes 10 000 levels in the free-form fields of an object. Python's parsers and writers of JSON end at
200 (pydantic's parser) to 1024 (orjson's), each with an error about all that was to be read: one such object would
hide all others of its kind, in a list and in a watch. So what is nested too deep is cut out of the text: a value that
begins below `_DEEPEST` becomes null. What is left is still deeper than `MAX_DEPTH`, so that who looks at it refuses it
in words.
"""

import re
from typing import Any

import orjson

from hatchet_operator.errors import InvalidRequest

MAX_DEPTH = 100
"""Of inputs, outputs, metadata and templates; as many as documents of MongoDB and MySQL may have."""

_DEEPEST = MAX_DEPTH + 40  # an input is the fifth level of a list; the rest is for what we put around it
_WRITTEN = 254  # by orjson, at most
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]')


def read_json(text: bytes | str) -> Any:
    """Parse a text that others wrote, without what is nested too deep.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return orjson.loads(_cut(data))
    return orjson.loads(_cut(data)) if _may_be_deep(data) and _is_deeper(value, _DEEPEST) else value


def shallow(text: bytes) -> bytes:
    """Return a text that others wrote as one that any parser takes."""
    if not _may_be_deep(text):
        return text
    try:
        return _cut(text) if _is_deeper(orjson.loads(text), _DEEPEST) else text
    except orjson.JSONDecodeError:
        return _cut(text)


def depth_problem(value: Any, what: str) -> str | None:
    """Say that a JSON value is nested too deep to be handed on, or None.

    Args:
        value: What `read_json` returned.
        what: How the message calls it.
    """
    if not _is_deeper(value, MAX_DEPTH):
        return None
    return (
        f"{what} is nested deeper than {MAX_DEPTH} levels, which is all that is taken: make it flatter, as in a list "
        "of entries that refer to each other by name"
    )


def _may_be_deep(text: bytes, limit: int = _DEEPEST) -> bool:
    return text.count(b"{") + text.count(b"[") > limit


def _is_deeper(value: Any, limit: int) -> bool:
    """Try to write it, in a box so deep that there is room for so many levels: ten times as fast as a search.

    Without the box first: hardly any text has as many brackets as it would need, and to count them is twenty times as
    fast as to make the box.
    """
    try:
        if not _may_be_deep(orjson.dumps(value), limit):
            return False
    except TypeError:
        return True
    for _ in range(_WRITTEN - limit):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def _cut(text: bytes) -> bytes:
    kept: list[bytes] = []
    depth, kept_until = 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in b"{[":
            depth += 1
            if depth == _DEEPEST + 1:
                kept.append(text[kept_until : token.start()])
        elif token[0] in b"}]":
            depth -= 1
            if depth == _DEEPEST:
                kept.append(b"null")
                kept_until = token.end()
    if depth > _DEEPEST:
        return text  # it ends in the middle of something, and is no JSON either way
    return b"".join([*kept, text[kept_until:]])


def parse_object(text: str, *, what: str) -> dict[str, Any]:
    """Parse the text of a JSON object.

    Raises:
        InvalidRequest: It is not one; the message begins with ``what``.
    """
    try:
        value = read_json(text or "{}")
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON ({error}); expected the text of an object") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} is a JSON {type(value).__name__}; expected an object")
    if (problem := depth_problem(value, what)) is not None:
        raise InvalidRequest(problem)
    return value
