"""The four kinds of PATCH, as pure functions from an object and a patch to the patched object.

No function changes its arguments; the parts of the result that the patch did not touch are shared with the original,
so callers must treat objects as immutable. Apply (server-side) keeps no managedFields: it remembers the last
configuration of each field manager elsewhere and is a three-way merge here, which is what ``kubectl apply
--server-side`` needs; ownership conflicts do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonpatch
import jsonpointer

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import ApiError, bad_request

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "containerStatuses": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists of built-in kinds that merge by key (patchMergeKey in k8s.io/api); the first key that an item has is its
key."""

SET_LISTS = frozenset({"finalizers"})
"""Lists of plain values that a strategic merge unites instead of replacing."""


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply an RFC 7386 merge patch."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: Object, operations: Any) -> Any:
    """Apply an RFC 6902 patch.

    Raises:
        ApiError: 400 if the patch is not one; 422 if it does not apply, a failed ``test`` included.
    """
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        patched: Any = jsonpatch.apply_patch(target, operations)
    except jsonpatch.JsonPatchTestFailed as failure:
        raise _does_not_apply(f"testing value {_failed_path(operations)} failed: {failure}") from failure
    except (jsonpatch.InvalidJsonPatch, TypeError) as error:
        raise bad_request(f"invalid JSON patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise _does_not_apply(str(error)) from error
    return patched


def _failed_path(operations: list[Any]) -> str:
    return ", ".join(str(one.get("path")) for one in operations if isinstance(one, dict) and one.get("op") == "test")


def _does_not_apply(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def strategic_merge(target: Any, patch: Any, field: str = "") -> Any:
    """Apply a strategic merge patch with its directives (``$patch``, ``$retainKeys``, ``$setElementOrder``, …)."""
    if isinstance(patch, dict):
        return _strategic_object(target if isinstance(target, dict) else {}, patch)
    if isinstance(patch, list):
        return _strategic_list(target if isinstance(target, list) else [], patch, field)
    return patch


def _strategic_object(target: Object, patch: Object) -> Object:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: _without_directives(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    retained = patch.get("$retainKeys")
    merged = {key: value for key, value in target.items() if retained is None or key in retained}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.split("/", 1)[1]
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = strategic_merge(merged.get(key), value, key)
    for key, order in patch.items():
        if key.startswith("$setElementOrder/"):
            field = key.split("/", 1)[1]
            if isinstance(merged.get(field), list):
                merged[field] = _in_order(merged[field], order, field)
    return merged


def _strategic_list(target: list[Any], patch: list[Any], field: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_without_directives(item) for item in patch if item.get("$patch") != "replace"]
    if field in SET_LISTS:
        return target + [item for item in patch if item not in target]
    if field not in LIST_KEYS or not all(isinstance(item, dict) for item in patch):
        return [_without_directives(item) for item in patch]
    merged = list(target)
    for item in patch:
        where = next((i for i, known in enumerate(merged) if _same_item(known, item, field)), None)
        if item.get("$patch") == "delete":
            if where is not None:
                del merged[where]
        elif where is None:
            merged.append(strategic_merge({}, item))
        else:
            merged[where] = strategic_merge(merged[where], item)
    return merged


def _same_item(known: Any, item: Object, field: str) -> bool:
    key = next((key for key in LIST_KEYS[field] if key in item), None)
    if key is None or not isinstance(known, dict):
        return False
    # A Service may have one port number twice, for TCP and for UDP.
    return bool(known.get(key) == item[key]) and known.get("protocol", "TCP") == item.get("protocol", "TCP")


def _in_order(items: list[Any], order: list[Any], field: str) -> list[Any]:
    def rank(item: Any) -> int:
        for position, wanted in enumerate(order):
            if item == wanted or (isinstance(wanted, dict) and field in LIST_KEYS and _same_item(item, wanted, field)):
                return position
        return len(order)

    return sorted(items, key=rank)


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_directives(item) for key, item in value.items() if not key.startswith("$")}
    return value


def apply(live: Any, applied: Any, previous: Any, schema: Mapping[str, Any] | None, field: str = "") -> Any:
    """Merge an applied configuration into the live object.

    Args:
        live: The object as it is.
        applied: What the field manager wants now.
        previous: What the same manager applied last (or ``None``): what is there and not in ``applied`` is removed.
        schema: OpenAPI schema of the value, for ``x-kubernetes-list-type: map``; ``None`` means a built-in kind.
        field: Name of the field, by which lists of built-in kinds know their key.
    """
    if isinstance(applied, dict):
        live, previous = live if isinstance(live, dict) else {}, previous if isinstance(previous, dict) else {}
        if schema is not None and schema.get("x-kubernetes-map-type") == "atomic":
            return applied
        merged = {key: value for key, value in live.items() if key in applied or key not in previous}
        for key, value in applied.items():
            merged[key] = apply(live.get(key), value, previous.get(key), _schema_of(schema, key), key)
        return merged
    if isinstance(applied, list):
        keys = _list_keys(schema, field)
        if keys is None or not all(isinstance(item, dict) for item in applied):
            return applied
        return _apply_keyed_list(live, applied, previous, schema, keys)
    return applied


def _apply_keyed_list(
    live: Any, applied: list[Any], previous: Any, schema: Mapping[str, Any] | None, keys: tuple[str, ...]
) -> list[Any]:
    item_schema = None if schema is None else schema.get("items")

    def identity(item: Any) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in keys) if isinstance(item, dict) else (item,)

    known = {identity(item): item for item in live} if isinstance(live, list) else {}
    before = {identity(item): item for item in previous} if isinstance(previous, list) else {}
    wanted = {identity(item): item for item in applied}
    kept = [item for key, item in known.items() if key not in before and key not in wanted]
    merged = [apply(known.get(key), item, before.get(key), item_schema) for key, item in wanted.items()]
    return kept + merged


def _schema_of(schema: Mapping[str, Any] | None, key: str) -> Mapping[str, Any] | None:
    if schema is None:
        return None
    below: Mapping[str, Any] | None = schema.get("properties", {}).get(key)
    if below is None:
        extra = schema.get("additionalProperties")
        below = extra if isinstance(extra, dict) else {}
    return below


def _list_keys(schema: Mapping[str, Any] | None, field: str) -> tuple[str, ...] | None:
    if field == "ownerReferences":
        return ("uid",)
    if schema is None:
        keys = LIST_KEYS.get(field)
        return keys[:1] if keys else None
    if schema.get("x-kubernetes-list-type") == "map":
        return tuple(schema["x-kubernetes-list-map-keys"])
    return None
