"""Paths of fields: linked tuples while a value is checked, text only when there is something to say."""

from __future__ import annotations

from typing import Any

Path = tuple[Any, ...]  # (path of the parent, text that this step appends), () at the root


def path_text(path: Path) -> str:
    """Spell a path: ``spec.steps[0].name``, ``spec.map[some/key]``; the root is the empty string."""
    parts: list[str] = []
    while path:
        path, part = path
        parts.append(part)
    return "".join(reversed(parts)).removeprefix(".")
