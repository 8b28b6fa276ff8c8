"""OpenAPI documents: what ``kubectl explain`` shows and ``kubectl apply`` looks up.

kubectl decides by the PATCH operation's ``fieldValidation`` parameter whether the server checks unknown fields
itself; without it, it would ask for the protobuf form of the v2 document, which this server does not have.
"""

from __future__ import annotations

import hashlib

import orjson

from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.objects import Object

_PATCH_TYPES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_OBJECT_META: Object = {
    "type": "object",
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "properties": {
        "name": {"type": "string", "description": "Name must be unique within a namespace."},
        "generateName": {"type": "string", "description": "Prefix of a name that the server makes unique."},
        "namespace": {"type": "string", "description": "Namespace defines the space within which each name is unique."},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "items": {"type": "object"}},
        "uid": {"type": "string"},
        "resourceVersion": {"type": "string"},
        "generation": {"type": "integer", "format": "int64"},
        "creationTimestamp": {"type": "string", "format": "date-time"},
        "deletionTimestamp": {"type": "string", "format": "date-time"},
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
    },
}
_META_NAME = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def _group_versions(kinds: Kinds) -> dict[str, list[Kind]]:
    found: dict[str, list[Kind]] = {}
    for kind in kinds:
        found.setdefault(f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}", []).append(kind)
    return found


def index(kinds: Kinds) -> Object:
    """Make /openapi/v3; the hash lets clients cache the documents until a CRD changes."""
    paths = {}
    for path, served in _group_versions(kinds).items():
        digest = hashlib.sha256(orjson.dumps(_document(served))).hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def group_version(kinds: Kinds, path: str) -> Object | None:
    """Make /openapi/v3/apis/<group>/<version>."""
    served = _group_versions(kinds).get(path)
    return None if served is None else _document(served)


def _document(served: list[Kind]) -> Object:
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.2"},
        "paths": {path: operations for kind in served for path, operations in _paths(kind).items()},
        "components": {"schemas": {_META_NAME: _OBJECT_META} | {_name(kind): _schema(kind) for kind in served}},
    }


def version_2(kinds: Kinds) -> Object:
    """Make /openapi/v2, for clients that read it as JSON."""
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.37.2"},
        "paths": {},
        "definitions": {_META_NAME: _OBJECT_META} | {_name(kind): _schema(kind, "#/definitions/") for kind in kinds},
    }


def _name(kind: Kind) -> str:
    group = kind.group or "core.k8s.io"
    return ".".join([*reversed(group.split(".")), kind.version, kind.kind])


def _gvk(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _schema(kind: Kind, base: str = "#/components/schemas/") -> Object:
    declared = dict(kind.openapi or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    properties = {
        "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this object."},
        "kind": {"type": "string", "description": "Kind is the resource that this object represents."},
        **declared.get("properties", {}),
        "metadata": {"allOf": [{"$ref": base + _META_NAME}], "default": {}},
    }
    return {**declared, "properties": properties, "x-kubernetes-group-version-kind": [_gvk(kind)]}


def _paths(kind: Kind) -> dict[str, Object]:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    space = "/namespaces/{namespace}" if kind.namespaced else ""
    body = {"schema": {"type": "object"}}
    answer = {
        "200": {
            "description": "OK",
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{_name(kind)}"}}},
        }
    }

    def operation(action: str, parameters: tuple[str, ...] = ()) -> Object:
        return {
            "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(kind),
            "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in parameters],
        }

    writing = ("dryRun", "fieldManager", "fieldValidation")
    one: Object = {"get": operation("get")}
    every: Object = {
        "get": operation("list", ("watch", "labelSelector", "fieldSelector", "limit", "continue", "sendInitialEvents"))
    }
    if "create" in kind.verbs:
        every["post"] = operation("post", writing)
    if "patch" in kind.verbs:
        one["put"] = operation("put", writing)
        one["patch"] = operation("patch", writing) | {"requestBody": {"content": dict.fromkeys(_PATCH_TYPES, body)}}
        one["delete"] = operation("delete", ("dryRun",))
    collection = f"{root}{space}/{kind.plural}"
    return {collection: every, f"{collection}/{{name}}": one}
