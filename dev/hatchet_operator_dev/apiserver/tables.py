"""Table answers: what ``kubectl get`` prints, one row of cells per object.

Columns of custom resources come from ``additionalPrinterColumns`` with their JSONPath; built-in kinds have functions.
Cells of type ``date`` are ages, computed when the row is made, as the real server does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hatchet_operator_dev.apiserver.objects import Object

Cell = Callable[[Object], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column and how to read its cell."""

    name: str
    cell: Cell
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0

    def definition(self) -> Object:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


_STEP = re.compile(
    r"""\.(?P<name>[\w-]+(?:\\\.[\w./-]+)*)
      | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
      | \[(?P<index>-?\d+)\]
      | (?P<all>\[\*\])
      | \[\?\(\s*@\.(?P<key>[\w.]+)\s*==\s*["'](?P<value>[^"']*)["']\s*\)\]""",
    re.VERBOSE,
)


def compile_json_path(path: str) -> Cell:
    """Compile a simple JSONPath; the reader returns the first match, or ``None``.

    Raises:
        ValueError: The path uses something that printer columns rarely need (slices, scripts, recursive descent).
    """
    steps: list[Callable[[Any], list[Any]]] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"unsupported JSONPath {path!r} at {path[position:]!r}")
        steps.append(_json_path_step(match))
        position = match.end()

    def read(obj: Object) -> Any:
        found: list[Any] = [obj]
        for step in steps:
            found = [below for value in found for below in step(value)]
        return found[0] if found else None

    return read


def _json_path_step(match: re.Match[str]) -> Callable[[Any], list[Any]]:
    if match["index"]:
        index = int(match["index"])
        return lambda value: value[index:][:1] if isinstance(value, list) else []
    if match["all"]:
        return lambda value: (
            value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        )
    if match["key"]:
        key, wanted = match["key"], match["value"]
        return lambda value: (
            [item for item in value if isinstance(item, dict) and item.get(key) == wanted]
            if isinstance(value, list)
            else []
        )
    name = match["quoted"] if match["name"] is None else match["name"].replace("\\.", ".")
    return lambda value: [value[name]] if isinstance(value, dict) and name in value else []


def age(timestamp: Any) -> str:
    """Spell the time since ``timestamp`` (RFC 3339) as kubectl does: 5s, 2m5s, 3h, 4d."""
    try:
        then = datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        return "<invalid>"
    return duration((datetime.now(UTC) - then).total_seconds())


def duration(total: float) -> str:
    """Spell a duration as ``HumanDuration`` of k8s.io/apimachinery does."""
    seconds = int(total)
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if hours < 365 * 24 * 2:
        return f"{days}d"
    if hours < 365 * 24 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _typed(read: Cell, kind: str) -> Cell:
    def cell(obj: Object) -> Any:
        value = read(obj)
        if value is None:
            return None
        match kind:
            case "date":
                return age(value)
            case "integer":
                return int(value) if isinstance(value, int | float) else None
            case "number":
                return float(value) if isinstance(value, int | float) else None
            case "boolean":
                return value if isinstance(value, bool) else None
        if isinstance(value, bool):
            return "true" if value else "false"
        return value if isinstance(value, str) else str(value)

    return cell


NAME = Column(
    name="Name",
    format="name",
    cell=lambda obj: obj["metadata"]["name"],
    description="Name must be unique within a namespace.",
)
AGE = Column(
    name="Age",
    type="date",
    cell=_typed(compile_json_path(".metadata.creationTimestamp"), "date"),
    description="CreationTimestamp is the time at which this object was created.",
)


def built_in_column(name: str, path: str, kind: str = "string") -> Column:
    """Make a column of a built-in kind; dates are strings there, as in the real tables."""
    return Column(name=name, type="string" if kind == "date" else kind, cell=_typed(compile_json_path(path), kind))


def custom_columns(declared: list[Object] | None) -> tuple[Column, ...]:
    """Make the columns of a CRD version; without ``additionalPrinterColumns`` there are Name and Age."""
    if not declared:
        return (NAME, AGE)
    return (NAME, *(_custom_column(column) for column in declared))


def _custom_column(declared: Object) -> Column:
    kind = declared["type"]
    return Column(
        name=declared["name"],
        type=kind,
        format=declared.get("format", ""),
        description=declared.get("description", ""),
        priority=declared.get("priority", 0),
        cell=_typed(compile_json_path(declared["jsonPath"]), kind),
    )


def row(obj: Object, columns: tuple[Column, ...], *, include: str) -> Object:
    """Make one row; ``include`` is the query parameter includeObject: Metadata, Object or None."""
    made: Object = {"cells": [column.cell(obj) for column in columns]}
    if include == "Object":
        made["object"] = obj
    elif include == "None":
        made["object"] = None
    else:
        made["object"] = partial_metadata(obj)
    return made


def table(rows: list[Object], columns: tuple[Column, ...], metadata: Object) -> Object:
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.definition() for column in columns],
        "rows": rows,
    }


def partial_metadata(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
