"""JSON text of what user code passes in: inputs, outputs, metadata. What has no JSON form is refused, with its path.

One rule applies in mappings, dataclasses and pydantic models: a value becomes what pydantic writes for it by default.

    datetime, date, time    ISO 8601, UTC as "Z"            Enum              its value
    timedelta               ISO 8601, as in "PT1M30S"       set, frozenset    a list, in an order of its own
    Decimal, UUID, Path     text                            bytes             their text, if they are UTF-8
    IPv4Address and its kin, URLs of pydantic: text

Keys of mappings may be any of these that become a text or number; two that become the same key are refused.
"""

import builtins
import dataclasses
import json
import math
import sys
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, ClassVar, Protocol, TypeAlias, cast, runtime_checkable
from uuid import UUID

from hatchet_sdk._client.models import is_model, plain_model, secret_refusal
from hatchet_sdk.payloads.reference import MAX_PAYLOAD_BYTES

MAX_BYTES = 256 * 1024  # of one input or output, without a payload store; the operator's limit

_ATOMS = frozenset({str, int, bool, float, type(None)})


@runtime_checkable
class SupportsModelDump(Protocol):
    """A pydantic model, known by its method so that pydantic need not be imported."""

    def model_dump(self, *, mode: str) -> Any: ...


class DataclassInstance(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


JsonObject: TypeAlias = Mapping[str, object] | SupportsModelDump | DataclassInstance


def encode_object(value: object, *, what: str, expected: str = "a mapping", max_bytes: int | None = None) -> str:
    """Write a mapping, dataclass or pydantic model as JSON text.

    Args:
        value: What to write.
        what: What to call it in messages, e.g. ``input``; paths continue it: ``input["a"][2]``.
        expected: What ``value`` should have been, for the message.
        max_bytes: The largest size, if a payload store may take it; otherwise 256 KiB.

    Raises:
        TypeError: It is not an object, or something in it has no JSON form.
        ValueError: It contains NaN or an infinity, refers to itself, or is too large; or two keys become the same.
    """
    if not _may_be_object(value):
        raise TypeError(f"{what} is {_described(value)} (expected {expected})")
    try:
        plain = _plain(value, what, ())
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply for JSON") from None
    except _Refused as refused:
        raise refused.error from None
    try:
        text = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply for JSON") from None
    except ValueError as error:  # NaN, half of a surrogate pair, a number of too many digits
        raise _refusal(plain, what) or ValueError(f"{what} has no JSON form: {error}") from None
    if not isinstance(plain, dict):
        raise TypeError(f"{what} is {_described(value)} (expected {expected})")
    if size > (max_bytes or MAX_BYTES):
        raise ValueError(_too_large(what, size, max_bytes))
    return text


def _too_large(what: str, size: int, max_bytes: int | None) -> str:
    says = f"{what} is {size} bytes of JSON, more than the limit of {max_bytes or MAX_BYTES} bytes"
    if max_bytes is None:
        return f"{says} (256 KiB); put large data into a store of yours and pass a reference to it"
    if max_bytes == MAX_PAYLOAD_BYTES:
        return f"{says} (1 GiB); put it into a store of yours in parts, and pass references to them"
    if max_bytes > MAX_BYTES:
        return f"{says} that travel through the operator; install hatchet-operator-sdk[payloads] (docs/payloads.md)"
    return (
        f"{says} (256 KiB); have the operator keep large ones in a payload store (docs/payloads.md), or put it "
        "into a store of yours and pass a reference to it"
    )


class _Refused(Exception):
    """Something has no JSON form; the error is for the caller."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


_Path: TypeAlias = "str | tuple[_Path, str | int | None]"
"""The name of the whole, or the path of the container and the key or index in it; an item of a set has none."""


def _at(path: _Path) -> str:
    steps: list[str] = []
    while not isinstance(path, str):
        path, step = path
        steps.append("{…}" if step is None else f"[{json.dumps(step)}]")
    return path + "".join(reversed(steps))


def _may_be_object(value: object) -> bool:
    if isinstance(value, type):
        return False
    return isinstance(value, Mapping | SupportsModelDump) or dataclasses.is_dataclass(value)


def _plain(value: object, path: _Path, inside: tuple[int, ...]) -> object:
    """Convert the other types that we accept into json's own; ``inside`` are the containers around the value."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is not dict and kind is not list:  # which are most, and none of these
        if isinstance(value, Enum):
            return _plain(value.value, path, inside)
        if isinstance(value, str | int | float):
            return value
        if (text := _text_of(value, path)) is not None:
            return text
    if id(value) in inside:
        raise _Refused(ValueError(f"{_at(path)} refers to itself, which has no JSON form"))
    inside = (*inside, id(value))
    if kind is dict or isinstance(value, Mapping):
        return _plain_mapping(cast("Mapping[Any, object]", value), path, inside)
    if isinstance(value, list | tuple | deque):
        return [
            item if type(item) in _ATOMS else _plain(item, (path, index), inside) for index, item in enumerate(value)
        ]
    if isinstance(value, set | frozenset):
        return in_order(_plain(item, (path, None), inside) for item in value)
    return _plain_object(value, path, inside)


def _plain_object(value: object, path: _Path, inside: tuple[int, ...]) -> object:
    """Convert what describes its fields by itself: a model, a dataclass."""
    if hasattr(type(value), "get_secret_value"):
        raise _Refused(secret_refusal(value, _at(path)))
    if isinstance(value, type):
        raise _Refused(TypeError(f"{_at(path)} is {_described(value)}, which has no JSON form"))
    if is_model(value):
        try:
            return plain_model(value, _at(path), key_text=lambda key: key_text(key, path))
        except (TypeError, ValueError) as error:
            raise _Refused(error) from error
    if isinstance(value, SupportsModelDump):
        return _plain(value.model_dump(mode="json"), path, inside)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _plain_mapping(fields, path, inside)
    raise _Refused(TypeError(f"{_at(path)} is {_described(value)}, which has no JSON form{_hint(value)}"))


def _hint(value: object) -> str:
    if isinstance(value, Awaitable):
        return " (await it first)"
    if callable(getattr(value, "tolist", None)):  # of numpy, pandas, torch
        return " (write its .tolist() instead)"
    if hasattr(type(value), "__attrs_attrs__"):
        return " (write attrs.asdict(…) of it instead)"
    if isinstance(value, Iterable):
        return " (write list(…) of it instead)"
    return ""


def _plain_mapping(value: Mapping[Any, object], path: _Path, inside: tuple[int, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, item in value.items():
        text = key if type(key) is str else key_text(key, path)
        if text in found:
            raise _Refused(same_key(value, text, path))
        found[text] = item if type(item) in _ATOMS else _plain(item, (path, text), inside)
    return found


def key_text(key: object, path: _Path) -> str:
    """Return the text of a mapping's key, as JSON has no others."""
    if isinstance(key, Enum):
        return key_text(key.value, path)
    if isinstance(key, str):
        return str(key)
    if isinstance(key, float):
        if not math.isfinite(key):
            raise _Refused(ValueError(f"a key of {_at(path)} is {key}, which has no JSON form"))
        return float.__repr__(key)
    if isinstance(key, int) and _has_too_many_digits(key):
        raise _Refused(_too_many_digits(f"a key of {_at(path)}"))
    if isinstance(key, int | None):
        return json.dumps(key)
    if not isinstance(key, bytes | bytearray) and (text := _text_of(key, path)) is not None:
        return text
    raise _Refused(TypeError(f"{_at(path)} has the key {key!r}, {_described(key)} (expected a str)"))


def same_key(value: Mapping[Any, object], text: str, path: _Path) -> ValueError:
    """Return the error that says which keys of a mapping are the same in JSON."""
    same = " and ".join(repr(key) for key in value if key_text(key, path) == text)
    return ValueError(f"{_at(path)} has the keys {same}, which are one key in JSON: one of the values would be lost")


def in_order(items: Iterable[object]) -> list[object]:
    """List the items of a set so that equal sets become equal lists, in any process."""
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _text_of(value: object, path: _Path) -> str | None:
    """Convert one of the types that are text in JSON; None: it is none of them."""
    if isinstance(value, datetime | time):
        text = value.isoformat()
        return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _iso_duration(value)
    if isinstance(value, Decimal | UUID | PurePath) or type(value).__module__ == "ipaddress":
        return str(value)
    if hasattr(type(value), "unicode_string"):  # a URL of pydantic
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _Refused(
                ValueError(f"{_at(path)} is bytes that are no UTF-8 text (write base64.b64encode(…).decode() instead)")
            ) from None
    return None


def _iso_duration(value: timedelta) -> str:
    sign = "-" if value < timedelta(0) else ""
    value = abs(value)
    years, days = divmod(value.days, 365)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    clock = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    if seconds or fraction or not (clock or value.days):
        clock += f"{seconds}{fraction}S"
    calendar = "".join(f"{number}{unit}" for number, unit in ((years, "Y"), (days, "D")) if number)
    return f"{sign}P{calendar}{'T' if clock else ''}{clock}"


def _refusal(value: object, path: _Path) -> Exception | None:
    """Find the first text or number in an already plain value that has no JSON form."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return ValueError(f"{_at(path)} contains half of a surrogate pair, which is no text")
    if isinstance(value, float) and not math.isfinite(value):
        return ValueError(f"{_at(path)} is {value}, which has no JSON form")
    if isinstance(value, int) and _has_too_many_digits(value):
        return _too_many_digits(_at(path))
    if isinstance(value, list):
        found = (_refusal(item, (path, index)) for index, item in enumerate(value))
        return next((error for error in found if error), None)
    if isinstance(value, dict):
        for key, item in value.items():
            if error := _refusal(key, f"a key of {_at(path)}") or _refusal(item, (path, key)):
                return error
    return None


def _has_too_many_digits(value: int) -> bool:
    try:
        int.__repr__(value)
    except ValueError:  # Python's, against texts that take it long to read
        return True
    return False


def _too_many_digits(what: str) -> ValueError:
    return ValueError(
        f"{what} is a number of more than {sys.get_int_max_str_digits()} digits, which readers of JSON refuse (write "
        "hex(…) instead, which is text)"
    )


def _described(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value)
    name = kind.__name__
    if hasattr(builtins, name) and getattr(builtins, name) is not kind:  # numpy has a bool, and a program may have too
        name = f"{kind.__module__}.{name}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
