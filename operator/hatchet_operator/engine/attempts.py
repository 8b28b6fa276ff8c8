"""Attempts, from the wish to the end.

    make ─► queue ─┬─► give ─┬─► left: its worker reported an end, and has the slot for another
                   │         └─► take_back: its worker is told to stop
                   └─► take_back: nobody gets it

Which attempts are wanted, and what their ends mean, is decided in `runs`; here they only move.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.losses import PATIENCE, trial_of
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.queue import AttemptQueue, OnActivity, OnDemand
from hatchet_operator.engine.records import Attempt, RunRecord
from hatchet_operator.engine.workers import CancelCommand, StartCommand, Worker
from hatchet_operator.resources.reasons import Execution

Clock = Callable[[], datetime]

_REMEMBERED = 1000


class Attempts(Mapping[str, Attempt]):
    """All attempts that are wanted, in the queue or out, by their ids.

    Args:
        given: Called with an attempt that a worker just got, and when it began.
        unserved: Called with the attempts that no connected worker could take any more.
        told_to_stop: Called with a worker, an attempt that it was told to stop, and when.
        on_demand, on_activity: As of `AttemptQueue`.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        clock: Clock,
        given: Callable[[Attempt, datetime], None],
        unserved: Callable[[list[Attempt]], None],
        told_to_stop: Callable[[Worker, str, datetime], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._given = given
        self._by_id: dict[str, Attempt] = {}
        self.queue = AttemptQueue(assign=self._assign, unserved=unserved, on_demand=on_demand, on_activity=on_activity)
        self._over: deque[Attempt] = deque(maxlen=_REMEMBERED)
        self.told_to_stop = told_to_stop

    def __getitem__(self, identity: str) -> Attempt:
        return self._by_id[identity]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def make(self, record: RunRecord, graph: Graph, step: str, identity: str, now: datetime) -> Attempt:
        """Keep a new attempt, neither queued nor out yet."""
        definition = graph.step(step)
        assert definition is not None, "an attempt is wanted of a step of the graph"
        state = record.run.status.steps.get(step)
        attempt = Attempt(
            id=identity,
            ref=record.ref,
            step=definition,
            number=state.attempt if state else 0,
            graph=graph,
            priority=record.run.spec.priority or graph.priority,
            is_root=record.run.spec.parent is None,
            queued_at=now,
            run_uid=record.uid if graph.execution is Execution.POD else None,
            trial=trial_of(state) if state else None,
        )
        record.attempts[step] = attempt
        self._by_id[identity] = attempt
        return attempt

    def enqueue(self, attempt: Attempt, now: datetime) -> None:
        """Give an attempt to a worker at once, or keep it until one may have it."""
        self.queue.add(attempt, now)
        if attempt.trial is not None and attempt.worker is None:
            self._later(PATIENCE[0], self._grow_impatient, attempt)

    def _grow_impatient(self, attempt: Attempt) -> None:
        if attempt.impatience + 1 < len(PATIENCE):
            self._later(PATIENCE[attempt.impatience + 1], self._grow_impatient, attempt)
        self.queue.grow_impatient(attempt)

    def _assign(self, attempt: Attempt, worker: Worker) -> None:
        now = self._clock()
        self.give(attempt, worker, started_at=now)
        self._metrics.start_delay.observe((now - attempt.queued_at).total_seconds())
        worker.send(StartCommand(attempt))

    def give(self, attempt: Attempt, worker: Worker, *, started_at: datetime) -> None:
        """Note that a worker has an attempt, whether it was sent it now or has it since before."""
        attempt.started_at, attempt.deadline = started_at, started_at + attempt.step.timeout
        worker.take(attempt)
        if attempt.trial is not None:
            self._later(started_at + attempt.trial - self._clock(), self._clear, attempt)
        self._given(attempt, started_at)

    def let_run_longer(self, by: timedelta) -> None:
        """Move the deadlines of all attempts that are out: somebody looks into a step."""
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
        """It has run for longer than when its worker died: others may run beside it."""
        attempt.is_cleared = True
        if attempt.worker is not None:
            self.queue.fill(attempt.worker)

    def take_back(self, record: RunRecord, attempt: Attempt) -> None:
        """An attempt that is not wanted any more: out of the queue, or told to stop."""
        self.forget(record, attempt)
        worker = attempt.worker
        if worker is not None and attempt.id in worker.out:
            self.tell_cancel(attempt)
            self.told_to_stop(worker, attempt.id, attempt.cancel_sent_at or self._clock())
        self.left(attempt)

    def leave_queue(self, record: RunRecord) -> None:
        """A run that is about to end takes no slot, which others of its tree give back until it has."""
        for attempt in [attempt for attempt in record.attempts.values() if attempt.worker is None]:
            self.take_back(record, attempt)

    def forget(self, record: RunRecord, attempt: Attempt) -> None:
        """Nothing is wanted of it any more; its worker may still have it."""
        self._stop_timer(attempt)
        record.attempts.pop(attempt.step.name, None)
        if self._by_id.pop(attempt.id, None) is not None and attempt.worker is not None:
            self._over.append(attempt)

    def over(self, identity: str) -> Attempt | None:
        """Return an attempt of which nothing is wanted any more, if it was one of the last: its lines come late."""
        return next((attempt for attempt in reversed(self._over) if attempt.id == identity), None)

    def left(self, attempt: Attempt) -> None:
        """It is in the queue no more, and its worker does nothing for it."""
        if attempt.worker is None:
            self.queue.withdraw(attempt)
        elif attempt.id in attempt.worker.out:
            attempt.worker.leave(attempt)
            self.queue.fill(attempt.worker)

    def tell_cancel(self, attempt: Attempt) -> None:
        if attempt.worker is not None:
            attempt.worker.send(
                CancelCommand(
                    attempt_id=attempt.id, run=attempt.ref.name, step=attempt.step.name, retry_count=attempt.number
                )
            )
