"""The verbs: create, replace, patch and delete on the store, with everything the real server does around a write.

Nothing here awaits, so each verb is one atomic step of the event loop; what it takes from clients (``body``) becomes
its own, what it hands out (``Stored``) must not be changed. HTTP is not known here: failures are ``ApiError``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hatchet_operator_dev.apiserver import builtin, patches, status
from hatchet_operator_dev.apiserver.deleting import (
    DEFINITION_CLEANUP,
    LASTING_NAMESPACES,
    DeleteOptions,
    Deletion,
    check_preconditions,
    finalizers_after,
    is_done,
    marked_for_deletion,
)
from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.metadata import (
    changed_metadata,
    finalizer_errors,
    immutable_errors,
    metadata_errors,
    new_metadata,
    timestamp,
)
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.store import Store, Stored
from hatchet_operator_dev.apiserver.written import WriteOptions, check_namespace, check_size, parsed, report_pruned


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
        obj = parsed(kind, body)
        if kind.to_storage is not None:
            obj = kind.to_storage(obj)
        given = obj["metadata"]
        check_namespace(kind, given, namespace)
        if given.get("resourceVersion"):
            raise status.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        now = timestamp()
        with_generation = kind.is_custom or kind.resource in builtin.HAS_GENERATION
        metadata = obj["metadata"] = new_metadata(kind, given, namespace, now, with_generation=with_generation)
        if kind.has_status and kind.is_custom:
            obj.pop("status", None)
        name = metadata.get("name", "")
        if kind.schema is not None:
            report_pruned(kind.schema.shape(obj), options)
            errors = kind.schema.check(obj, None, metadata_errors(kind, metadata, creating=True))
        else:
            errors = metadata_errors(kind, metadata, creating=True)
            errors = errors or builtin.creation_errors(kind, obj)
            if not errors:
                builtin.prepare_create(kind, obj, now)
        if errors:
            raise status.unprocessable(kind.group, kind.kind, name, errors)
        collection = self._store.collection(kind.collection)
        if collection.find(namespace, name) is not None:
            raise status.already_exists(kind.group, kind.plural, name)
        if kind.namespaced:
            self._require_namespace(kind, namespace, name)
        if options.dry_run:
            return Stored(obj, self._store.version)
        check_size(obj)
        return self._store.put(collection, obj, None)

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

    # --- replace ----------------------------------------------------------------------------------------------------

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Any, options: WriteOptions, *, subresource: str = ""
    ) -> Stored:
        """Replace an object, or with ``subresource="status"`` its status."""
        new = parsed(kind, body)
        check_namespace(kind, new["metadata"], namespace)
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
        check_size(new)
        collection = self._store.collection(kind.collection)
        if is_done(kind, new):
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
                report_pruned(unknown, options)
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
            report_pruned(kind.schema.shape(new), options)
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
        new = parsed(kind, _own_copy(patched))
        check_namespace(kind, new["metadata"], current.obj["metadata"].get("namespace", ""))
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
        wanted = parsed(kind, applied)
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
        check_preconditions(kind, current.obj["metadata"], options)
        metadata = current.obj["metadata"]
        if kind.resource == "namespaces" and name in LASTING_NAMESPACES:
            raise status.forbidden("", "namespaces", name, "this namespace may not be deleted")
        finalizers = finalizers_after(metadata, options.propagation)
        if kind.resource == builtin.DEFINITIONS and self._store.collection(name).objects:
            finalizers = [*finalizers, DEFINITION_CLEANUP] if DEFINITION_CLEANUP not in finalizers else finalizers
        grace = builtin.grace_seconds(kind, current.obj, options.grace_seconds)
        kept_by_namespace = kind.resource == "namespaces" and current.obj.get("spec", {}).get("finalizers")
        if not finalizers and not grace and not kept_by_namespace:
            if options.dry_run:
                return Deletion(current, gone=True)
            collection = self._store.collection(kind.collection)
            final = marked_for_deletion(current.obj, [], 0) if "deletionTimestamp" in metadata else None
            return Deletion(self._store.remove(collection, current, final), gone=True)
        marked = marked_for_deletion(current.obj, finalizers, grace)
        if kept_by_namespace:
            marked["status"] = {**marked.get("status", {}), "phase": "Terminating"}
        if options.dry_run or marked == current.obj:
            return Deletion(current, gone=False)
        stored = self._store.put(self._store.collection(kind.collection), marked, current)
        return Deletion(stored, gone=False)

    def write_metadata(self, kind: Kind, stored: Stored, changed: Object) -> None:
        """Replace metadata fields (an empty value removes one); for the server's own loops, so nothing is validated."""
        metadata = {key: value for key, value in {**stored.obj["metadata"], **changed}.items() if value != []}
        collection = self._store.collection(kind.collection)
        changed = {**stored.obj, "metadata": metadata}
        if is_done(kind, changed):
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
