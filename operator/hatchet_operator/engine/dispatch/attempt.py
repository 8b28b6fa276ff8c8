"""An attempt: one try of one step, from the queue to its end."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import LiveAttempt
from hatchet_operator.decisions.placing import MOST_RELAXED, Needs, Requirement
from hatchet_operator.engine.limits.buckets import BucketNeeds
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.worker_labels import DesiredLabel, StickyWorker
from hatchet_operator.resources.workflow import StepDefinition

if TYPE_CHECKING:
    from hatchet_operator.engine.dispatch.lanes import Lane
    from hatchet_operator.engine.dispatch.sidings import Siding
    from hatchet_operator.engine.dispatch.worker import Worker

_AT_THE_SAME_TIME_SECONDS = 2.0


@dataclass(slots=True, eq=False, kw_only=True)
class Attempt:
    """An attempt that is queued (worker is None) or assigned."""

    id: str
    ref: ObjectRef
    step: StepDefinition
    number: int
    graph: Graph
    priority: int
    tree: str  # UID of the root of its run: slots are shared among trees
    is_root: bool
    queued_at: datetime
    desired: Mapping[str, DesiredLabel] | None = None  # worker labels
    required: tuple[Requirement, ...] = ()  # those that a worker must have to take it
    bound_to: StickyWorker | None = None  # the only worker that may take it
    preferred_worker: str | None = None  # id of the worker that its run sticks to
    of_run: "dict[str, Attempt]" = field(repr=False)  # all attempts that its run has in flight, by step
    run_uid: str | None = None  # set if the run's attempts go to pods of its own
    worker: "Worker | None" = None
    started_at: datetime | None = None
    deadline: datetime | None = None
    cancel_sent_at: datetime | None = None
    busy: str | None = None  # why it gets no slot, once that has lasted a while
    may_tell: bool = False  # it is among the first that wait: its run may say why there is no worker
    due: float = 0.0  # its place among the attempts of its priority, see `shares`
    lane: "Lane | None" = field(default=None, repr=False)  # where it waits
    place: int | None = None  # its number there; its other entries in the heap are stale and skipped
    units: BucketNeeds = field(default=(), repr=False)  # units of rate limits that it takes
    siding: "Siding | None" = field(default=None, repr=False)  # where it waits while limits block it, if it takes any
    stands_at: tuple[float, int] | None = None  # its place there
    is_aside: bool = False  # it waits there, and not in a lane
    unblocked_at: datetime | None = None  # since when no limit has blocked it
    sent: bool = False  # handed to the worker's stream
    starts: int = 0  # how often its worker said STARTED; see Worker.has_begun
    awaits: set[ObjectRef] = field(default_factory=set)  # its own unfinished children that it awaits
    released: bool = False  # the step gave its slot back
    waited_until: float | None = None  # loop time: its worker's stream of results ended while it awaited some
    trial: timedelta | None = None  # it may have killed its last worker, and runs in isolation for this long
    relaxed: int = 0  # how many of `TRIAL_WAITS` are over: each widens the choice of workers for its trial
    is_cleared: bool = False  # its trial is over
    timer: asyncio.TimerHandle | None = None  # fires at the end of each of `TRIAL_WAITS`, and then of its trial

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller may report on it: only the worker that it was assigned to.

        While it is in the queue, a worker outside a Pod may still have it from before a restart.
        """
        if self.worker is not None:
            return self.worker.is_of(caller)
        return caller.pod_uid is None and caller.pool_ref == self.pool_ref

    @property
    def pool_ref(self) -> ObjectRef:
        return ObjectRef(self.ref.namespace, self.graph.pool or "")

    @property
    def needs(self) -> Needs:
        """What it needs from a worker."""
        suspicion = None if self.trial is None else min(self.relaxed, MOST_RELAXED)
        return Needs(self.is_root, suspicion, self.required, self.bound_to.id if self.bound_to else None)

    @property
    def occupies_slot(self) -> bool:
        return not self.awaits and not self.released

    def is_waiting(self, worker_left_at: float) -> bool:
        """Whether it waits for children, or did until its worker left, which ended its stream of results."""
        if self.awaits:
            return True
        return self.waited_until is not None and abs(self.waited_until - worker_left_at) <= _AT_THE_SAME_TIME_SECONDS

    @property
    def is_tried(self) -> bool:
        """Whether it is on trial, so that its worker may get nothing else."""
        return self.trial is not None and not self.is_cleared and self.occupies_slot

    def change_slot(self, change: Callable[[], None]) -> None:
        """Apply a change that may free or take the slot, and keep the worker's count correct."""
        before = self.occupies_slot
        change()
        if self.worker is not None and self.id in self.worker.assigned:
            self.worker.occupied += self.occupies_slot - before

    def live(self) -> LiveAttempt | None:
        """Return what decisions may know about it while it is assigned."""
        if self.worker is None or self.started_at is None or self.deadline is None:
            return None
        return LiveAttempt(
            id=self.id,
            worker=self.worker.shown_name,
            started_at=self.started_at,
            deadline=self.deadline,
            cancel_sent_at=self.cancel_sent_at,
        )
