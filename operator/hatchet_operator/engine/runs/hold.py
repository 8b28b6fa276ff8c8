"""After a start, keeps runs from before it on hold until workers have said which attempts they have.

Which workers are awaited is up to `workers.rejoin`, and which runs wait for which worker, to `decisions.held_runs`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.claims import Loss
from hatchet_operator.decisions.held_runs import Missing, WaitingRun, possible_worker_of, waiting_run
from hatchet_operator.decisions.observed import Report, current_attempt_id
from hatchet_operator.decisions.rejoining import KnownWorker, RejoinTimeouts, say_who_is_awaited
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.definitions import Definitions
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import NotReady
from hatchet_operator.resources.names import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """Workers from before the start that have not said yet what they have.

    Attributes:
        missing: Which steps they may have.
        by_pool: One of each pool that has some.
        timeouts: How long each is awaited.
    """

    missing: Missing
    by_pool: Mapping[ObjectRef, KnownWorker]
    timeouts: RejoinTimeouts


class Hold:
    """Keeps runs on hold: their steps are not assigned while a worker from before the start may have them.

    Args:
        store: All runs.
        definitions: What they execute.
        clock: Tells the time.
        requeue_all: Has runs reconciled.
    """

    def __init__(
        self,
        store: RunStore,
        definitions: Definitions,
        *,
        clock: Clock,
        requeue_all: Callable[[Iterable[RunRecord]], None],
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._clock = clock
        self._requeue_all = requeue_all
        self.is_on = True  # after a start, until workers said what they have
        self.awaited: Awaited | None = None
        """The workers that are awaited; None until that takes long enough to be worth a write."""

    def holds(self, record: RunRecord) -> bool:
        """Whether a run is on hold: a worker from before the start may have steps of it."""
        return self.is_on and record.may_be_assigned

    def may_have_unclaimed(self, caller: Caller, record: RunRecord) -> bool:
        """Whether the caller may report on an attempt that was assigned, if at all, before a restart.

        Raises:
            NotReady: It is a Pod that has not said yet which attempts it has; once it has, this is known.
        """
        if caller.pod_uid is not None and self.holds(record):
            raise NotReady("this operator has just started; listen first, to say which attempts this worker has")
        return caller.pod_uid is None and self._definitions.may_have(caller.pool_ref, record)

    def waiting_run(self, record: RunRecord) -> WaitingRun:
        """Return which steps of a run from before the start a worker may have."""
        graph, claimed = self._definitions.graph_of(record), record.attempts.keys()
        return waiting_run(record.run, graph, claimed=claimed, now=self._clock.now())

    def waiting(self) -> list[RunRecord]:
        """Return the runs that are on hold."""
        return [record for record in self._store.unfinished() if record.may_be_assigned]

    def told_of(self, record: RunRecord) -> str | None:
        """Say which worker a run waits for, if that takes long enough to be worth a write.

        If its assignments are not persisted, only a root says it: children are many, and people look at parents.
        """
        if self.awaited is None or not self.holds(record):
            return None
        run = self.waiting_run(record)
        worker = possible_worker_of(run, self.awaited.missing)
        if not isinstance(worker, KnownWorker):
            return None
        is_looked_at = record.parent_uid is None or worker.name in run.persisted_workers
        return say_who_is_awaited(worker, self.awaited.timeouts) if is_looked_at else None

    def told_of_pool(self, pool: ObjectRef) -> str | None:
        """Say which workers are awaited in a pool, if that takes long enough to be worth a write."""
        worker = self.awaited.by_pool.get(pool) if self.awaited is not None else None
        return say_who_is_awaited(worker, self.awaited.timeouts) if self.awaited and worker is not None else None

    def release(self, free: Mapping[RunRecord, Mapping[str, Loss]]) -> None:
        """Release runs that waited for workers to say what they have.

        Args:
            free: The runs that need no longer wait, each with the losses of steps that no worker will finish.
        """
        self.is_on = any(record not in free for record in self.waiting())
        for record, losses in free.items():
            record.may_be_assigned = False
            self._assign_again(record, losses)
        self._requeue_all(list(free))

    def _assign_again(self, record: RunRecord, losses: Mapping[str, Loss]) -> None:
        """Report steps that no worker will finish as lost, and reassign them under another id; that costs a write.

        What was assigned a moment before the old operator ended is not persisted, and usually it is unknown to whom.
        It is assigned again under the same id: from then on, only the worker that now has it may report on it.
        """
        for step, loss in losses.items():
            state = record.run.status.steps.get(step)
            if step not in record.attempts and (state is None or not state.phase.is_final):
                identity = current_attempt_id(record.run, step)
                report = Report(attempt_id=identity, outcome=loss.outcome, at=self._clock.now(), error=loss.why)
                record.reports.setdefault(step, report)

    def requeue_held(self) -> None:
        """Requeue the runs that wait for workers to say what they have, as there is something to report on them."""
        self._requeue_all(self.waiting())
