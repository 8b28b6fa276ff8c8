"""Reports why attempts wait: the first of each pool's queue on their runs, the whole queue on the pool.

    attempt waits or is assigned  ─► a look at the pool, a moment later ─┬─► runs that wait for a slot: one write each
              ▲                                                         └─► the pool's queued, running, slots, oldest
              └───────── again, while something waits or runs ◄──────────┘

Each report is a write, so a queue that moves is left alone, and of a long one only the first few are reported.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from hatchet_operator.decisions.waiting import PoolLoad, why_no_slot
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.queue import AttemptQueue
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workerpool import WorkerPool

log = logging.getLogger(__name__)

_TOLD_AT_ONCE = 20
_TOLD_WHILE_MOVING_AFTER = timedelta(seconds=10)
"""The reason is reported for an attempt that has waited this long, even though the queue ahead of it moves."""

_BUSY_SECONDS = 5.0
_QUIET_SECONDS = 15.0


class Waiting:
    """Looks at the pools that have work.

    Args:
        queue: The waiting attempts.
        workers_of: The workers of a pool, without those in pods that serve only one run.
        pool_of: The pool's object; None: it has none.
        tell: Has the runs of attempts reconciled, since their reason for waiting is known now.
        load_changed: Called with a pool's current load.
        told_after: Nothing is reported, and no pool looked at, before this time.
        clock: Tells the time.
    """

    def __init__(
        self,
        queue: AttemptQueue,
        *,
        workers_of: Callable[[ObjectRef], list[Worker]],
        pool_of: Callable[[ObjectRef], WorkerPool | None],
        tell: Callable[[list[Attempt]], None],
        load_changed: Callable[[ObjectRef, PoolLoad], None],
        told_after: timedelta,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._workers_of = workers_of
        self._pool_of = pool_of
        self._tell = tell
        self._load_changed = load_changed
        self._told_after = told_after
        self._clock = clock
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._look, failed=self._failed)
        self._assigned: dict[ObjectRef, int] = {}  # for pools being watched: how many attempts had been assigned

    def active(self, namespace: str, pool: str) -> None:
        """Look at a pool soon, unless that is scheduled already."""
        ref = ObjectRef(namespace, pool)
        if ref not in self._assigned:
            self._assigned[ref] = self._queue.assigned[namespace, pool]
            self._work.add_after(ref, self._told_after.total_seconds())

    def _failed(self, ref: ObjectRef, error: Exception) -> None:
        log.error("what waits for a pool not looked at", extra={"pool": str(ref)}, exc_info=error)
        self._assigned.pop(ref, None)  # until something waits there again

    def _look(self, ref: ObjectRef) -> None:
        first = self._queue.first_in(ref.namespace, ref.name, _TOLD_AT_ONCE, served=True)
        unserved = self._queue.first_in(ref.namespace, ref.name, _TOLD_AT_ONCE, served=False)
        load = self._load(ref, [*first, *unserved])
        assigned = self._queue.assigned[ref.namespace, ref.name]
        stands_still = assigned == self._assigned[ref]
        self._assigned[ref] = assigned
        told_after = self._told_after if stands_still else max(_TOLD_WHILE_MOVING_AFTER, self._told_after)
        self._say_why(ref, first, load, told_after)
        kept = self._queue.blocked_in(ref.namespace, ref.name, _TOLD_AT_ONCE)
        self._let_say_why([*unserved, *kept])
        self._load_changed(ref, load)
        if load.queued or load.running or kept:
            self._work.add_after(ref, _BUSY_SECONDS if load.queued or kept else _QUIET_SECONDS)
        else:
            del self._assigned[ref]

    def load_of(self, ref: ObjectRef) -> PoolLoad:
        """Return a pool's load at this moment."""
        firsts = [self._queue.first_in(ref.namespace, ref.name, 1, served=served) for served in (True, False)]
        return self._load(ref, [attempt for first in firsts for attempt in first])

    def _load(self, ref: ObjectRef, first: list[Attempt]) -> PoolLoad:
        workers = self._workers_of(ref)
        connected = [worker for worker in workers if worker.is_connected]
        return PoolLoad(
            queued=self._queue.waiting_for(ref.namespace, ref.name),
            running=sum(len(worker.assigned) for worker in workers),
            slots=sum(worker.slots for worker in connected),
            workers=len(connected),
            oldest=min((attempt.queued_at for attempt in first), default=None),
            trials=sum(any(suspect.is_tried for suspect in worker.suspects) for worker in connected),
        )

    def _say_why(self, ref: ObjectRef, first: list[Attempt], load: PoolLoad, told_after: timedelta) -> None:
        now, pool = self._clock.now(), self._pool_of(ref)
        told = []
        for before, attempt in enumerate(first):
            if attempt.busy is None and now - attempt.queued_at >= told_after:
                attempt.busy = why_no_slot(
                    ref.name,
                    load,
                    before=before,
                    pool=pool,
                    is_suspect=attempt.trial is not None,
                    only=attempt.bound_to.shown if attempt.bound_to else None,
                )
                told.append(attempt)
        self._tell(told)

    def _let_say_why(self, unserved: list[Attempt]) -> None:
        """Let runs report why they wait: other rooms may have learned the reason only since the last look."""
        now = self._clock.now()
        told = [attempt for attempt in unserved if now - attempt.queued_at >= self._told_after]
        for attempt in told:
            attempt.may_tell = True
        self._tell(told)

    async def stop(self) -> None:
        await self._work.stop()
