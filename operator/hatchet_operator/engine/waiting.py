"""Tells why attempts wait: the first of each pool's queue on their runs, all of the queue on the pool.

    attempt waits or is given out ─► a look at the pool, a moment later ─┬─► runs that wait for a slot: one write each
              ▲                                                         └─► the pool's queued, running, slots, oldest
              └───────── again, while something waits or runs ◄──────────┘

Each telling is a write, so a queue that moves is left alone, and of a long one the first few are told at a time.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from hatchet_operator.decisions.waiting import PoolLoad, why_no_slot
from hatchet_operator.engine.attempts import Clock
from hatchet_operator.engine.queue import AttemptQueue
from hatchet_operator.engine.records import Attempt
from hatchet_operator.engine.workers import Worker
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workerpool import WorkerPool

_TOLD_AT_ONCE = 20
_PATIENCE = timedelta(seconds=10)
"""An attempt that has waited so long is told why, though the queue before it moves."""

_BUSY_SECONDS = 5.0
_QUIET_SECONDS = 15.0


class Waiting:
    """Looks at the pools that have something to do.

    Args:
        queue: Whose attempts wait.
        workers_of: The workers of a pool, without those of pods that were made for one run.
        pool_of: The pool's object; None: nobody made one.
        tell: Has the runs of attempts looked at, whose reason to wait is known now.
        load_changed: Takes what a pool has to do.
        told_after: Nothing is told, and no pool looked at, before this.
        clock: The time.
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
        self._looks: dict[ObjectRef, asyncio.TimerHandle] = {}
        self._given: dict[ObjectRef, int] = {}  # how many attempts were given out at the last look

    def active(self, namespace: str, pool: str) -> None:
        """Look at a pool soon, unless that is on its way."""
        ref = ObjectRef(namespace, pool)
        if ref not in self._looks:
            self._given[ref] = self._queue.given[namespace, pool]
            self._look_after(ref, self._told_after.total_seconds())

    def _look_after(self, ref: ObjectRef, seconds: float) -> None:
        self._looks[ref] = asyncio.get_running_loop().call_later(seconds, self._look, ref)

    def _look(self, ref: ObjectRef) -> None:
        first = self._queue.first_in(ref.namespace, ref.name, _TOLD_AT_ONCE)
        load = self._load(ref, first)
        given = self._queue.given[ref.namespace, ref.name]
        stands_still = given == self._given[ref]
        self._given[ref] = given
        patience = self._told_after if stands_still else max(_PATIENCE, self._told_after)
        self._say_why(ref, first, load, patience)
        self._load_changed(ref, load)
        if load.queued or load.running:
            self._look_after(ref, _BUSY_SECONDS if load.queued else _QUIET_SECONDS)
        else:
            del self._looks[ref], self._given[ref]

    def _load(self, ref: ObjectRef, first: list[Attempt]) -> PoolLoad:
        workers = self._workers_of(ref)
        connected = [worker for worker in workers if worker.is_connected]
        return PoolLoad(
            queued=self._queue.waiting_for(ref.namespace, ref.name),
            running=sum(len(worker.out) for worker in workers),
            slots=sum(worker.slots for worker in connected),
            workers=len(connected),
            oldest=min((attempt.queued_at for attempt in first), default=None),
            trials=sum(any(suspect.is_tried for suspect in worker.suspects) for worker in connected),
        )

    def _say_why(self, ref: ObjectRef, first: list[Attempt], load: PoolLoad, patience: timedelta) -> None:
        now, pool = self._clock(), self._pool_of(ref)
        told = []
        before = 0  # of those that wait for a slot: nobody else is in the way
        for attempt in first:
            waited = now - attempt.queued_at
            if self._queue.is_offered(attempt):
                if attempt.busy is None and waited >= patience:
                    attempt.busy = why_no_slot(
                        ref.name, load, before=before, pool=pool, is_suspect=attempt.trial is not None
                    )
                    told.append(attempt)
                before += 1
            elif waited >= self._told_after:
                attempt.may_tell = True  # others know why no worker is there, perhaps only since the last look
                told.append(attempt)
        if told:
            self._tell(told)

    def stop(self) -> None:
        for look in self._looks.values():
            look.cancel()
