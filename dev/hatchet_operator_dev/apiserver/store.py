"""What etcd and the watch cache are to the real server: objects by name, one resourceVersion, a history to watch.

Stored objects are immutable: every writer makes a new dict (sharing what did not change), so snapshots, watch events
and answers need no copies. One event is serialised once per form (JSON, table, metadata only) however many clients
watch.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import expired


class Stored:
    """One version of one object, with its serialised forms."""

    __slots__ = ("_forms", "obj", "version")

    def __init__(self, obj: Object, version: int) -> None:
        self.obj = obj
        self.version = version
        self._forms: dict[Hashable, bytes] = {}

    def form(self, key: Hashable, make: Callable[[Object], bytes]) -> bytes:
        found = self._forms.get(key)
        if found is None:
            found = self._forms[key] = make(self.obj)
        return found

    @property
    def uid(self) -> str:
        uid: str = self.obj["metadata"]["uid"]
        return uid


@dataclass(frozen=True, slots=True)
class Change:
    """One write. ``old`` is ``None`` for a create; ``deleted`` tells whether ``new`` is the last state of a removed
    object.
    """

    version: int
    new: Stored
    old: Stored | None
    deleted: bool = False


class Listener(Protocol):
    """A watcher of a collection; it is called synchronously, in the order of the versions."""

    def notice(self, change: Change) -> None: ...


@dataclass(slots=True)
class Collection:
    """All objects of one resource, whatever version they are served in."""

    name: str
    floor: int
    """Watches can start at this version or later; what happened up to it is forgotten."""
    objects: dict[str, dict[str, Stored]] = field(default_factory=dict)
    history: deque[Change] = field(default_factory=deque)
    listeners: set[Listener] = field(default_factory=set)

    def find(self, namespace: str, name: str) -> Stored | None:
        return self.objects.get(namespace, {}).get(name)

    def ordered(self, namespace: str | None) -> list[Stored]:
        """List as etcd does, by namespace and name; ``None`` means every namespace."""
        spaces = sorted(self.objects, key=lambda space: f"{space}/") if namespace is None else [namespace]
        return [found for space in spaces for _, found in sorted(self.objects.get(space, {}).items(), key=_by_name)]


def _by_name(item: tuple[str, Stored]) -> str:
    return item[0]


class Store:
    """Every object of the cluster.

    Args:
        history_size: Changes kept per collection; an older watch gets a 410.
    """

    _SNAPSHOTS = 64
    _SNAPSHOT_ITEMS = 200_000

    def __init__(self, history_size: int = 10_000) -> None:
        self.version = 1
        self._history_size = history_size
        self._collections: dict[str, Collection] = {}
        self._by_uid: dict[str, tuple[str, str, str]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._snapshots: OrderedDict[tuple[str, str | None, int], list[Stored]] = OrderedDict()
        self.observers: list[Callable[[str, Change], None]] = []
        """Called after every write with the collection's name: by the garbage collector and the CRD registry."""

    def collection(self, name: str) -> Collection:
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = Collection(name=name, floor=self.version)
        return found

    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def by_uid(self, uid: str) -> tuple[Collection, Stored] | None:
        """Find an object wherever it is."""
        where = self._by_uid.get(uid)
        if where is None:
            return None
        collection = self._collections[where[0]]
        found = collection.find(where[1], where[2])
        return None if found is None else (collection, found)

    def dependents(self, owner_uid: str) -> list[str]:
        """Uids of the objects whose owner references name ``owner_uid``."""
        return list(self._dependents.get(owner_uid, ()))

    def drop_collection(self, name: str) -> None:
        """Forget a resource whose definition is gone; its objects must have been removed before."""
        self._collections.pop(name, None)

    def put(self, collection: Collection, obj: Object, old: Stored | None) -> Stored:
        """Store ``obj`` (whose metadata this completes with the new version) in place of ``old``."""
        stored = self._stamp(obj)
        metadata = obj["metadata"]
        namespace, name, uid = metadata.get("namespace", ""), metadata["name"], metadata["uid"]
        collection.objects.setdefault(namespace, {})[name] = stored
        if old is None:
            self._by_uid[uid] = (collection.name, namespace, name)
        if old is None or old.obj["metadata"].get("ownerReferences") != metadata.get("ownerReferences"):
            self._index_owners(uid, old, stored)
        self._publish(collection, Change(stored.version, stored, old))
        return stored

    def remove(self, collection: Collection, old: Stored, final: Object | None = None) -> Stored:
        """Remove an object; returns its last state (``final``, if it changed with that) under a new version."""
        metadata = old.obj["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        state = final or old.obj
        last = self._stamp({**state, "metadata": dict(state["metadata"])})
        del collection.objects[namespace][name]
        if not collection.objects[namespace]:
            del collection.objects[namespace]
        self._by_uid.pop(old.uid, None)
        self._index_owners(old.uid, old, None)
        self._publish(collection, Change(last.version, last, old, deleted=True))
        return last

    def _stamp(self, obj: Object) -> Stored:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        return Stored(obj, self.version)

    def _index_owners(self, uid: str, old: Stored | None, new: Stored | None) -> None:
        for owner in owner_uids(old):
            entry = self._dependents.get(owner)
            if entry is not None:
                entry.pop(uid, None)
                if not entry:
                    del self._dependents[owner]
        for owner in owner_uids(new):
            self._dependents.setdefault(owner, {})[uid] = None

    def _publish(self, collection: Collection, change: Change) -> None:
        history = collection.history
        history.append(change)
        if len(history) > self._history_size:
            collection.floor = history.popleft().version
        for listener in tuple(collection.listeners):
            listener.notice(change)
        for observer in self.observers:
            observer(collection.name, change)

    def forget_history(self) -> None:
        """Compact: watches and lists at earlier versions get a 410 from now on."""
        self._snapshots.clear()
        for collection in self._collections.values():
            collection.history.clear()
            collection.floor = self.version

    def changes_since(self, collection: Collection, version: int) -> Iterator[Change]:
        """Yield the changes after ``version``.

        Raises:
            ApiError: 410, if some of them are forgotten.
        """
        if version < collection.floor:
            raise expired(f"too old resource version: {version} ({self.version})")
        return iter([change for change in collection.history if change.version > version])

    def snapshot(self, collection: Collection, namespace: str | None, version: int | None = None) -> list[Stored]:
        """List a collection as it is, or as it was when an earlier list at ``version`` was begun.

        Raises:
            ApiError: 410, if the state at ``version`` is not kept any more.
        """
        key = (collection.name, namespace, version if version is not None else self.version)
        found = self._snapshots.get(key)
        if found is not None:
            self._snapshots.move_to_end(key)
            return found
        if key[2] != self.version:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of the results. Continuing with the provided token results in an inconsistent list - "
                "objects that were created, modified, or deleted between the time the first chunk was returned and "
                "now may show up in the list."
            )
        found = self._snapshots[key] = collection.ordered(namespace)
        while len(self._snapshots) > 1 and (
            len(self._snapshots) > self._SNAPSHOTS or sum(map(len, self._snapshots.values())) > self._SNAPSHOT_ITEMS
        ):
            self._snapshots.popitem(last=False)
        return found


def owner_uids(stored: Stored | None) -> list[str]:
    if stored is None:
        return []
    return [reference["uid"] for reference in stored.obj["metadata"].get("ownerReferences") or ()]
