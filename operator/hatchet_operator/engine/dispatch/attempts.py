"""Attempts, from being wanted to the end.

    keep ─► queue ─┬─► assign ─┬─► left: its worker reported an end, and its slot is free again
                   │         └─► take_back: its worker is told to stop
                   └─► take_back: no worker gets it

Which attempts are wanted, and what follows from their ends, is decided in `runs`; here they only change places.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from hatchet_operator.decisions.losses import TRIAL_WAITS
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.queue import AttemptQueue, OnActivity, OnDemand
from hatchet_operator.engine.dispatch.worker import CancelCommand, StartCommand, Worker
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.engine.metrics import Metrics

_REMEMBERED = 1000


class Attempts(Mapping[str, Attempt]):
    """All attempts that are wanted, queued or assigned, by their ids.

    Args:
        assigned: Called with an attempt that was just assigned to a worker, and when it began.
        unserved: Called with the attempts that no connected worker can take now.
        told_to_stop: Called with a worker, an attempt that it was told to stop, and when.
        on_demand, on_activity, buckets: See `AttemptQueue`.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        clock: Clock,
        assigned: Callable[[Attempt, datetime], None],
        unserved: Callable[[list[Attempt]], None],
        told_to_stop: Callable[[Worker, str, datetime], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
        buckets: Buckets,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._assigned = assigned
        self._by_id: dict[str, Attempt] = {}
        self.queue = AttemptQueue(
            assign=self._dispatch, unserved=unserved, on_demand=on_demand, on_activity=on_activity, buckets=buckets
        )
        self._over: deque[Attempt] = deque(maxlen=_REMEMBERED)
        self.told_to_stop = told_to_stop

    def __getitem__(self, identity: str) -> Attempt:
        return self._by_id[identity]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def keep(self, attempt: Attempt) -> None:
        """Keep a new attempt, which is neither queued nor assigned yet."""
        attempt.of_run[attempt.step.name] = attempt
        self._by_id[attempt.id] = attempt

    def enqueue(self, attempt: Attempt, now: datetime) -> None:
        """Assign an attempt to a worker at once, or keep it until one may have it."""
        self.queue.add(attempt, now)
        if attempt.trial is not None and attempt.worker is None:
            self._later(TRIAL_WAITS[0], self._relax, attempt)

    def _relax(self, attempt: Attempt) -> None:
        if attempt.relaxed + 1 < len(TRIAL_WAITS):
            self._later(TRIAL_WAITS[attempt.relaxed + 1], self._relax, attempt)
        self.queue.relax(attempt, self._clock.now())

    def _dispatch(self, attempt: Attempt, worker: Worker) -> None:
        now = self._clock.now()
        self.assign(attempt, worker, started_at=now)
        self._metrics.start_delay.observe((now - attempt.queued_at).total_seconds())
        if attempt.units and attempt.unblocked_at is not None:
            self._metrics.limited_seconds.observe(max((attempt.unblocked_at - attempt.queued_at).total_seconds(), 0.0))
        worker.send(StartCommand(attempt))

    def assign(self, attempt: Attempt, worker: Worker, *, started_at: datetime) -> None:
        """Note that a worker has an attempt, either from now on or, by its claim after a restart, since before."""
        attempt.started_at, attempt.deadline = started_at, started_at + attempt.step.timeout
        worker.take(attempt)
        if attempt.trial is not None:
            self._later(started_at + attempt.trial - self._clock.now(), self._clear, attempt)
        self._assigned(attempt, started_at)

    def let_run_longer(self, by: timedelta) -> None:
        """Extend the deadlines of all assigned attempts: somebody is debugging a step."""
        for attempt in self._by_id.values():
            if attempt.deadline is not None:
                attempt.deadline += by

    def _later(self, delay: timedelta, what: Callable[[Attempt], None], attempt: Attempt) -> None:
        self._stop_timer(attempt)
        attempt.timer = asyncio.get_running_loop().call_later(max(delay.total_seconds(), 0.0), what, attempt)

    @staticmethod
    def _stop_timer(attempt: Attempt) -> None:
        if attempt.timer is not None:
            attempt.timer.cancel()
            attempt.timer = None

    def stop(self) -> None:
        for attempt in self._by_id.values():
            self._stop_timer(attempt)

    def _clear(self, attempt: Attempt) -> None:
        """End an attempt's trial, as it ran for longer than when its worker died: others may run beside it."""
        attempt.is_cleared = True
        if attempt.worker is not None:
            self.queue.fill(attempt.worker)

    def take_back(self, attempt: Attempt) -> None:
        """Withdraw an attempt that is no longer wanted: remove it from the queue, or tell its worker to stop it."""
        self.forget(attempt)
        worker = attempt.worker
        if worker is not None and attempt.id in worker.assigned:
            self.tell_cancel(attempt)
            self.told_to_stop(worker, attempt.id, attempt.cancel_sent_at or self._clock.now())
        self.left(attempt)

    def leave_queue(self, attempts: Mapping[str, Attempt]) -> None:
        """Dequeue the attempts of a run that is about to end, so that they take no slot that runs of its tree free."""
        for attempt in [attempt for attempt in attempts.values() if attempt.worker is None]:
            self.forget(attempt)
            self.queue.withdraw(attempt)

    def forget(self, attempt: Attempt) -> None:
        """Drop an attempt that is no longer wanted from the records; its worker may still execute it."""
        if attempt.timer is not None:
            self._stop_timer(attempt)
        attempt.of_run.pop(attempt.step.name, None)
        if self._by_id.pop(attempt.id, None) is not None and attempt.worker is not None:
            self._over.append(attempt)

    def over(self, identity: str) -> Attempt | None:
        """Return a recently forgotten attempt, whose log lines may still arrive."""
        return next((attempt for attempt in reversed(self._over) if attempt.id == identity), None)

    def left(self, attempt: Attempt) -> None:
        """Note that an attempt is no longer queued, and that no worker has it."""
        if attempt.worker is None:
            self.queue.withdraw(attempt)
        elif attempt.id in attempt.worker.assigned:
            attempt.worker.leave(attempt, at=self._clock.loop_time())
            self.queue.fill(attempt.worker)

    def slot_changed(self, attempt: Attempt) -> None:
        """Note that an attempt's worker may have one free slot more or less."""
        known = self._by_id.get(attempt.id)
        if known is not None and known.worker is not None:
            self.queue.fill(known.worker)

    def tell_cancel(self, attempt: Attempt) -> None:
        """Tell the worker that has an attempt to stop it; its report still counts."""
        if attempt.worker is not None:
            attempt.worker.send(
                CancelCommand(
                    attempt_id=attempt.id, run=attempt.ref.name, step=attempt.step.name, retry_count=attempt.number
                )
            )
