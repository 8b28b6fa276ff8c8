"""What the server says about itself: health, versions, discovery, schemas."""

from __future__ import annotations

import orjson
from aiohttp import web

from hatchet_operator_dev.apiserver import discovery, openapi, status
from hatchet_operator_dev.apiserver.answers import json_answer, no_such_path, raw
from hatchet_operator_dev.apiserver.kinds import Kinds
from hatchet_operator_dev.apiserver.objects import Object

_HEALTH_PATHS = frozenset({"/readyz", "/livez", "/healthz"})
OPEN_PATHS = _HEALTH_PATHS | {"/version"}
_ROOT_PATHS = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]


def answer_about_server(kinds: Kinds, request: web.BaseRequest, path: str) -> web.Response:
    """Answer a request for a path that names no resource."""
    if request.method not in ("GET", "HEAD"):
        raise status.method_not_allowed()
    parts = path.strip("/").split("/")
    if path in _HEALTH_PATHS or parts[0] in ("readyz", "livez", "healthz"):
        return web.Response(text="ok")
    if parts in (["api"], ["apis"]) and discovery.wants_aggregated(request.headers.get("Accept", "")):
        listed = discovery.aggregated(kinds, core=parts == ["api"])
        return raw(orjson.dumps(listed), content_type=discovery.AGGREGATED_TYPE)
    found = _openapi(kinds, parts[1:]) if parts[0] == "openapi" else _discovered(kinds, request.host, parts)
    return no_such_path() if found is None else json_answer(found)


def _discovered(kinds: Kinds, host: str, parts: list[str]) -> Object | None:
    match parts:
        case [""]:
            return {"paths": _ROOT_PATHS}
        case ["version"]:
            return discovery.VERSION
        case ["api"]:
            return discovery.core_versions(host)
        case ["apis"]:
            return discovery.group_list(kinds)
        case ["api", version]:
            return discovery.resource_list(kinds, "", version)
        case ["apis", group]:
            return discovery.group(kinds, group)
        case ["apis", group, version]:
            return discovery.resource_list(kinds, group, version)
    return None


def _openapi(kinds: Kinds, parts: list[str]) -> Object | None:
    match parts:
        case ["v2"]:
            return openapi.version_2(kinds)
        case ["v3"]:
            return openapi.index(kinds)
        case ["v3", *group_version]:
            return openapi.group_version(kinds, "/".join(group_version))
    return None
