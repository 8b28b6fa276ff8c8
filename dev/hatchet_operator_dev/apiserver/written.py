"""What a client writes: whether it is an object of its kind, in its namespace, known and not too large."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object

_MAX_OBJECT_BYTES = 1536 * 1024
"""What etcd takes as one value."""

_MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""What the real server's etcd client sends at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Query parameters of a write, and where it leaves warnings for the client."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    warnings: list[str] = field(default_factory=list)


def parsed(kind: Kind, body: Any) -> Object:
    if not isinstance(body, dict):
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind; "
            "json parse error: the body is not an object"
        )
    if not kind.is_custom:
        body.setdefault("apiVersion", kind.api_version)
        body.setdefault("kind", kind.kind)
    if not body.get("kind"):
        raise status.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): Object 'Kind' is missing"
        )
    if body.get("apiVersion") != kind.api_version:
        raise status.bad_request(
            f"the API version in the data ({body.get('apiVersion') or ''}) does not match the expected API version "
            f"({kind.api_version})"
        )
    if body["kind"] != kind.kind and kind.is_custom:
        wrong = status.invalid("kind", body["kind"], f"must be {kind.kind}")
        name = (body.get("metadata") or {}).get("name", "")
        raise status.unprocessable(kind.group, body["kind"], name, [wrong])
    if body["kind"] != kind.kind:
        raise status.bad_request(
            f'{body["kind"]} in version "{kind.version}" cannot be handled as a {kind.kind}: kinds do not match'
        )
    if body.get("metadata") is None:
        body["metadata"] = {}
    if not isinstance(body["metadata"], dict):
        raise status.bad_request("metadata must be an object")
    return body


def check_namespace(kind: Kind, metadata: Object, namespace: str) -> None:
    given = metadata.get("namespace")
    if kind.namespaced and given and given != namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def report_pruned(pruned: list[str], options: WriteOptions) -> None:
    if not pruned or options.field_validation == "Ignore":
        return
    unknown = [f'unknown field "{path}"' for path in pruned]
    if options.field_validation == "Strict":
        raise status.bad_request(f"strict decoding error: {', '.join(unknown)}")
    options.warnings.extend(unknown)


def check_size(obj: Object) -> None:
    """Refuse what etcd would refuse."""
    size = len(orjson.dumps(obj))
    if size > _MAX_MESSAGE_BYTES:
        raise status.ApiError(500, "", f"trying to send message larger than max ({size} vs. {_MAX_MESSAGE_BYTES})")
    if size > _MAX_OBJECT_BYTES:
        raise status.ApiError(500, "", "etcdserver: request is too large")
