"""What the operator remembers. Nothing here is the truth: all of it is rebuilt from objects and from workers.

The objects of this module are mutable and live in one event loop; whoever changes one does it between two awaits.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import LiveAttempt, Report
from hatchet_operator.identity import Caller
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import ChildCounts, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

if TYPE_CHECKING:
    from hatchet_operator.engine.results import ResultStream
    from hatchet_operator.engine.workers import Worker

_TOMBSTONES = 10_000


@dataclass(slots=True, eq=False, kw_only=True)
class Attempt:
    """An attempt in the queue (worker is None) or out."""

    id: str
    ref: ObjectRef
    step: StepDefinition
    number: int
    graph: Graph
    priority: int
    is_root: bool
    queued_at: datetime
    run_uid: str | None = None  # of a run whose attempts go to pods of its own
    worker: "Worker | None" = None
    started_at: datetime | None = None
    deadline: datetime | None = None
    cancel_sent_at: datetime | None = None
    withdrawn: bool = False  # left in the queue's heap, to be skipped
    sent: bool = False  # handed to the worker's stream
    confirmed: bool = False  # the worker said that it has begun
    awaits: set[ObjectRef] = field(default_factory=set)  # own unfinished children that it awaits
    released: bool = False  # the step gave its slot back

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller may speak of it: whoever it was given to.

        While it is in the queue, a worker outside a Pod may still have it from before a restart.
        """
        if self.worker is not None:
            return self.worker.is_of(caller)
        return caller.pod_uid is None and caller.pool_ref == ObjectRef(self.ref.namespace, self.graph.pool or "")

    @property
    def occupies_slot(self) -> bool:
        return not self.awaits and not self.released

    def change_slot(self, change: Callable[[], None]) -> None:
        """Make a change that may free or take the slot, and keep the worker's count right."""
        before = self.occupies_slot
        change()
        if self.worker is not None and self.id in self.worker.out:
            self.worker.occupied += self.occupies_slot - before

    def live(self) -> LiveAttempt | None:
        """Return what decisions may know of it while it is out."""
        if self.worker is None or self.started_at is None or self.deadline is None:
            return None
        return LiveAttempt(
            id=self.id,
            worker=self.worker.shown_name,
            started_at=self.started_at,
            deadline=self.deadline,
            cancel_sent_at=self.cancel_sent_at,
        )


@dataclass(slots=True, eq=False)
class RunRecord:
    """One run: the newest object, and what is in flight."""

    run: WorkflowRun
    version: int
    graph: Graph | None = None  # pinned when the first step is queued
    attempts: dict[str, Attempt] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    acks: dict[str, list[asyncio.Future[None]]] = field(default_factory=dict)
    awaited_by: set["ResultStream"] = field(default_factory=set)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    writing: bool = False
    conflicts: int = 0  # status writes in a row that met a newer object
    being_written: frozenset[str] = frozenset()  # attempts whose reports the write under way speaks of
    refused: bool = False  # the server took not even a small status; wait until the object changes
    may_be_out: bool = False  # known from before a restart: a worker may have its steps
    above_is_gone: bool = False  # a run above it was deleted, and garbage collection takes this one too
    children_written_at: datetime | None = None
    waiting_told_at: datetime | None = None
    recheck: asyncio.TimerHandle | None = None
    recheck_due: float = 0.0  # the loop's clock
    counted_as: Phase | None = None  # how its parent's tally has it

    @property
    def ref(self) -> ObjectRef:
        return self.run.ref

    @property
    def uid(self) -> str:
        return self.run.metadata.uid

    @property
    def is_final(self) -> bool:
        """Final, and not asked to be executed again."""
        return self.run.status.phase.is_final and self.run.spec.execution <= self.run.status.execution


@dataclass(slots=True)
class Tally:
    """How many children a run has, by phase; kept up to date one change at a time."""

    total: int = 0
    by_phase: dict[Phase, int] = field(default_factory=dict)

    def counts(self) -> ChildCounts:
        succeeded, failed, cancelled = (
            self.by_phase.get(phase, 0) for phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)
        )
        finished = succeeded + failed + cancelled
        return ChildCounts(
            total=self.total,
            succeeded=succeeded,
            failed=failed,
            cancelled=cancelled,
            summary=f"{finished}/{self.total}",
        )


class Tombstones:
    """UIDs of the objects that were deleted last: an answer that comes late must not bring one back."""

    def __init__(self) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids

    def add(self, uid: str) -> None:
        self._uids[uid] = None
        if len(self._uids) > _TOMBSTONES:
            self._uids.popitem(last=False)


class RunStore:
    """All runs, by name and by UID, and which children each has."""

    def __init__(self) -> None:
        self._by_ref: dict[ObjectRef, RunRecord] = {}
        self._by_uid: dict[str, RunRecord] = {}
        self._children: dict[str, set[ObjectRef]] = {}
        self._tallies: dict[str, Tally] = {}
        self._deleted = Tombstones()

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(list(self._by_ref.values()))

    def __len__(self) -> int:
        return len(self._by_ref)

    def get(self, ref: ObjectRef) -> RunRecord | None:
        return self._by_ref.get(ref)

    def by_uid(self, uid: str) -> RunRecord | None:
        return self._by_uid.get(uid)

    def children_of(self, uid: str) -> list[RunRecord]:
        refs = self._children.get(uid, ())
        return [record for ref in refs if (record := self._by_ref.get(ref)) is not None]

    def below(self, uid: str) -> Iterator[RunRecord]:
        """Yield all descendants, parents before children."""
        todo = self.children_of(uid)  # no recursion: a chain of children may be as long as it likes
        while todo:
            yield (record := todo.pop())
            todo += self.children_of(record.uid)

    def tally_of(self, uid: str) -> Tally | None:
        return self._tallies.get(uid)

    def was_deleted(self, uid: str) -> bool:
        return uid in self._deleted

    def put(self, run: WorkflowRun) -> RunRecord:
        """Keep a newer state of a run."""
        version = int(run.metadata.resource_version)
        record = self._by_ref.get(run.ref)
        if record is None:
            record = RunRecord(run=run, version=version)
            self._by_ref[run.ref] = self._by_uid[run.metadata.uid] = record
            if run.spec.parent is not None:
                self._children.setdefault(run.spec.parent.uid, set()).add(run.ref)
        else:
            record.run, record.version, record.refused = run, version, False
        self._count(record, run.status.phase)
        return record

    def drop(self, record: RunRecord) -> None:
        self._by_ref.pop(record.ref, None)
        self._by_uid.pop(record.uid, None)
        self._deleted.add(record.uid)
        self._count(record, None)
        if (parent := record.run.spec.parent) is not None:
            siblings = self._children.get(parent.uid)
            if siblings is not None:
                siblings.discard(record.ref)
                if not siblings:
                    del self._children[parent.uid]
                    self._tallies.pop(parent.uid, None)

    def _count(self, record: RunRecord, phase: Phase | None) -> None:
        parent = record.run.spec.parent
        if parent is None or record.counted_as is phase:
            return
        tally = self._tallies.setdefault(parent.uid, Tally())
        if record.counted_as is None:
            tally.total += 1
        else:
            tally.by_phase[record.counted_as] -= 1
        if phase is None:
            tally.total -= 1
        else:
            tally.by_phase[phase] = tally.by_phase.get(phase, 0) + 1
        record.counted_as = phase
