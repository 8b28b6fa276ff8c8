"""JSON text of what user code hands in: inputs, outputs, metadata. What JSON cannot say is refused by its path."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

MAX_BYTES = 256 * 1024  # of one input or output; the operator's limit


@runtime_checkable
class SupportsModelDump(Protocol):
    """A pydantic model, known by its method so that pydantic need not be imported."""

    def model_dump(self, *, mode: str) -> Any: ...


class DataclassInstance(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


JsonObject: TypeAlias = Mapping[str, object] | SupportsModelDump | DataclassInstance


def encode_object(value: object, *, what: str, expected: str = "a mapping") -> str:
    """Write a mapping, dataclass or pydantic model as JSON text.

    Args:
        value: What to write.
        what: How to call it in messages, e.g. ``input``; paths continue it: ``input["a"][2]``.
        expected: What ``value`` should have been, for the message.

    Raises:
        TypeError: It is no object, or something in it has no JSON form.
        ValueError: It contains NaN or an infinity, refers to itself, or is larger than 256 KiB.
    """
    try:
        plain = _plain(value)
    except TypeError:
        plain = None
    if not isinstance(plain, dict):
        raise TypeError(f"{what} is {_described(value)} (expected {expected})")
    try:
        text = json.dumps(plain, allow_nan=False, default=_plain, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(plain, what) or type(error)(f"{what} has no JSON form: {error}") from None
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise _refusal(plain, what) or error from None
    if size > MAX_BYTES:
        raise ValueError(
            f"{what} is {size} bytes of JSON, more than the limit of {MAX_BYTES} bytes (256 KiB); "
            "put large data into a store of yours and pass a reference to it"
        )
    return text


def _plain(value: object) -> object:
    """Turn what we accept beside json's own types into those."""
    if isinstance(value, Mapping):
        return value if isinstance(value, dict) else dict(value)
    if isinstance(value, type):
        raise TypeError
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, SupportsModelDump):
        return value.model_dump(mode="json")
    raise TypeError


def _refusal(value: object, what: str) -> Exception | None:
    """Find the first thing in ``value`` that has no JSON form."""
    try:
        _refuse_at(value, what, inside=())
    except RecursionError:
        return ValueError(f"{what} is nested too deeply for JSON")
    except (TypeError, ValueError) as error:
        return error
    return None


def _refuse_at(value: object, path: str, *, inside: tuple[int, ...]) -> None:
    """Raise for the first thing in ``value`` that has no JSON form."""
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"{path} contains half of a surrogate pair, which is no text")
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, which has no JSON form")
        return
    if id(value) in inside:
        raise ValueError(f"{path} refers to itself, which has no JSON form")
    inside = (*inside, id(value))
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_at(item, f"{path}[{index}]", inside=inside)
        return
    try:
        plain = _plain(value)
    except TypeError:
        raise TypeError(f"{path} is {_described(value)}, which has no JSON form") from None
    if isinstance(plain, dict):
        for key, item in plain.items():
            if not isinstance(key, str | int | float | bool | None):
                raise TypeError(f"{path} has the key {key!r}, {_described(key)} (expected a str)")
            _refuse_at(key, f"a key of {path}", inside=())
            _refuse_at(item, f"{path}[{json.dumps(key)}]", inside=inside)


def _described(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
