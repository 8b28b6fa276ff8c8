"""The verbs: create, replace, patch and delete on the store, with everything the real server does around a write.

Nothing here awaits, so each verb is one atomic step of the event loop; what it takes from clients (``body``) becomes
its own, what it hands out (``Stored``) must not be changed. HTTP is not known here: failures are ``ApiError``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from hatchet_operator_dev.apiserver import builtin, patches, status
from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.metadata import (
    changed_metadata,
    finalizer_errors,
    immutable_errors,
    metadata_errors,
    new_metadata,
    timestamp,
)
from hatchet_operator_dev.apiserver.store import Store, Stored

Object = dict[str, Any]

_MAX_OBJECT_BYTES = 1536 * 1024
"""What etcd takes as one value."""
_MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""What the real server's etcd client sends at all."""
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
DEFINITION_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Query parameters of a write, and where it leaves warnings for the client."""

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Body and query parameters of a DELETE."""

    dry_run: bool = False
    grace_seconds: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """The effect of a DELETE: the object's last (or marked) state, and whether it was removed."""

    stored: Stored
    gone: bool


class Operations:
    """The verbs on one store."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds
        self._applied: dict[tuple[str, str], Object] = {}

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Stored:
        found = self._store.collection(kind.collection).find(namespace, name)
        if found is None:
            raise status.not_found(kind.group, kind.plural, name)
        return found

    # --- create -----------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, body: Any, options: WriteOptions) -> Stored:
        """Create an object; the name comes from its metadata, or is made from ``generateName``."""
        obj = self._parsed(kind, body)
        if kind.to_storage is not None:
            obj = kind.to_storage(obj)
        given = obj["metadata"]
        self._check_namespace(kind, given, namespace)
        if given.get("resourceVersion"):
            raise status.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        now = timestamp()
        with_generation = kind.is_custom or kind.resource in builtin.HAS_GENERATION
        metadata = obj["metadata"] = new_metadata(kind, given, namespace, now, with_generation=with_generation)
        if kind.has_status and kind.is_custom:
            obj.pop("status", None)
        name = metadata.get("name", "")
        if kind.schema is not None:
            self._report_pruned(kind.schema.shape(obj), options)
            errors = kind.schema.check(obj, None, metadata_errors(kind, metadata, creating=True))
        else:
            errors = metadata_errors(kind, metadata, creating=True)
            if not errors:
                builtin.prepare_create(kind, obj, now)
                errors = builtin.creation_errors(kind, obj)
        if errors:
            raise status.unprocessable(kind.group, kind.kind, name, errors)
        collection = self._store.collection(kind.collection)
        if collection.find(namespace, name) is not None:
            raise status.already_exists(kind.group, kind.plural, name)
        if kind.namespaced:
            self._require_namespace(kind, namespace, name)
        if options.dry_run:
            return Stored(obj, self._store.version)
        _check_size(obj)
        return self._store.put(collection, obj, None)

    def _parsed(self, kind: Kind, body: Any) -> Object:
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

    def _check_namespace(self, kind: Kind, metadata: Object, namespace: str) -> None:
        given = metadata.get("namespace")
        if kind.namespaced and given and given != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _require_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        found = self._store.collection("namespaces").find("", namespace)
        if found is None:
            raise status.not_found("", "namespaces", namespace)
        if found.obj["metadata"].get("deletionTimestamp"):
            raise status.forbidden(
                kind.group,
                kind.plural,
                name,
                f"unable to create new content in namespace {namespace} because it is being terminated",
                causes=[
                    {
                        "reason": "NamespaceTerminating",
                        "message": f"namespace {namespace} is being terminated",
                        "field": "metadata.namespace",
                    }
                ],
            )

    def _report_pruned(self, pruned: list[str], options: WriteOptions) -> None:
        if not pruned or options.field_validation == "Ignore":
            return
        unknown = [f'unknown field "{path}"' for path in pruned]
        if options.field_validation == "Strict":
            raise status.bad_request(f"strict decoding error: {', '.join(unknown)}")
        options.warnings.extend(unknown)

    # --- replace ----------------------------------------------------------------------------------------------------

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Any, options: WriteOptions, *, subresource: str = ""
    ) -> Stored:
        """Replace an object, or with ``subresource="status"`` its status."""
        new = self._parsed(kind, body)
        self._check_namespace(kind, new["metadata"], namespace)
        given_name = new["metadata"].get("name")
        if given_name != name:
            raise status.bad_request(
                f"the name of the object ({given_name}) does not match the name on the URL ({name})"
                if given_name
                else "the name of the object (<unknown>) does not match the name on the URL "
                f"({name}): name must be provided"
            )
        current = self._store.collection(kind.collection).find(namespace, name)
        if current is None:
            if kind.resource in builtin.CREATE_ON_UPDATE and not subresource:
                return self.create(kind, namespace, new, options)
            raise status.not_found(kind.group, kind.plural, name)
        if not new["metadata"].get("resourceVersion") and self._must_name_version(kind):
            must = status.FieldError(
                "FieldValueInvalid",
                "metadata.resourceVersion",
                "Invalid value: 0: must be specified for an update",
            )
            raise status.unprocessable(kind.group, kind.kind, name, [must])
        given_uid, known = new["metadata"].get("uid"), current.obj["metadata"]
        if given_uid and given_uid != known["uid"]:
            why = f"Precondition failed: UID in precondition: {given_uid}, UID in object meta: {known['uid']}"
            raise status.conflict(kind.group, kind.plural, known["name"], why)
        return self._write(kind, current, new, options, subresource)

    def _must_name_version(self, kind: Kind) -> bool:
        return kind.is_custom or kind.resource in builtin.UNCONDITIONAL_UPDATE_REFUSED

    def _write(self, kind: Kind, current: Stored, new: Object, options: WriteOptions, subresource: str) -> Stored:
        old = current.obj
        self._check_version(kind, new["metadata"], old["metadata"])
        if kind.to_storage is not None:
            new = kind.to_storage(new)
        errors = [] if subresource else immutable_errors(new["metadata"], old["metadata"])
        new = (
            self._with_status(kind, new, old, options) if subresource else self._without_status(kind, new, old, options)
        )
        errors += finalizer_errors(new["metadata"], old["metadata"])
        if new["metadata"] is not old["metadata"]:
            errors += metadata_errors(kind, new["metadata"], creating=False)
        if kind.schema is not None:
            errors = kind.schema.check(new, old, errors)
        else:
            builtin.prepare_update(kind, new, old, timestamp())
            errors += builtin.update_errors(kind, new, old)
        if errors:
            raise status.unprocessable(kind.group, kind.kind, old["metadata"]["name"], errors)
        if new == old:
            return current  # the real server writes nothing and keeps the resourceVersion
        new["metadata"] = dict(new["metadata"])
        if "generation" in old["metadata"] and _specification_changed(kind, new, old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if options.dry_run:
            return Stored(new, current.version)
        _check_size(new)
        collection = self._store.collection(kind.collection)
        if _is_done(kind, new):
            return self._store.remove(collection, current, new)
        return self._store.put(collection, new, current)

    def _check_version(self, kind: Kind, given: Object, known: Object) -> None:
        version = given.get("resourceVersion")
        if version and version != known["resourceVersion"]:
            raise status.conflict(kind.group, kind.plural, known["name"])

    def _with_status(self, kind: Kind, new: Object, old: Object, options: WriteOptions) -> Object:
        """Take only the status; of built-in kinds also labels and annotations, as the real server does."""
        part = {"status": new["status"]} if "status" in new else {}
        if kind.schema is not None:
            if unknown := kind.schema.shape(part):
                self._report_pruned(unknown, options)
            part = {"status": part["status"]} if "status" in part else {}
        merged = {key: value for key, value in old.items() if key != "status"} | part
        if not kind.is_custom:
            metadata = changed_metadata(new["metadata"], old["metadata"])
            metadata.pop("ownerReferences", None)
            if "ownerReferences" in old["metadata"]:
                metadata["ownerReferences"] = old["metadata"]["ownerReferences"]
            merged["metadata"] = metadata
        return merged

    def _without_status(self, kind: Kind, new: Object, old: Object, options: WriteOptions) -> Object:
        new["metadata"] = changed_metadata(new["metadata"], old["metadata"])
        if kind.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if kind.schema is not None:
            self._report_pruned(kind.schema.shape(new), options)
        return new

    # --- patch ------------------------------------------------------------------------------------------------------

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        media_type: str,
        patch: Any,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> tuple[Stored, bool]:
        """Patch an object; returns it and whether an apply created it."""
        if media_type == patches.STRATEGIC_PATCH and kind.is_custom:
            raise status.unsupported_media_type((patches.JSON_PATCH, patches.MERGE_PATCH, patches.APPLY_PATCH))
        if media_type == patches.APPLY_PATCH:
            return self._apply(kind, namespace, name, patch, options, subresource)
        current = self.get(kind, namespace, name)
        patched = _PATCHERS[media_type](_as_served(kind, current), patch)
        return self._write_patched(kind, current, patched, options, subresource), False

    def _write_patched(
        self, kind: Kind, current: Stored, patched: Any, options: WriteOptions, subresource: str
    ) -> Stored:
        new = self._parsed(kind, _own_copy(patched))
        self._check_namespace(kind, new["metadata"], current.obj["metadata"].get("namespace", ""))
        name = current.obj["metadata"]["name"]
        if new["metadata"].get("name") != name:
            raise status.bad_request(
                f"the name of the object ({new['metadata'].get('name')}) does not match the name on the URL ({name})"
            )
        return self._write(kind, current, new, options, subresource)

    def _apply(
        self, kind: Kind, namespace: str, name: str, applied: Any, options: WriteOptions, subresource: str
    ) -> tuple[Stored, bool]:
        if not options.field_manager:
            missing = status.required("fieldManager", "is required for apply patch")
            raise status.unprocessable("meta.k8s.io", "PatchOptions", "", [missing])
        wanted = self._parsed(kind, applied)
        wanted["metadata"].pop("managedFields", None)
        if wanted["metadata"].setdefault("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({wanted['metadata']['name']}) does not match the name on the URL ({name})"
            )
        current = self._store.collection(kind.collection).find(namespace, name)
        if current is None:
            if subresource:
                raise status.not_found(kind.group, kind.plural, name)
            stored, created = self.create(kind, namespace, _own_copy(wanted), options), True
        else:
            memory = (current.uid, f"{options.field_manager}/{subresource}")
            schema = kind.openapi if kind.is_custom else None
            merged = patches.apply(_as_served(kind, current), wanted, self._applied.get(memory), schema)
            stored, created = self._write_patched(kind, current, merged, options, subresource), False
        if not options.dry_run:
            self._applied[stored.uid, f"{options.field_manager}/{subresource}"] = wanted
        return stored, created

    # --- delete -----------------------------------------------------------------------------------------------------

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Deletion:
        """Delete an object, or mark it when finalizers, dependents or a grace period keep it."""
        current = self.get(kind, namespace, name)
        self._check_delete_preconditions(kind, current.obj["metadata"], options)
        metadata = current.obj["metadata"]
        if kind.resource == "namespaces" and name in _LASTING_NAMESPACES:
            raise status.forbidden("", "namespaces", name, "this namespace may not be deleted")
        finalizers = _finalizers_after(metadata, options.propagation)
        if kind.resource == builtin.DEFINITIONS and self._store.collection(name).objects:
            finalizers = [*finalizers, DEFINITION_CLEANUP] if DEFINITION_CLEANUP not in finalizers else finalizers
        grace = builtin.grace_seconds(kind, current.obj, options.grace_seconds)
        kept_by_namespace = kind.resource == "namespaces" and current.obj.get("spec", {}).get("finalizers")
        if not finalizers and not grace and not kept_by_namespace:
            if options.dry_run:
                return Deletion(current, gone=True)
            collection = self._store.collection(kind.collection)
            final = _marked(current.obj, [], 0) if "deletionTimestamp" in metadata else None
            return Deletion(self._store.remove(collection, current, final), gone=True)
        marked = _marked(current.obj, finalizers, grace)
        if kept_by_namespace:
            marked["status"] = {**marked.get("status", {}), "phase": "Terminating"}
        if options.dry_run or marked == current.obj:
            return Deletion(current, gone=False)
        stored = self._store.put(self._store.collection(kind.collection), marked, current)
        return Deletion(stored, gone=False)

    def _check_delete_preconditions(self, kind: Kind, metadata: Object, options: DeleteOptions) -> None:
        if options.uid and options.uid != metadata["uid"]:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
                "The object might have been deleted and then recreated"
            )
            raise status.conflict(kind.group, kind.kind, metadata["name"], why)
        if options.resource_version and options.resource_version != metadata["resourceVersion"]:
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified"
            )
            raise status.conflict(kind.group, kind.kind, metadata["name"], why)

    def write_metadata(self, kind: Kind, stored: Stored, changed: Object) -> None:
        """Replace metadata fields (an empty value removes one); for the server's own loops, so nothing is validated."""
        metadata = {key: value for key, value in {**stored.obj["metadata"], **changed}.items() if value != []}
        collection = self._store.collection(kind.collection)
        changed = {**stored.obj, "metadata": metadata}
        if _is_done(kind, changed):
            self._store.remove(collection, stored, changed)
        else:
            self._store.put(collection, changed, stored)

    # --- subresources -----------------------------------------------------------------------------------------------

    def bind_pod(self, kind: Kind, namespace: str, name: str, node: str) -> None:
        """Assign a pod to a node, once."""
        current = self.get(kind, namespace, name)
        spec = current.obj.get("spec", {})
        if spec.get("nodeName"):
            why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
            raise status.conflict("", "pods/binding", name, why)
        pod = {**current.obj, "metadata": dict(current.obj["metadata"]), "spec": {**spec, "nodeName": node}}
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(), "lastProbeTime": None}
        known = [one for one in pod.get("status", {}).get("conditions") or () if one.get("type") != "PodScheduled"]
        pod["status"] = {**pod.get("status", {}), "conditions": [*known, scheduled]}
        self._store.put(self._store.collection(kind.collection), pod, current)

    def scale_of(self, kind: Kind, stored: Stored) -> Object:
        """Make the Scale object of a custom resource."""
        assert kind.scale is not None
        obj, metadata = stored.obj, stored.obj["metadata"]
        scale: Object = {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {
                key: metadata[key]
                for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
                if key in metadata
            },
            "spec": {"replicas": _at(obj, kind.scale.spec_path) or 0},
            "status": {"replicas": _at(obj, kind.scale.status_path) or 0},
        }
        if kind.scale.selector_path is not None and (selector := _at(obj, kind.scale.selector_path)):
            scale["status"]["selector"] = selector
        return scale

    def replace_scale(self, kind: Kind, namespace: str, name: str, scale: Object, options: WriteOptions) -> Stored:
        """Write ``spec.replicas`` of a Scale back to where the custom resource keeps it."""
        assert kind.scale is not None
        current = self.get(kind, namespace, name)
        self._check_version(kind, scale.get("metadata") or {}, current.obj["metadata"])
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            wrong = status.invalid("spec.replicas", replicas, "should be a non-negative integer")
            raise status.unprocessable("autoscaling", "Scale", name, [wrong])
        change: Any = replicas
        for key in reversed(kind.scale.spec_path):
            change = {key: change}
        return self._write_patched(kind, current, patches.merge_patch(current.obj, change), options, "")


_PATCHERS: Mapping[str, Callable[[Object, Any], Any]] = {
    patches.JSON_PATCH: patches.json_patch,
    patches.MERGE_PATCH: patches.merge_patch,
    patches.STRATEGIC_PATCH: patches.strategic_merge,
}


def _check_size(obj: Object) -> None:
    """Refuse what etcd would refuse."""
    size = len(orjson.dumps(obj))
    if size > _MAX_MESSAGE_BYTES:
        raise status.ApiError(500, "", f"trying to send message larger than max ({size} vs. {_MAX_MESSAGE_BYTES})")
    if size > _MAX_OBJECT_BYTES:
        raise status.ApiError(500, "", "etcdserver: request is too large")


_LASTING_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


def _is_done(kind: Kind, obj: Object) -> bool:
    """Tell whether an object that is being deleted has nothing left that keeps it."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return kind.resource != "namespaces" or not obj.get("spec", {}).get("finalizers")


def _as_served(kind: Kind, stored: Stored) -> Object:
    if kind.from_storage is not None:
        return kind.from_storage(stored.obj)
    if stored.obj.get("apiVersion") != kind.api_version:  # another version of a CRD: they differ in nothing else
        return {**stored.obj, "apiVersion": kind.api_version}
    return stored.obj


def _own_copy(value: Any) -> Any:
    """Copy what a patch shares with the stored object: defaulting and pruning work in place."""
    if isinstance(value, dict):
        return {key: _own_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_own_copy(item) for item in value]
    return value


def _specification_changed(kind: Kind, new: Object, old: Object) -> bool:
    ignored = ("metadata", "status") if kind.has_status else ("metadata",)
    return any(new.get(key) != old.get(key) for key in new.keys() | old.keys() if key not in ignored)


def _finalizers_after(metadata: Object, propagation: str | None) -> list[str]:
    finalizers = list(metadata.get("finalizers") or ())
    if propagation is None:
        return finalizers
    kept = [name for name in finalizers if name not in (FOREGROUND, ORPHAN)]
    match propagation:
        case "Foreground":
            return [*kept, FOREGROUND]
        case "Orphan":
            return [*kept, ORPHAN]
        case "Background":
            return kept
    wrong = status.not_supported("propagationPolicy", propagation, ("Foreground", "Background", "Orphan", "nil"))
    raise status.unprocessable("meta.k8s.io", "DeleteOptions", "", [wrong])


def _marked(obj: Object, finalizers: list[str], grace: int) -> Object:
    """Mark an object as being deleted; a second delete may only shorten the grace period."""
    metadata = dict(obj["metadata"])
    first_time = "deletionTimestamp" not in metadata
    if first_time or grace < metadata.get("deletionGracePeriodSeconds", 0):
        metadata["deletionTimestamp"] = timestamp(grace)
        metadata["deletionGracePeriodSeconds"] = grace
    if first_time and "generation" in metadata:
        metadata["generation"] += 1
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    return {**obj, "metadata": metadata}


def _at(obj: Object, path: tuple[str, ...]) -> Any:
    value: Any = obj
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
