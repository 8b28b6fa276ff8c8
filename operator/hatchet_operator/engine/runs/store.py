"""All runs that are known, and the indexes by which they are looked up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.tombstones import Tombstones
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef, spawn_identity
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import ChildCounts, ParentRef, WorkflowRun

Spawn = tuple[str, str, str]
"""Which child of which step: the parent's UID, the step, and the key or index."""
Key = tuple[ObjectRef, str]
"""A workflow, and the label of an idempotency key."""


@dataclass(slots=True)
class Tally:
    """How many children a run has, by phase; kept up to date one change at a time."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    def change(self, phase: Phase, by: int) -> None:
        match phase:
            case Phase.SUCCEEDED:
                self.succeeded += by
            case Phase.FAILED:
                self.failed += by
            case Phase.CANCELLED:
                self.cancelled += by

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        return self.total, self.succeeded, self.failed, self.cancelled

    def counts(self) -> ChildCounts:
        finished = self.succeeded + self.failed + self.cancelled
        return ChildCounts(
            total=self.total,
            succeeded=self.succeeded,
            failed=self.failed,
            cancelled=self.cancelled,
            summary=f"{finished}/{self.total}",
        )


class RunStore:
    """All runs, by name and by UID, which children each has, and which are not finished."""

    def __init__(self) -> None:
        self._by_ref: dict[ObjectRef, RunRecord] = {}
        self._by_uid: dict[str, RunRecord] = {}
        self._children: dict[str, set[RunRecord]] = {}
        self._unfinished: dict[ObjectRef, set[RunRecord]] = {}  # by workflow
        self._unfinished_children: dict[str, set[RunRecord]] = {}
        self._tallies: dict[str, Tally] = {}
        self._by_spawn: dict[Spawn, RunRecord] = {}  # children that are not named after their spawn
        self._spawns: dict[RunRecord, Spawn] = {}  # likewise
        self._newest_with_key: dict[Key, tuple[datetime, int, RunRecord]] = {}  # the newest run of each idempotency key
        self._keys: dict[RunRecord, Key] = {}
        self._deleted = Tombstones()

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(list(self._by_ref.values()))

    def __len__(self) -> int:
        return len(self._by_ref)

    def get(self, ref: ObjectRef) -> RunRecord | None:
        return self._by_ref.get(ref)

    def find(self, namespace: str, run_id: str) -> RunRecord | None:
        """Return the run of a namespace that has this name or UID: clients have either."""
        named = self._by_ref.get(ObjectRef(namespace, run_id))
        if named is not None:
            return named
        record = self.by_uid(run_id)
        return record if record is not None and record.ref.namespace == namespace else None

    def by_uid(self, uid: str) -> RunRecord | None:
        return self._by_uid.get(uid)

    def unfinished(self) -> list[RunRecord]:
        return [record for records in self._unfinished.values() for record in records]

    def unfinished_of(self, workflow: ObjectRef) -> list[RunRecord]:
        return list(self._unfinished.get(workflow, ()))

    def revisions_in_use(self, workflow: ObjectRef) -> set[str]:
        """Return the names of the definitions that unfinished runs of a workflow execute."""
        return {
            record.run.status.definition or (record.graph.revision if record.graph else "")
            for record in self.unfinished_of(workflow)
        }

    def unfinished_count(self, workflow: ObjectRef) -> int:
        return len(self._unfinished.get(workflow, ()))

    def children_of(self, uid: str) -> list[RunRecord]:
        return list(self._children.get(uid, ()))

    def unfinished_children_of(self, uid: str) -> list[RunRecord]:
        return list(self._unfinished_children.get(uid, ()))

    def below(self, *uids: str, through: Callable[[RunRecord], bool] = lambda record: True) -> Iterator[RunRecord]:
        """Yield all descendants, parents before children; those below a run only if ``through`` accepts that run."""
        todo = [child for uid in uids for child in self._children.get(uid, ())]  # no recursion: chains may be long
        while todo:
            yield (record := todo.pop())
            if record.uid in self._children and through(record):
                todo += self._children[record.uid]

    def deduplicated_child(self, parent_uid: str, step: str, spawn: str) -> RunRecord | None:
        """Return the child of a spawn, if it is named after its deduplication value instead of the spawn."""
        return self._by_spawn.get((parent_uid, step, spawn))

    def newest_with_key(self, workflow: ObjectRef, label: str) -> tuple[RunRecord, datetime] | None:
        """Return the newest run of a workflow with this label of an idempotency key, and when it was created."""
        found = self._newest_with_key.get((workflow, label))
        return (found[2], found[0]) if found is not None else None

    def tally_of(self, uid: str) -> Tally | None:
        return self._tallies.get(uid)

    def was_deleted(self, uid: str) -> bool:
        return uid in self._deleted

    def parent_of(self, record: RunRecord) -> RunRecord | None:
        """Return the run that spawned this one; None: none did, or it was deleted."""
        return self._by_uid.get(record.parent_uid) if record.parent_uid is not None else None

    def knows_those_above(self, record: RunRecord) -> bool:
        """Whether all runs above this one are known, up to its root."""
        above: RunRecord | None = record
        while above is not None and above.parent_uid is not None:
            above = self.parent_of(above)
        return above is not None

    def put(self, run: WorkflowRun) -> RunChange:
        """Keep a newer state of a run; return what has changed."""
        record = self._by_ref.get(run.ref)
        came = record is None
        was = self._get_uid(record, run) if record is not None and record.light is not None else None
        before = record.whole if record is not None else None
        was_finished = record is not None and record.is_final
        was_cancelled = record is not None and record.cancelled
        if record is None:
            record = RunRecord(run)
            self._by_ref[record.ref] = self._by_uid[record.uid] = record
            if record.parent_uid is not None:
                self._children.setdefault(record.parent_uid, set()).add(record)
                if not labels.VALUES.isdisjoint(run.metadata.labels) and run.spec.parent is not None:
                    self._spawns[record] = spawn = _spawn_of(run.spec.parent)
                    self._by_spawn[spawn] = record
            if (label := run.metadata.labels.get(labels.IDEMPOTENCY)) is not None:
                self._note_key(record, run, label)
        else:
            record.take(run)
        if record.is_final:
            self._finish(record)
        elif was_finished or record.counted_as is None:
            self._begin(record)
        return RunChange(
            record=record,
            run=run,
            came=came,
            ended=record.is_final and not was_finished,
            cancelled=record.cancelled and not was_cancelled,
            counted=self._count(record, run.status.phase),
            was=was,
            before=before,
        )

    def _get_uid(self, record: RunRecord, run: WorkflowRun) -> str:
        """Give a light run the UID of the object that was made for it; return its provisional one."""
        assert record.light is not None, "the others have their UID"
        record.light.is_over.set()
        was, record.uid, record.light = record.uid, run.metadata.uid, None
        del self._by_uid[was]
        self._by_uid[record.uid] = self._by_uid[run.identity] = record
        return was

    def drop(self, record: RunRecord) -> RunChange:
        """Forget a run, as its object is gone."""
        record.mark_gone()
        self._by_ref.pop(record.ref, None)
        self._by_uid.pop(record.uid, None)
        self._forget_provisional(record)
        self._deleted.add(record.uid)
        if (spawn := self._spawns.pop(record, None)) is not None:
            self._by_spawn.pop(spawn, None)
        if (key := self._keys.pop(record, None)) is not None and self._newest_with_key[key][2] is record:
            del self._newest_with_key[key]  # older ones have lost it
        self._finish(record)
        counted = self._count(record, None)
        parent = record.parent_uid
        if parent is not None and _discard(self._children, parent, record):
            self._tallies.pop(parent, None)
        return RunChange(record=record, gone=True, counted=counted, before=record.whole)

    def _note_key(self, record: RunRecord, run: WorkflowRun, label: str) -> None:
        created = run.metadata.creation_timestamp or datetime.min.replace(tzinfo=UTC)
        found = created, record.version, record
        key = self._keys[record] = record.workflow_ref, label
        if (other := self._newest_with_key.get(key)) is None or other[:2] < found[:2]:
            self._newest_with_key[key] = found

    def _forget_provisional(self, record: RunRecord) -> None:
        """Forget the id by which workers know a light run, as it is over."""
        if record.whole is not None and record.whole.spec.begun_as is not None:
            self._by_uid.pop(record.whole.spec.begun_as, None)

    def _begin(self, record: RunRecord) -> None:
        if record.run.spec.begun_as is not None:
            self._by_uid[record.run.identity] = record  # its workers know it by that until it is over
        self._unfinished.setdefault(record.workflow_ref, set()).add(record)
        if record.parent_uid is not None:
            self._unfinished_children.setdefault(record.parent_uid, set()).add(record)

    def _finish(self, record: RunRecord) -> None:
        self._forget_provisional(record)
        _discard(self._unfinished, record.workflow_ref, record)
        if record.parent_uid is not None:
            _discard(self._unfinished_children, record.parent_uid, record)

    def _count(self, record: RunRecord, phase: Phase | None) -> bool:
        """Keep the parent's tally up to date; true: it has changed."""
        before, record.counted_as = record.counted_as, phase
        parent = record.parent_uid
        if parent is None or before is phase:
            return False
        tally = self._tallies.setdefault(parent, Tally())
        numbers = tally.numbers
        if before is None:
            tally.total += 1
        else:
            tally.change(before, -1)
        if phase is None:
            tally.total -= 1
        else:
            tally.change(phase, 1)
        return tally.numbers != numbers


def _spawn_of(parent: ParentRef) -> Spawn:
    return parent.uid, parent.step, spawn_identity(key=parent.key, index=parent.index)


K = TypeVar("K")


def _discard(index: dict[K, set[RunRecord]], key: K, record: RunRecord) -> bool:
    """Remove a record from an index; true: it was the last one under its key, which is removed too."""
    records = index.get(key)
    if records is None:
        return False
    records.discard(record)
    if records:
        return False
    del index[key]
    return True
