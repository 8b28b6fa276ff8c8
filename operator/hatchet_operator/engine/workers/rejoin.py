"""After a start: which workers may still have earlier steps, and the runs that wait until that is known.

How long each worker is awaited is decided in `decisions.rejoining`, which runs wait for it in `held_runs`, and what
is lost with one that does not return in `claims`.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from hatchet_operator.decisions.claims import Answers, ClaimState, Loss, WorkerName, loss_by_death, losses_of
from hatchet_operator.decisions.held_runs import Missing, possible_worker_of
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.pooling import address_of, is_ours
from hatchet_operator.decisions.rejoining import (
    KnownWorker,
    Reach,
    RejoinTimeouts,
    plan_rejoin,
    why_ended,
)
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.runs.hold import Awaited, Hold
from hatchet_operator.engine.workers.handover import HandedOver
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.25


class Rejoin:
    """Waits for the workers that were registered before the start.

    Args:
        hold: Keeps the runs that wait for them on hold.
        timeouts: How long each worker has.
        tell_after: Waiting that lasts longer is reported.
        clock: Tells the time.
        workers: All that are known.
        runs_on: Whether the container of a worker still runs, as far as its Pod says.
        reach_of: How the worker in a Pod finds this operator.
        end_pod: Ends a Pod of a pool, and says why.
        on_change: Called with a pool when the workers awaited there change, or when that is reported.
    """

    def __init__(
        self,
        *,
        hold: Hold,
        timeouts: RejoinTimeouts,
        tell_after: timedelta,
        clock: Clock,
        workers: Workers,
        runs_on: Callable[[Worker, Pod | None], bool],
        reach_of: Callable[[Pod], Reach],
        end_pod: Callable[[ObjectRef, Pod, str], None],
        on_change: Callable[[ObjectRef], None],
    ) -> None:
        self._hold = hold
        self._timeouts = timeouts
        self._tell_after = tell_after
        self._clock = clock
        self._workers = workers
        self._runs_on = runs_on
        self._reach_of = reach_of
        self._end_pod = end_pod
        self._on_change = on_change
        self._handed_over: HandedOver | None = None
        self._begun_at: float | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._looks_at = 0.0  # loop time
        self._given_up: set[str] = set()  # worker ids
        self._ending: dict[str, tuple[str, float]] = {}  # worker id -> why its Pod was ended, and when
        self._lost: dict[WorkerName, Loss] = {}  # of workers that will not finish their steps
        self._lost_steps: dict[str, dict[str, Loss]] = {}  # by run uid and step: what was not persisted
        self._missing = Missing()
        self._awaited: dict[ObjectRef, KnownWorker] = {}
        self._told = False

    @property
    def is_waiting(self) -> bool:
        """Whether it is still unknown what workers from before the start have."""
        return self._look_again is not None

    def waits_for(self, worker: Worker) -> bool:
        """Whether a worker's silence is not yet a sign of its death."""
        return self.is_waiting and self._is_awaited(worker)

    def begin(self, handed_over: HandedOver | None) -> None:
        """Wait for workers from now on: runs and Pods are known, and workers can be heard.

        Args:
            handed_over: What the last leader assigned to which worker; None: it could not say.
        """
        self._handed_over = handed_over
        self._begun_at = self._clock.loop_time()
        self._look()

    def changed(self, worker: Worker, why_dead: str | None = None, *, disrupted: bool = False) -> None:
        """Note that a worker said what it has, or died before it did.

        All runs are looked at then, which happens at once only for the last worker of a pool, otherwise a moment later.
        """
        if why_dead is not None:
            is_nobodys_fault = disrupted or worker.id in self._ending
            self._give_up(worker.id, name_of(worker), loss_by_death(why_dead, is_nobodys_fault=is_nobodys_fault))
        if self._look_again is None:
            return
        others = any(other.pool == worker.pool for other in self._absent() if other.run_uid is None)
        if worker.run_uid is None and others:
            self._look_in(_GATHER_SECONDS)
        else:
            self._look()

    def why_ended(self, worker: Worker) -> str | None:
        """Say why we ended a worker's Pod; None: we did not."""
        why, _ = self._ending.get(worker.id, (None, 0.0))
        return why

    def stop(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    # --- Looks

    def _absent(self) -> list[KnownWorker]:
        return [self._view(worker) for worker in self._workers if self._is_awaited(worker)]

    def _is_awaited(self, worker: Worker) -> bool:
        return worker.claim_state is ClaimState.AWAITED and worker.id not in self._given_up

    def _view(self, worker: Worker) -> KnownWorker:
        pod = self._workers.pod_of(worker)
        _, ended_at = self._ending.get(worker.id, (None, None))
        handed = self._handed_over.get(worker.id, {}) if self._handed_over is not None else None
        return KnownWorker(
            id=worker.id,
            name=worker.shown_name,
            pool=worker.pool,
            actions=frozenset(worker.registration.actions),
            pod=worker.pod.name if worker.pod else None,
            run_uid=worker.run_uid,
            reach=self._reach_of(pod) if pod is not None else Reach.SERVED,
            runs_on=self._runs_on(worker, pod),
            may_be_ended=pod is not None and is_ours(pod),
            ended_for=timedelta(seconds=self._clock.loop_time() - ended_at) if ended_at is not None else None,
            handed_over=frozenset(handed) if handed is not None else None,
        )

    def _look(self) -> None:
        assert self._begun_at is not None, "it has begun"
        self.stop()
        waited = timedelta(seconds=self._clock.loop_time() - self._begun_at)
        plan = plan_rejoin(self._absent(), self._timeouts, waited=waited)
        for known in plan.give_up:
            log.warning("worker did not come back", extra={"worker": known.name, "pool": str(known.pool)})
            why, _ = self._ending.get(known.id) or (why_ended(known, self._timeouts, address=None), 0.0)
            self._give_up(known.id, (known.pool.namespace, known.name), Loss(outcome=Outcome.UNKNOWN, why=why))
        for known in plan.end:
            self._end(known)
        newly_told = not self._told and waited >= self._tell_after
        self._told = self._told or newly_told
        self._release(plan.waiting, waited)
        self._tell_pools(plan.waiting, changed=newly_told)
        if newly_told:
            self._hold.requeue_held()
        if not plan.waiting and not self._hold.is_on:
            return
        deadlines = [plan.recheck_after] if plan.recheck_after is not None else []
        deadlines += [each - waited for each in (self._tell_after, self._timeouts.usual) if each > waited]
        if deadlines:
            self._look_in(min(deadlines).total_seconds())

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = self._clock.loop_time() + max(seconds, 0.01)
        if self._look_again is not None:
            if self._looks_at <= at:
                return
            self._look_again.cancel()
        self._look_again, self._looks_at = loop.call_at(at, self._look), at

    def _release(self, waiting: tuple[KnownWorker, ...], waited: timedelta) -> None:
        """Release the runs that no missing worker may have."""
        workers = [worker for worker in self._workers if worker.id not in self._given_up]
        mute = {name_of(worker) for worker in workers if worker.claim_state is ClaimState.NEVER}
        self._missing = Missing(waiting, mute if waited < self._timeouts.usual else ())
        if not self._hold.is_on:
            return
        answers = Answers(lost=self._lost, mute=mute, known={name_of(worker) for worker in workers})
        free = {
            record: losses_of(record.run, answers, self._lost_steps.get(record.uid, {}))
            for record in self._hold.waiting()
            if possible_worker_of(self._hold.waiting_run(record), self._missing) is None
        }
        self._hold.release(free)

    def _give_up(self, worker_id: str, name: WorkerName, loss: Loss) -> None:
        self._given_up.add(worker_id)
        self._lost[name] = loss
        for uid, steps in (self._handed_over or {}).get(worker_id, {}).items():
            self._lost_steps.setdefault(uid, {}).update(dict.fromkeys(steps, loss))

    def _end(self, known: KnownWorker) -> None:
        worker = self._workers.get(known.id)
        pod = self._workers.pod_of(worker) if worker is not None else None
        if pod is None:
            return
        why = why_ended(known, self._timeouts, address=address_of(pod))
        self._ending[known.id] = why, self._clock.loop_time()
        log.warning("worker ended, as it did not come back", extra={"worker": known.name, "why": why})
        self._end_pod(known.pool, pod, why)

    def _tell_pools(self, waiting: tuple[KnownWorker, ...], *, changed: bool) -> None:
        before, self._awaited = self._awaited, {}
        for known in waiting:
            self._awaited.setdefault(known.pool, known)
        if self._told:
            self._hold.awaited = Awaited(missing=self._missing, by_pool=self._awaited, timeouts=self._timeouts)
            for pool in before.keys() | self._awaited.keys():
                if changed or before.get(pool) != self._awaited.get(pool):
                    self._on_change(pool)


def name_of(worker: Worker) -> WorkerName:
    """Return a worker's name as statuses of runs spell it."""
    return worker.namespace, worker.shown_name
