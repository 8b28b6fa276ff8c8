"""URLs of the Kubernetes API: a path into the group, version, resource, namespace, name and subresource it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from hatchet_operator_dev.apiserver.status import bad_request

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names. ``namespace`` is ``None`` for cluster-wide paths; ``name`` is empty for collections."""

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str = ""
    subresource: str = ""


_NAMESPACE_SUBRESOURCES = ("status", "finalize")


def parse_target(path: str) -> Target | None:
    """Parse ``/api/v1/…`` and ``/apis/<group>/<version>/…``; ``None`` for paths that name no resource."""
    parts = path.strip("/").split("/")
    if "%" in path:
        parts = [unquote(part) for part in parts]
    match parts:
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return None
    if rest[0] == "namespaces" and len(rest) > 2 and not (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES):
        return _below(group, version, rest[1], rest[2:])
    return _below(group, version, None, rest)


def _below(group: str, version: str, namespace: str | None, rest: list[str]) -> Target | None:
    if len(rest) > 3 or not all(rest):
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    return Target(group=group, version=version, plural=plural, namespace=namespace, name=name, subresource=subresource)


def parse_query(text: str) -> Query:
    return dict(parse_qsl(text, keep_blank_values=True)) if text else {}


def flag(query: Query, name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true", "t")


def number(query: Query, name: str) -> int | None:
    """Read a whole number; ``None`` if it is absent or empty."""
    text = query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'Invalid value: "{text}": {name} must be a whole number') from None
