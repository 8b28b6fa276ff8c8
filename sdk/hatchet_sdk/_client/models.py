"""Pydantic models as JSON that the same model can read: by the names that it validates, without importing pydantic.

pydantic writes other names than it reads if the two differ (`serialization_alias`), writes computed
fields that a model with ``extra="forbid"`` refuses, loses keys that become equal, and writes NaN as null and secrets
as asterisks. So what it wrote is compared with the model itself.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

_SIMPLE = frozenset({str, int, bool, type(None)})


def is_model(value: object) -> bool:
    """Return whether a value is a model of pydantic 2, or one of its dataclasses."""
    return hasattr(type(value), "__pydantic_serializer__") and _fields_of(value) is not None


def plain_model(value: Any, what: str, *, key_text: Callable[[object], str]) -> object:
    """Write a model as values of JSON's own types.

    Args:
        value: The model.
        what: What messages call it.
        key_text: Converts the key of a mapping.

    Raises:
        TypeError, ValueError: Something in it has no JSON form, or would be lost.
    """
    write = getattr(value, "model_dump", None) or _writer_of(value)
    try:
        everything = write(mode="json", by_alias=True)
        readable = write(mode="json", by_alias=True, round_trip=True)  # without computed fields, Json fields as text
    except ValueError as error:  # pydantic's, and that of bytes that are not text
        raise TypeError(f"{_place_of_fault(value, what)} has no JSON form: {error}") from None
    return _Reading(key_text).back(value, readable, everything, what)


def _writer_of(value: Any) -> Callable[..., object]:
    def write(**options: Any) -> object:
        return type(value).__pydantic_serializer__.to_python(value, **options)

    return write


def _place_of_fault(value: Any, path: str) -> str:
    """Find what in a model has no JSON form: pydantic's error says what it is, and not where."""
    for name in () if getattr(type(value), "__pydantic_root_model__", False) else _fields_of(value) or ():
        if _is_written(value, {name}):
            continue
        item = getattr(value, name)
        parts = [(item, "")]
        if isinstance(item, Mapping):
            parts = [(each, f"[{json.dumps(str(key))}]") for key, each in item.items()]
        elif isinstance(item, list | tuple):
            parts = [(each, f"[{index}]") for index, each in enumerate(item)]
        of_models = ((each, step) for each, step in parts if is_model(each) and not _is_written(each))
        return next((_place_of_fault(each, f"{path}.{name}{step}") for each, step in of_models), f"{path}.{name}")
    return f"{path}, a {type(value).__name__},"


def _is_written(value: Any, fields: set[str] | None = None) -> bool:
    try:
        type(value).__pydantic_serializer__.to_python(value, mode="json", include=fields)
    except ValueError:
        return False
    return True


def secret_refusal(value: object, path: str) -> TypeError:
    """Return the error about a secret, in a model or outside of one."""
    return TypeError(
        f"{path} is a {type(value).__name__}, of which only asterisks would be sent, and whoever may see runs sees "
        "what is: pass the name under which the step finds the secret"
    )


class _Reading:
    """Walks through a model and what was written for it, side by side: ``readable`` to be read, and ``whole``."""

    def __init__(self, key_text: Callable[[object], str]) -> None:
        self._key_text = key_text

    def back(self, value: Any, readable: Any, whole: Any, path: str, step: str = "") -> Any:
        """Return what the model would read; what a user's own serializer wrote stays as it is."""
        if type(value) in _SIMPLE:
            return readable
        path += step
        if isinstance(value, float):
            if not math.isfinite(value) and readable is None:
                raise ValueError(f"{path} is {value}, which has no JSON form")
        elif hasattr(value, "get_secret_value"):
            if isinstance(readable, str) and readable and not readable.strip("*"):
                raise secret_refusal(value, path)
        elif getattr(type(value), "__pydantic_root_model__", False):
            return self.back(value.root, readable, whole, path)
        elif isinstance(readable, dict):
            return self._object(value, readable, whole if isinstance(whole, dict) else readable, path)
        elif isinstance(readable, list) and isinstance(value, list | tuple | deque | set | frozenset):
            return self._list(value, readable, whole if isinstance(whole, list) else readable, path)
        return readable

    def _object(self, value: Any, readable: dict[str, Any], whole: dict[str, Any], path: str) -> dict[str, Any]:
        if is_model(value):
            return self._model(value, readable, whole, path)
        if isinstance(value, Mapping):
            found: dict[str, Any] = self._by_key(value, path)
            return {
                key: self.back(found.get(key), item, whole.get(key, item), path, f"[{json.dumps(key)}]")
                for key, item in readable.items()
            }
        return {
            key: self.back(getattr(value, key, None), item, whole.get(key, item), path, f".{key}")
            for key, item in readable.items()
        }

    def _list(self, value: Collection[Any], readable: list[Any], whole: list[Any], path: str) -> list[Any]:
        if not len(value) == len(readable) == len(whole):
            return readable
        items = [
            self.back(item, *written, path, f"[{index}]")
            for index, (item, written) in enumerate(zip(value, zip(readable, whole, strict=True), strict=True))
        ]
        if isinstance(value, set | frozenset):  # or another process would send another order
            items.sort(key=lambda item: json.dumps(item, sort_keys=True))
        return items

    def _model(self, value: Any, readable: dict[str, Any], whole: dict[str, Any], path: str) -> dict[str, Any]:
        decorators = getattr(type(value), "__pydantic_decorators__", None)
        if decorators is not None and decorators.model_serializers:
            return readable
        fields = _fields_of(value) or {}
        written_as = {field.serialization_alias or name: name for name, field in fields.items()}
        config = getattr(type(value), "model_config", None) or getattr(type(value), "__pydantic_config__", None) or {}
        extra = getattr(value, "__pydantic_extra__", None) or {}
        found: dict[str, Any] = {}
        for key, item in whole.items():
            name = written_as.get(key)
            if name is not None:
                read_as = _read_as(key, name, fields[name], config)
                found[read_as] = self.back(getattr(value, name, None), readable.get(key), item, path, f".{name}")
            elif key in readable:
                found[key] = self.back(extra.get(key), readable[key], item, path, f".{key}")
            elif config.get("extra") != "forbid":
                found[key] = item  # a computed field, which the model leaves alone when it reads
        return found

    def _by_key(self, value: Mapping[Any, Any], path: str) -> dict[str, Any]:
        keys: dict[str, object] = {}
        for key in value:
            text = self._key_text(key)
            if text in keys:
                raise ValueError(
                    f"{path} has the keys {keys[text]!r} and {key!r}, which are one key in JSON: one of the values "
                    "would be lost"
                )
            keys[text] = key
        return {text: value[key] for text, key in keys.items()}


def _fields_of(value: object) -> Mapping[str, Any] | None:
    kind = type(value)
    fields = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", None)
    return fields if isinstance(fields, Mapping) else None


def _read_as(written: str, name: str, field: Any, config: Mapping[str, Any]) -> str:
    """Return the name by which a model reads a field, if it can be the one that was written."""
    alias = field.validation_alias
    choices = [choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str)]
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        choices.append(name)
    if config.get("validate_by_alias") is False:
        choices = [name]
    return written if written in choices or not choices else choices[0]
