"""Pruning of unknown fields and filling in of defaults, compiled from a schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchet_operator_dev.apiserver.field_paths import Path, path_text

Schema = dict[str, Any]
Shaper = Callable[[Any, "Path", list[str]], None]
MISSING = object()


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


def shaper_of(schema: Schema) -> Shaper | None:
    """Compile pruning and defaulting of what is *inside* a value; ``None`` if nothing can change there."""
    if schema.get("x-kubernetes-embedded-resource"):
        schema = {**schema, "properties": {**_EMBEDDED, **schema.get("properties", {})}}
    items = schema.get("items")
    if isinstance(items, dict):
        return _list_shaper(items)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return _map_shaper(extra)
    properties: dict[str, Schema] = schema.get("properties", {})
    keeps_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or extra is True
    if schema.get("type") != "object" and not properties:
        return None
    if keeps_unknown and not properties:
        return None
    return _object_shaper(properties, keeps_unknown)


_EMBEDDED: dict[str, Schema] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _object_shaper(properties: dict[str, Schema], keeps_unknown: bool) -> Shaper:
    defaults = [(name, below["default"]) for name, below in properties.items() if "default" in below]
    shapers = {name: shaper for name, below in properties.items() if (shaper := shaper_of(below)) is not None}
    never_null = frozenset(name for name, below in properties.items() if not is_nullable(below))
    known = frozenset(properties)

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if not isinstance(value, dict):
            return
        if not keeps_unknown and not value.keys() <= known:
            for name in [name for name in value if name not in known]:
                del value[name]
                pruned.append(path_text((path, f".{name}")))
        if None in value.values():
            for name in [name for name, item in value.items() if item is None and name in never_null]:
                del value[name]
        for name, default in defaults:
            if name not in value:
                value[name] = copied(default)
        for name, shaper in shapers.items():
            below = value.get(name)
            if below is not None:
                shaper(below, (path, f".{name}"), pruned)

    return shape


def _list_shaper(items: Schema) -> Shaper | None:
    shaper = shaper_of(items)
    if shaper is None:
        return None

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                shaper(item, (path, f"[{index}]"), pruned)

    return shape


def _map_shaper(extra: Schema) -> Shaper | None:
    shaper = shaper_of(extra)
    default, nullable = extra.get("default", MISSING), is_nullable(extra)

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if not isinstance(value, dict):
            return
        for key, item in list(value.items()):
            if item is None and not nullable:
                if default is MISSING:
                    del value[key]
                    continue
                value[key] = item = copied(default)
            if shaper is not None:
                shaper(item, (path, f".{key}"), pruned)

    return shape


def is_nullable(schema: Schema) -> bool:
    return bool(schema.get("nullable"))
