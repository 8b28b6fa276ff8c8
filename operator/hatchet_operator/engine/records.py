"""What the operator remembers. Nothing here is the truth: all of it is rebuilt from objects and from workers.

The objects of this module are mutable and live in one event loop; whoever changes one does it between two awaits.
"""

import asyncio
import sys
import zlib
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
    confirmed: bool = False  # the worker said that it has begun
    awaits: set[ObjectRef] = field(default_factory=set)  # own unfinished children that it awaits
    released: bool = False  # the step gave its slot back

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


class RunRecord:
    """One run: the newest object, and what is in flight.

    What is asked of runs by the thousand stands beside the object, since one that is packed has to be read first.
    """

    __slots__ = (
        "_ended",
        "_packed",
        "_run",
        "above_is_gone",
        "acks",
        "attempts",
        "awaited_by",
        "being_written",
        "children_written_at",
        "conflicts",
        "counted_as",
        "gone",
        "graph",
        "is_final",
        "is_labelled",
        "may_be_out",
        "owner_uid",
        "parent_uid",
        "recheck",
        "recheck_due",
        "ref",
        "refused",
        "reports",
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
        self.attempts: dict[str, Attempt] = {}
        self.reports: dict[str, Report] = {}
        self.acks: dict[str, list[asyncio.Future[None]]] = {}
        self.awaited_by: set[ResultStream] = set()
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
        self.counted_as: Phase | None = None  # how its parent's tally has it
        self.take(run)

    def take(self, run: WorkflowRun) -> None:
        """Keep a newer state of the object."""
        self._run: WorkflowRun | None = run
        self._packed = b""
        self.version = int(run.metadata.resource_version)
        self.refused = False  # the server took not even a small status; wait until the object changes
        # Final, and not asked to be run again.
        self.is_final = run.status.phase.is_final and run.spec.reruns <= run.status.reruns
        self.owner_uid = next((owner.uid for owner in run.metadata.owner_references if owner.controller), None)
        if self.owner_uid == self.parent_uid:
            self.owner_uid = self.parent_uid  # the same text, once

    @property
    def run(self) -> WorkflowRun:
        return self._run or self._read()

    def _read(self) -> WorkflowRun:
        return WorkflowRun.model_validate_json(zlib.decompress(self._packed))

    @property
    def is_packed(self) -> bool:
        return self._run is None

    def pack(self) -> None:
        """Keep the object as its compressed text, a twentieth of what it takes else; reading it costs some 30 us."""
        if not self._packed:
            self._packed = zlib.compress(self.run.model_dump_json(by_alias=True, exclude_defaults=True).encode(), 1)
        self._run = None

    def unpack(self) -> None:
        """Read the object once for many questions."""
        self._run = self.run

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

    def below(self, uid: str, *, through: Callable[[RunRecord], bool] = lambda record: True) -> Iterator[RunRecord]:
        """Yield all descendants, parents before children; those below a run only if ``through`` says so of it."""
        todo = self.children_of(uid)  # no recursion: a chain of children may be as long as it likes
        while todo:
            yield (record := todo.pop())
            if through(record):
                todo += self.children_of(record.uid)

    def tally_of(self, uid: str) -> Tally | None:
        return self._tallies.get(uid)

    def was_deleted(self, uid: str) -> bool:
        return uid in self._deleted

    def put(self, run: WorkflowRun) -> RunRecord:
        """Keep a newer state of a run."""
        record = self._by_ref.get(run.ref)
        if record is None:
            record = RunRecord(run)
            self._by_ref[record.ref] = self._by_uid[record.uid] = record
            if record.parent_uid is not None:
                self._children.setdefault(record.parent_uid, set()).add(record.ref)
        else:
            record.take(run)
        self._count(record, run.status.phase)
        return record

    def drop(self, record: RunRecord) -> None:
        self._by_ref.pop(record.ref, None)
        self._by_uid.pop(record.uid, None)
        self._deleted.add(record.uid)
        self._count(record, None)
        parent = record.parent_uid
        if parent is not None and (siblings := self._children.get(parent)) is not None:
            siblings.discard(record.ref)
            if not siblings:
                del self._children[parent]
                self._tallies.pop(parent, None)

    def _count(self, record: RunRecord, phase: Phase | None) -> None:
        parent = record.parent_uid
        if parent is None or record.counted_as is phase:
            return
        tally = self._tallies.setdefault(parent, Tally())
        if record.counted_as is None:
            tally.total += 1
        else:
            tally.by_phase[record.counted_as] -= 1
        if phase is None:
            tally.total -= 1
        else:
            tally.by_phase[phase] = tally.by_phase.get(phase, 0) + 1
        record.counted_as = phase
