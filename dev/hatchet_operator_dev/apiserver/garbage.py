"""The garbage collector and the other loops of kube-controller-manager that clients notice.

Collects what has only owners that are gone (also when it was created after they were gone), finishes foreground and
orphan deletions, empties namespaces that are being deleted, and removes the objects of a deleted CRD. Works from a
queue of uids fed by the store's observers, in a background task, so that a client sees a deletion's consequences
later, as in a real cluster.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hatchet_operator_dev.apiserver.builtin import DEFINITIONS
from hatchet_operator_dev.apiserver.deleting import DEFINITION_CLEANUP, FOREGROUND, ORPHAN, DeleteOptions
from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.operations import Operations
from hatchet_operator_dev.apiserver.store import Change, Collection, Store, Stored, owner_uids

_YIELD_EVERY = 50


class GarbageCollector:
    """Run with ``asyncio.create_task(collector.run())``; it ends only by being cancelled."""

    def __init__(self, store: Store, kinds: Kinds, operations: Operations) -> None:
        self._store = store
        self._kinds = kinds
        self._operations = operations
        self._waiting: dict[str, None] = {}  # uids to look at, in order, each once
        self._wake = asyncio.Event()
        store.observers.append(self._observe)

    def _observe(self, resource: str, change: Change) -> None:
        metadata = change.new.obj["metadata"]
        if change.deleted:
            uids = self._store.dependents(change.new.uid) + owner_uids(change.new) + self._keepers(resource, metadata)
        elif metadata.get("ownerReferences") or metadata.get("deletionTimestamp"):
            uids = [change.new.uid]
        else:
            return
        for uid in uids:
            self._waiting[uid] = None
        if self._waiting:
            self._wake.set()

    def _keepers(self, resource: str, metadata: Object) -> list[str]:
        """Uids of the namespace and the CRD that may have waited for this object to go."""
        keepers = (
            self._store.collection("namespaces").find("", metadata.get("namespace", "")),
            self._store.collection(DEFINITIONS).find("", resource),
        )
        return [keeper.uid for keeper in keepers if keeper and keeper.obj["metadata"].get("deletionTimestamp")]

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            done = 0
            while self._waiting:
                uid = next(iter(self._waiting))
                del self._waiting[uid]
                self._look_at(uid)
                done += 1
                if done % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)

    def _look_at(self, uid: str) -> None:
        found = self._store.by_uid(uid)
        if found is None:
            return
        collection, stored = found
        kind = self._kinds.of_resource(collection.name)
        if kind is None:
            return
        metadata = stored.obj["metadata"]
        if metadata.get("deletionTimestamp"):
            self._finish_deletion(kind, collection, stored)
        elif metadata.get("ownerReferences"):
            self._collect_if_abandoned(kind, stored)

    def _collect_if_abandoned(self, kind: Kind, stored: Stored) -> None:
        metadata = stored.obj["metadata"]
        owners = metadata["ownerReferences"]
        present = [owner for owner in owners if self._is_present(owner, metadata.get("namespace", ""))]
        if not present:
            self._delete(kind, stored, "Background")
        elif all(self._waits_for_dependents(owner) for owner in present):
            policy = "Foreground" if self._store.dependents(stored.uid) else "Background"
            self._delete(kind, stored, policy)
        elif len(present) < len(owners):
            self._update_metadata(kind, stored, ownerReferences=present)

    def _is_present(self, owner: Object, namespace: str) -> bool:
        found = self._store.by_uid(owner["uid"])
        if found is None:
            return False
        # An owner in another namespace counts as absent: references do not cross namespaces.
        return bool(found[1].obj["metadata"].get("namespace", namespace) == namespace)

    def _waits_for_dependents(self, owner: Object) -> bool:
        found = self._store.by_uid(owner["uid"])
        return found is not None and FOREGROUND in (found[1].obj["metadata"].get("finalizers") or ())

    def _finish_deletion(self, kind: Kind, collection: Collection, stored: Stored) -> None:
        finalizers = stored.obj["metadata"].get("finalizers") or []
        if kind.resource == "namespaces":
            self._empty_namespace(kind, stored)
        if DEFINITION_CLEANUP in finalizers:
            self._remove_instances(kind, stored)
        if ORPHAN in finalizers:
            self._orphan_dependents(stored)
            self._update_metadata(kind, stored, finalizers=[name for name in finalizers if name != ORPHAN])
        elif FOREGROUND in finalizers:
            self._delete_dependents(stored)
            if not self._has_blocking_dependents(stored):
                self._update_metadata(kind, stored, finalizers=[name for name in finalizers if name != FOREGROUND])

    def _dependents(self, owner: Stored) -> list[tuple[Kind, Stored]]:
        found = [self._store.by_uid(uid) for uid in self._store.dependents(owner.uid)]
        pairs = [(self._kinds.of_resource(one[0].name), one[1]) for one in found if one is not None]
        return [(kind, stored) for kind, stored in pairs if kind is not None]

    def _orphan_dependents(self, owner: Stored) -> None:
        for kind, stored in self._dependents(owner):
            kept = [one for one in stored.obj["metadata"]["ownerReferences"] if one["uid"] != owner.uid]
            self._update_metadata(kind, stored, ownerReferences=kept)

    def _delete_dependents(self, owner: Stored) -> None:
        for _, stored in self._dependents(owner):
            self._look_at(stored.uid)

    def _has_blocking_dependents(self, owner: Stored) -> bool:
        return any(
            one["uid"] == owner.uid and one.get("blockOwnerDeletion")
            for _, stored in self._dependents(owner)
            for one in stored.obj["metadata"]["ownerReferences"]
        )

    def _empty_namespace(self, kind: Kind, stored: Stored) -> None:
        name = stored.obj["metadata"]["name"]
        empty = True
        for collection in self._store.collections():
            content_kind = self._kinds.of_resource(collection.name)
            if content_kind is None or not content_kind.namespaced:
                continue
            for content in list(collection.objects.get(name, {}).values()):
                if not content.obj["metadata"].get("deletionTimestamp"):
                    self._delete(content_kind, content, "Background")
            empty = empty and not collection.objects.get(name)
        # Looked up again: the last content's removal may have ended the namespace already.
        current = self._store.collection("namespaces").find("", name)
        if empty and current is not None and not current.obj["metadata"].get("finalizers"):
            self._store.remove(self._store.collection(kind.resource), current)

    def _remove_instances(self, kind: Kind, definition: Stored) -> None:
        metadata = definition.obj["metadata"]
        instances = self._store.collection(metadata["name"])
        instance_kind = self._kinds.of_resource(metadata["name"])
        if instance_kind is not None:
            for stored in [one for space in instances.objects.values() for one in space.values()]:
                if not stored.obj["metadata"].get("deletionTimestamp"):
                    self._delete(instance_kind, stored, "Background")
        if not instances.objects:
            kept = [name for name in metadata["finalizers"] if name != DEFINITION_CLEANUP]
            self._update_metadata(kind, definition, finalizers=kept)

    def _delete(self, kind: Kind, stored: Stored, propagation: str) -> None:
        metadata = stored.obj["metadata"]
        options = DeleteOptions(uid=metadata["uid"], propagation=propagation)
        self._operations.delete(kind, metadata.get("namespace", ""), metadata["name"], options)

    def _update_metadata(self, kind: Kind, stored: Stored, **changed: list[Any]) -> None:
        self._operations.write_metadata(kind, stored, changed)
