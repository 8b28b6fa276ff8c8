"""What the API server says about runs, whatever the source: the watch, a list, or the answer to one of our requests."""

import logging

from hatchet_operator import garbage
from hatchet_operator.cluster.informer import UidOf
from hatchet_operator.cluster.turns import Turns
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.records import Light, RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.pace import TURN_SECONDS
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef, spawn_identity
from hatchet_operator.resources.run import ParentRef, WorkflowRun

log = logging.getLogger(__name__)

_FROZEN_EVERY = 1_000


class RunObserver:
    """Keeps the store up to date, and publishes what changed.

    Args:
        store: What is known of runs.
        feed: Where changes go.
        clock: Tells the time.
    """

    def __init__(self, store: RunStore, feed: RunFeed, *, clock: Clock, turn_seconds: float = TURN_SECONDS) -> None:
        self._store = store
        self._clock = clock
        self._turn_seconds = turn_seconds
        self._feed = feed
        self._others: set[str] = set()  # UIDs of runs that other controllers run
        self._ahead: set[int] = set()  # versions that were observed and that the watch is still to tell
        self._watched_until = 0  # the version that the watch has come to
        self.loading = True  # until all runs were read once
        self.knows_all = True  # no run was left out because it was not understood

    def observe(self, kind: str, obj: Json) -> None:
        """Observe a watch event, or an object that a request returned."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._store.get(ref)
        if kind == "DELETED":
            self._others.discard(metadata["uid"])
            if known is not None and known.uid == metadata["uid"]:
                self.forget(known)
            return
        version = int(metadata["resourceVersion"])
        if known is not None and version <= known.version:
            self._ahead.discard(version)
            return  # our own write, or older: of this object, or of one that had its name before
        if self._store.was_deleted(metadata["uid"]):
            return
        try:
            run = WorkflowRun.model_validate(obj)
        except ValueError as error:  # written under another version of the CRD; it must not stop the others
            log.warning("run is not understood", extra={"run": str(ref), "error": str(error)})
            self.knows_all = False
            return
        if known is not None and known.uid != run.metadata.uid and not is_object_of(known, run):
            if known.light is not None:
                known.light.lost = f"run {ref} is there, but is not this child; delete it, or spawn under another key"
            self.forget(known)  # deleted and created again between two events
        if self._is_of_another(run):
            return
        change = self._store.put(run)
        if self.loading:
            self._loaded(change.record, came=change.came)
        elif version > self._watched_until:
            self._ahead.add(version)
        self._feed.publish(change)

    def is_known(self, version: int) -> bool:
        """Whether an event of the watch is no news: an answer to a request of ours had this version already.

        Events come in the order of their versions, each once; so one that the watch has passed will not be asked for.
        """
        self._watched_until = max(version, self._watched_until)
        if version not in self._ahead:
            return False
        self._ahead.remove(version)
        return True

    def _is_of_another(self, run: WorkflowRun) -> bool:
        """Whether another controller runs this run, or its parent: nothing is kept about those."""
        parent = run.spec.parent
        if run.spec.is_ours and (parent is None or parent.uid not in self._others):
            return False
        self._others.add(run.metadata.uid)
        below = [*self._store.below(run.metadata.uid)]  # those that were listed before it
        for record in (*below, *filter(None, [self._store.get(run.ref)])):
            self._others.add(record.uid)
            self.forget(record)
        return True

    def is_of_another(self, uid: str) -> bool:
        """Whether a run is known to be another controller's."""
        return uid in self._others

    def _loaded(self, record: RunRecord, *, came: bool) -> None:
        record.may_be_assigned = record.may_be_assigned or (came and not record.is_final)
        if record.is_final:
            record.forget_object()  # at once: there may be more of these than fit into memory
            if len(self._store) % _FROZEN_EVERY == 0:
                garbage.freeze()

    async def listed(self, version: str, uid_of: UidOf, *, namespace: str | None = None) -> None:
        """Forget runs missing from a list of all: answers to our own requests may have come before their deletion.

        Args:
            version: The list's resourceVersion.
            uid_of: Finds the UIDs in it.
            namespace: The only one that was listed; None: all were.
        """
        if namespace is not None and self.loading:
            return  # there were no requests yet; with many namespaces, looking each time would take long
        turns = Turns(self._turn_seconds)
        for record in self._store:
            if namespace not in (None, record.ref.namespace):
                continue
            is_listed = uid_of(record.ref.namespace, record.ref.name) == record.uid
            if not is_listed and record.light is None and record.version <= int(version):
                self.forget(record)
            await turns.give_way()
        self._ahead = {ahead for ahead in self._ahead if ahead > int(version)}

    def begin_light(self, body: Json) -> None:
        """Add a light run, which has no object yet: it runs like any other, and its first status creates the object.

        Args:
            body: What the object will be made of; its name is free, as far as is known.
        """
        as_made = {"uid": body["spec"]["begunAs"], "generation": 1, "creationTimestamp": self._clock.now()}
        change = self._store.put(WorkflowRun.model_validate({**body, "metadata": body["metadata"] | as_made}))
        change.record.light = Light(body)
        self._feed.publish(change)

    def forget(self, record: RunRecord) -> None:
        """Forget a run whose object is gone."""
        if not record.gone:
            self._feed.publish(self._store.drop(record))


def is_object_of(record: RunRecord, run: WorkflowRun) -> bool:
    """Whether an object is that of a light run which had none: made by us, or by an operator that led before."""
    if record.light is None or run.spec.parent is None:
        return False
    ours, theirs = record.run.spec.parent, run.spec.parent
    assert ours is not None, "only children are light"
    return (ours.uid, ours.step, _spawn(ours)) == (theirs.uid, theirs.step, _spawn(theirs))


def _spawn(parent: ParentRef) -> str:
    return spawn_identity(key=parent.key, index=parent.index)
