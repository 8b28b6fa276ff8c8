"""What a request asks for: its verb, its body, and the options of a write."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import yaml
from aiohttp import web

from hatchet_operator_dev.apiserver import protobuf_bodies, status
from hatchet_operator_dev.apiserver.answers import JSON
from hatchet_operator_dev.apiserver.deleting import DeleteOptions
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.routing import Query, Target, flag, number
from hatchet_operator_dev.apiserver.written import WriteOptions

MAX_BODY_BYTES = 3 * 1024 * 1024
"""What the real server reads of a request."""


def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


_SUBRESOURCE_VERBS = ("get", "update", "patch")


def verb_of(method: str, target: Target, query: Query) -> str:
    if method in ("GET", "HEAD"):
        if flag(query, "watch") and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method)
    if verb is None or (verb == "create" and target.name and not target.subresource):
        raise status.method_not_allowed()
    if verb != "create" and not target.name:
        raise status.bad_request("name must be provided")
    return verb


def offers(kind: Kind, target: Target, verb: str) -> bool:
    match target.subresource:
        case "":
            return verb in kind.verbs
        case "status":
            return kind.has_status and verb in _SUBRESOURCE_VERBS
        case "scale":
            return kind.scale is not None and verb in _SUBRESOURCE_VERBS
        case "binding":
            return kind.resource == "pods" and verb == "create"
        case "token":
            return kind.resource == "serviceaccounts" and verb == "create"
        case "log":
            return kind.resource == "pods" and verb == "get"
    return False


def parse_json(body: bytes) -> Any:
    try:
        parsed = orjson.loads(body)
        if body.count(b"{") + body.count(b"[") > _DEEPEST:
            orjson.dumps(parsed)  # ends at 254 levels; kube-apiserver's own limit is 10 000
        # Rare, and a search of the text is all that it costs the others.
        return _with_rounded_integers(parsed) if _LONG_INTEGER.search(body) else parsed
    except orjson.JSONDecodeError as error:
        raise status.bad_request(f"the body of the request is not JSON: {error}") from error
    except TypeError as error:
        raise status.bad_request(f"the body of the request is nested deeper than {_DEEPEST} levels") from error


_DEEPEST = 250
_LONG_INTEGER = re.compile(rb"[0-9]{19}")


def _with_rounded_integers(value: Any) -> Any:
    """Turn integers beyond 64 bits into floats, as Go's decoder does with free-form fields."""
    if isinstance(value, dict):
        return {key: _with_rounded_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_rounded_integers(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def parse_yaml(body: bytes) -> Any:
    if body.lstrip()[:1] == b"{":
        return parse_json(body)
    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise status.bad_request(f"the body of the request is not YAML: {error}") from error


def parse_object(request: web.BaseRequest, body: bytes | None) -> Any:
    if request.content_type == "application/yaml":
        return parse_yaml(body or b"")
    if request.content_type == protobuf_bodies.MEDIA_TYPE:
        return protobuf_bodies.decode(body or b"")
    if request.content_type not in (JSON, "application/octet-stream", "text/plain"):
        raise status.unsupported_media_type((JSON, "application/yaml"))
    return parse_json(body or b"")


def write_options(query: Query) -> WriteOptions:
    if not query:
        return WriteOptions()
    return WriteOptions(
        dry_run=query.get("dryRun") == "All",
        field_validation=query.get("fieldValidation") or "Warn",
        field_manager=query.get("fieldManager", ""),
    )


def delete_options(query: Query, body: bytes | None) -> DeleteOptions:
    given: Object = (parse_json(body) if body else None) or {}
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    return DeleteOptions(
        dry_run="All" in (given.get("dryRun") or ()) or query.get("dryRun") == "All",
        grace_seconds=grace if grace is not None else number(query, "gracePeriodSeconds"),
        propagation=propagation,
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
    )


def resource_version(query: Query) -> int | None:
    text = query.get("resourceVersion")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        wrong = status.invalid("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
        raise status.bad_request(f"invalid resource version: {wrong}") from None
