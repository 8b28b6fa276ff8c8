"""What the operator remembers. Nothing here is the source of truth: all of it is rebuilt from objects and workers.

The objects of this module are mutable and live in one event loop; each change is made without an await in between.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, Protocol

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import Report
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.resources.base import Json, ObjectMeta
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunSpec, WorkflowRun


class Listener(Protocol):
    """A client that awaits runs, and is told of each one's end once."""

    caller: Caller

    def finished(self, record: "RunRecord") -> None: ...

    def deleted(self, record: "RunRecord") -> None: ...


class _Nothing(dict[str, Any]):
    """What a finished run has in flight: always empty, and shared by all of them."""

    def _refuse(self, *_: object) -> NoReturn:
        raise RuntimeError("a finished run has nothing in flight")

    __setitem__ = setdefault = update = __ior__ = _refuse  # type: ignore[assignment]  # it stays empty


class _Nobody(set[Any]):
    """The listeners of a finished run: always empty."""

    def add(self, element: object) -> NoReturn:
        raise RuntimeError("a finished run is awaited by nobody: its end is told at once")


_NOTHING, _NOBODY = _Nothing(), _Nobody()


@dataclass(slots=True, eq=False)
class Light:
    """What a light run has instead of an object, until its first status makes one.

    Attributes:
        body: What the object will be made of.
        must_be_recorded: It needs the object now, whatever its status is.
        lost: Why it can't be made; "": nothing is known to be in its way.
        is_over: Set once there is an object, or there will be none.
    """

    body: Json
    must_be_recorded: bool = False
    lost: str = ""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class RunRecord:
    """One run: the newest object, and what is in flight.

    A finished run's object is forgotten after a moment (`forget_object`): there are many of these, and few are
    requested again. What is looked up for thousands of them is kept beside the object: its place in its tree, its
    age, how it ended, and when it expires. Callers that need more read the object (`Runs.read`).
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
        "created_at",
        "expires_at",
        "finished_at",
        "gone",
        "graph",
        "is_deleting",
        "is_final",
        "is_labelled",
        "is_told",
        "light",
        "may_be_assigned",
        "owner_uid",
        "parent_uid",
        "phase",
        "ref",
        "refused",
        "reports",
        "reruns",
        "ttl",
        "uid",
        "version",
        "waiting_told_at",
        "workflow",
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
        self.awaited_by: set[Listener] = _NOBODY
        self.gone = False
        self.is_labelled = False  # with the label by which its children are found
        self._ended: asyncio.Event | None = None
        self.conflicts = 0  # consecutive status writes that met a newer object
        self.being_written: frozenset[str] | None = None  # attempts whose reports are in the write in flight
        self.light: Light | None = None  # of one without an object so far
        self.may_be_assigned = False  # known from before a restart: a worker may have its steps
        self.above_is_gone = False  # a run above it was deleted, and garbage collection deletes this one too
        self.children_written_at: datetime | None = None
        self.waiting_told_at: datetime | None = None
        self.expires_at: float | None = None  # when to check whether it has expired, see `expiry`
        self.counted_as: Phase | None = None  # its phase in its parent's tally
        self.reruns = run.status.reruns
        self.take(run)

    def take(self, run: WorkflowRun) -> None:
        """Keep a newer state of the object."""
        self._run: WorkflowRun | None = run
        self.version = int(run.metadata.resource_version)
        created = run.metadata.creation_timestamp
        self.created_at = created.timestamp() if created is not None else 0.0
        self.refused = False  # the server did not accept even a small status; wait until the object changes
        self.phase = run.status.phase
        # Final, and no replay was requested.
        self.is_final = run.status.phase.is_final and run.spec.reruns_wanted <= run.status.reruns
        self.is_told = False  # a client that awaited it knows how it ended
        self.cancelled = run.spec.cancelled
        if self.reruns != run.status.reruns:
            self.reruns, self.graph = run.status.reruns, None  # each execution has the definition of its own time
        self.is_deleting = run.metadata.deletion_timestamp is not None
        is_root = self.parent_uid is None  # the others are deleted with their root
        self.finished_at = run.status.finished_at.timestamp() if is_root and run.status.finished_at else None
        self.ttl = run.spec.ttl if is_root else None
        self.children_told = run.status.children.numbers if run.status.children else None
        self.owner_uid = next((owner.uid for owner in run.metadata.owner_references if owner.controller), None)
        if self.owner_uid == self.parent_uid:
            self.owner_uid = self.parent_uid  # the same text, once
        if self.is_final:
            self.may_be_assigned = False
        elif self.attempts is _NOTHING:
            self.attempts, self.reports, self.acks, self.awaited_by = {}, {}, {}, set()

    @property
    def writing(self) -> bool:
        """Whether its status is being written."""
        return self.being_written is not None

    def is_being_written(self, attempt_id: str) -> bool:
        """Whether the write in flight includes a report of this attempt."""
        return self.being_written is not None and attempt_id in self.being_written

    @property
    def workflow_ref(self) -> ObjectRef:
        return ObjectRef(self.ref.namespace, self.workflow)

    def is_of(self, workflow: ObjectRef) -> bool:
        return self.workflow == workflow.name and self.ref.namespace == workflow.namespace

    @property
    def run(self) -> WorkflowRun:
        """The object; available only for unfinished runs, and right after `Runs.read`."""
        if self._run is None:
            raise RuntimeError(f"the object of finished run {self.ref} is not in memory, and has to be read")
        return self._run

    @property
    def whole(self) -> WorkflowRun | None:
        """The object, if it is in memory."""
        return self._run

    @property
    def subject(self) -> WorkflowRun:
        """An object that events can refer to."""
        metadata = ObjectMeta(name=self.ref.name, namespace=self.ref.namespace, uid=self.uid)
        return self._run or WorkflowRun(metadata=metadata, spec=RunSpec(workflow=self.workflow))

    def forget_object(self) -> bool:
        """Keep only what is looked up for thousands of finished runs; false: this one is not over yet."""
        if not self.is_final or self.writing or self.attempts or self.reports or self.acks or self.awaited_by:
            return False
        self._run = None
        self.attempts = self.reports = self.acks = _NOTHING
        self.awaited_by = _NOBODY
        return True

    def remember_object(self, run: WorkflowRun) -> None:
        """Keep the object in memory again, as it was read."""
        self._run = run
        self.is_told = False

    def mark_gone(self) -> None:
        """Note that the object no longer exists, and wake what waits for that."""
        self.gone = True
        if self.light is not None:
            self.light.is_over.set()
        if self._ended is not None:
            self._ended.set()

    async def until_gone(self) -> None:
        if not self.gone:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
