"""What the operator remembers. Nothing here is the truth: all of it is rebuilt from objects and from workers.

The objects of this module are mutable and live in one event loop; whoever changes one does it between two awaits.
"""

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import LiveAttempt, Report
from hatchet_operator.identity import Caller
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import ChildCounts, RunSpec, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

if TYPE_CHECKING:
    from hatchet_operator.engine.results import ResultStream
    from hatchet_operator.engine.workers import Worker

_TOMBSTONES = 10_000
_AT_THE_SAME_TIME_SECONDS = 2.0

NO_ATTEMPTS: frozenset[str] = frozenset()  # an empty one takes 216 bytes


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
    busy: str | None = None  # why it gets no slot, once that has lasted
    may_tell: bool = False  # it is among the first that wait: its run may say why no worker is there
    withdrawn: bool = False  # left in the queue's heap, to be skipped
    sent: bool = False  # handed to the worker's stream
    starts: int = 0  # how often its worker said STARTED; see Worker.has_begun
    awaits: set[ObjectRef] = field(default_factory=set)  # own unfinished children that it awaits
    released: bool = False  # the step gave its slot back
    waited_until: float | None = None  # the loop's clock: its worker's stream of results ended while it awaited some
    trial: timedelta | None = None  # it may have ended its last worker, and is tried apart for so long
    impatience: int = 0  # how often its patience ended while it waited to be tried, see decisions/losses.py
    is_cleared: bool = False  # its trial is over
    timer: asyncio.TimerHandle | None = None  # to the end of its patience, and then of its trial

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller may speak of it: whoever it was given to.

        While it is in the queue, a worker outside a Pod may still have it from before a restart.
        """
        if self.worker is not None:
            return self.worker.is_of(caller)
        return caller.pod_uid is None and caller.pool_ref == self.pool_ref

    @property
    def pool_ref(self) -> ObjectRef:
        return ObjectRef(self.ref.namespace, self.graph.pool or "")

    @property
    def occupies_slot(self) -> bool:
        return not self.awaits and not self.released

    def is_waiting(self, worker_left_at: float) -> bool:
        """Whether it waits for children, or did until its worker left: with that, its stream of results ended."""
        if self.awaits:
            return True
        return self.waited_until is not None and abs(self.waited_until - worker_left_at) <= _AT_THE_SAME_TIME_SECONDS

    @property
    def is_tried(self) -> bool:
        """Whether nothing may be given to its worker besides."""
        return self.trial is not None and not self.is_cleared and self.occupies_slot

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


class _Nothing(dict[str, Any]):
    """What a finished run has in flight, one for all of them."""

    def _refuse(self, *_: object) -> NoReturn:
        raise RuntimeError("a finished run has nothing in flight")

    __setitem__ = setdefault = update = __ior__ = _refuse  # type: ignore[assignment]  # it stays empty


class _Nobody(set[Any]):
    """Who awaits a finished run."""

    def add(self, element: object) -> NoReturn:
        raise RuntimeError("a finished run is awaited by nobody: its end is told at once")


_NOTHING, _NOBODY = _Nothing(), _Nobody()


class RunRecord:
    """One run: the newest object, and what is in flight.

    Of a finished run the object is forgotten after a moment (`forget_object`): of these there are many, and few are
    asked for again. What is asked of them by the thousand stands beside the object: where it is in its tree, how it
    ended, and when it goes. Whoever needs more reads it (`Runs.read`).
    """

    __slots__ = (
        "_ended",
        "_run",
        "above_is_gone",
        "acks",
        "attempts",
        "awaited_by",
        "being_written",
        "cancelled",
        "children_told",
        "children_written_at",
        "conflicts",
        "counted_as",
        "expires_at",
        "finished_at",
        "gone",
        "graph",
        "is_deleting",
        "is_final",
        "is_labelled",
        "is_told",
        "may_be_out",
        "owner_uid",
        "parent_uid",
        "phase",
        "recheck",
        "recheck_due",
        "ref",
        "refused",
        "reports",
        "reruns",
        "ttl",
        "uid",
        "version",
        "waiting_told_at",
        "workflow",
        "writing",
    )

    def __init__(self, run: WorkflowRun) -> None:
        self.ref = ObjectRef(sys.intern(run.metadata.namespace), run.metadata.name)
        self.uid = run.metadata.uid
        self.workflow = sys.intern(run.spec.workflow)
        self.parent_uid = sys.intern(run.spec.parent.uid) if run.spec.parent else None
        self.graph: Graph | None = None  # pinned when the first step is queued
        self.attempts: dict[str, Attempt] = _NOTHING
        self.reports: dict[str, Report] = _NOTHING
        self.acks: dict[str, list[asyncio.Future[None]]] = _NOTHING
        self.awaited_by: set[ResultStream] = _NOBODY
        self.gone = False
        self.is_labelled = False  # with what its children are found by
        self._ended: asyncio.Event | None = None
        self.writing = False
        self.conflicts = 0  # status writes in a row that met a newer object
        self.being_written = NO_ATTEMPTS  # attempts whose reports the write under way speaks of
        self.may_be_out = False  # known from before a restart: a worker may have its steps
        self.above_is_gone = False  # a run above it was deleted, and garbage collection takes this one too
        self.children_written_at: datetime | None = None
        self.waiting_told_at: datetime | None = None
        self.recheck: asyncio.TimerHandle | None = None
        self.recheck_due = 0.0  # the loop's clock
        self.expires_at: float | None = None  # when its end is looked for, see `expiry`
        self.counted_as: Phase | None = None  # how its parent's tally has it
        self.take(run)

    def take(self, run: WorkflowRun) -> None:
        """Keep a newer state of the object."""
        self._run: WorkflowRun | None = run
        self.version = int(run.metadata.resource_version)
        self.refused = False  # the server took not even a small status; wait until the object changes
        self.phase = run.status.phase
        # Final, and not asked to be run again.
        self.is_final = run.status.phase.is_final and run.spec.reruns <= run.status.reruns
        self.is_told = False  # somebody who awaited it knows how it ended
        self.cancelled = run.spec.cancelled
        self.reruns = run.status.reruns
        self.is_deleting = run.metadata.deletion_timestamp is not None
        is_root = self.parent_uid is None  # the others go with their root
        self.finished_at = run.status.finished_at.timestamp() if is_root and run.status.finished_at else None
        self.ttl = run.spec.ttl if is_root else None
        self.children_told = run.status.children.numbers if run.status.children else None
        self.owner_uid = next((owner.uid for owner in run.metadata.owner_references if owner.controller), None)
        if self.owner_uid == self.parent_uid:
            self.owner_uid = self.parent_uid  # the same text, once
        if self.is_final:
            self.may_be_out = False
        elif self.attempts is _NOTHING:
            self.attempts, self.reports, self.acks, self.awaited_by = {}, {}, {}, set()

    @property
    def workflow_ref(self) -> ObjectRef:
        return ObjectRef(self.ref.namespace, self.workflow)

    def is_of(self, workflow: ObjectRef) -> bool:
        return self.workflow == workflow.name and self.ref.namespace == workflow.namespace

    @property
    def run(self) -> WorkflowRun:
        """The object; to be asked of unfinished runs only, and right after `Runs.read`."""
        if self._run is None:
            raise RuntimeError(f"the object of finished run {self.ref} is not in memory, and has to be read")
        return self._run

    @property
    def whole(self) -> WorkflowRun | None:
        """The object, if it is in memory."""
        return self._run

    @property
    def subject(self) -> WorkflowRun:
        """Something that events can be about."""
        metadata = ObjectMeta(name=self.ref.name, namespace=self.ref.namespace, uid=self.uid)
        return self._run or WorkflowRun(metadata=metadata, spec=RunSpec(workflow=self.workflow))

    def forget_object(self) -> bool:
        """Keep only what is asked of finished runs by the thousand; false: this one is not over yet."""
        if not self.is_final or self.writing or self.attempts or self.reports or self.acks or self.awaited_by:
            return False
        self._run = None
        self.attempts = self.reports = self.acks = _NOTHING
        self.awaited_by = _NOBODY
        return True

    def remember_object(self, run: WorkflowRun) -> None:
        """Have the object in memory again, as it was read."""
        self._run = run
        self.is_told = False

    def has_gone(self) -> None:
        """There is no such object any more."""
        self.gone = True
        if self._ended is not None:
            self._ended.set()

    async def until_gone(self) -> None:
        if not self.gone:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()


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
    """All runs, by name and by UID, which children each has, and which are not finished."""

    def __init__(self) -> None:
        self._by_ref: dict[ObjectRef, RunRecord] = {}
        self._by_uid: dict[str, RunRecord] = {}
        self._children: dict[str, set[RunRecord]] = {}
        self._unfinished: dict[ObjectRef, set[RunRecord]] = {}  # by workflow
        self._unfinished_children: dict[str, set[RunRecord]] = {}
        self._tallies: dict[str, Tally] = {}
        self._deleted = Tombstones()

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(list(self._by_ref.values()))

    def __len__(self) -> int:
        return len(self._by_ref)

    def get(self, ref: ObjectRef) -> RunRecord | None:
        return self._by_ref.get(ref)

    def find(self, namespace: str, run_id: str) -> RunRecord | None:
        """Return the run of a namespace that has this name, or this UID: clients have either."""
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

    def children_of(self, uid: str) -> list[RunRecord]:
        return list(self._children.get(uid, ()))

    def unfinished_children_of(self, uid: str) -> list[RunRecord]:
        return list(self._unfinished_children.get(uid, ()))

    def below(self, uid: str, *, through: Callable[[RunRecord], bool] = lambda record: True) -> Iterator[RunRecord]:
        """Yield all descendants, parents before children; those below a run only if ``through`` says so of it."""
        todo = self.children_of(uid)  # no recursion: a chain of children may be as long as it likes
        while todo:
            yield (record := todo.pop())
            if record.uid in self._children and through(record):
                todo += self._children[record.uid]

    def tally_of(self, uid: str) -> Tally | None:
        return self._tallies.get(uid)

    def was_deleted(self, uid: str) -> bool:
        return uid in self._deleted

    def put(self, run: WorkflowRun) -> RunRecord:
        """Keep a newer state of a run."""
        record = self._by_ref.get(run.ref)
        was_finished = record is not None and record.is_final
        if record is None:
            record = RunRecord(run)
            self._by_ref[record.ref] = self._by_uid[record.uid] = record
            if record.parent_uid is not None:
                self._children.setdefault(record.parent_uid, set()).add(record)
        else:
            record.take(run)
        if record.is_final:
            self._finish(record)
        elif was_finished or record.counted_as is None:
            self._begin(record)
        self._count(record, run.status.phase)
        return record

    def drop(self, record: RunRecord) -> None:
        self._by_ref.pop(record.ref, None)
        self._by_uid.pop(record.uid, None)
        self._deleted.add(record.uid)
        self._finish(record)
        self._count(record, None)
        parent = record.parent_uid
        if parent is not None and _discard(self._children, parent, record):
            self._tallies.pop(parent, None)

    def _begin(self, record: RunRecord) -> None:
        self._unfinished.setdefault(record.workflow_ref, set()).add(record)
        if record.parent_uid is not None:
            self._unfinished_children.setdefault(record.parent_uid, set()).add(record)

    def _finish(self, record: RunRecord) -> None:
        _discard(self._unfinished, record.workflow_ref, record)
        if record.parent_uid is not None:
            _discard(self._unfinished_children, record.parent_uid, record)

    def _count(self, record: RunRecord, phase: Phase | None) -> None:
        before, record.counted_as = record.counted_as, phase
        parent = record.parent_uid
        if parent is None or before is phase:
            return
        tally = self._tallies.setdefault(parent, Tally())
        if before is None:
            tally.total += 1
        else:
            tally.change(before, -1)
        if phase is None:
            tally.total -= 1
        else:
            tally.change(phase, 1)


K = TypeVar("K")


def _discard(index: dict[K, set[RunRecord]], key: K, record: RunRecord) -> bool:
    """Take a record out of an index; true: it was the last one under its key, which is gone too."""
    records = index.get(key)
    if records is None:
        return False
    records.discard(record)
    if records:
        return False
    del index[key]
    return True
