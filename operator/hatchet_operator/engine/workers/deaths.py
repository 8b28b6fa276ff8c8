"""Deaths of workers, and what becomes of the attempts that they had.

A worker in a Pod dies with it or with its container, any worker when it is silent for too long. What it had is lost.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.decisions.claims import ClaimState
from hatchet_operator.decisions.deaths import is_disruption, look_at_container, why_silent
from hatchet_operator.decisions.losses import LostAttempt, kinds_of_loss
from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.decisions.pooling import why_ended
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.workers.connections import Connections
from hatchet_operator.engine.workers.registrations import delete_lease
from hatchet_operator.engine.workers.rejoin import Rejoin
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod

log = logging.getLogger(__name__)

_AWAY_SECONDS = 1.0
_CAUSE_SECONDS = 1.0  # how long to wait for the Pod to say how a replaced worker ended


class Deaths:
    """Declares workers dead.

    Args:
        api: Where the Leases of workers outside of Pods are.
        workers: All that are known.
        connections: Closed with their workers.
        rejoin: Knows which workers have been awaited since the start, and whose Pods we ended.
        runs: What workers had is reported lost there.
        metrics: Counts deaths.
        clock: Tells the time.
        silent_after: A worker that has been silent for this long is dead.
        on_change: Called with the pool of a worker that died.
        on_death: Called with a worker that died.
    """

    def __init__(
        self,
        api: Api,
        *,
        workers: Workers,
        connections: Connections,
        rejoin: Rejoin,
        runs: Runs,
        metrics: Metrics,
        clock: Clock,
        silent_after: timedelta,
        on_change: Callable[[ObjectRef], None],
        on_death: Callable[[Worker], None],
    ) -> None:
        self._api = api
        self._workers = workers
        self._connections = connections
        self._rejoin = rejoin
        self._runs = runs
        self._metrics = metrics
        self._clock = clock
        self._silent_after = silent_after.total_seconds()
        self._on_change = on_change
        self._on_death = on_death
        self._listening = False  # whether workers can be heard
        self._tasks: set[asyncio.Task[None]] = set()

    # --- Silence

    def listen(self) -> None:
        """Count silence from now on, as workers can be heard only now: reading everything may have taken long."""
        self._listening = True
        for worker in self._workers:
            self.seen(worker)

    def seen(self, worker: Worker) -> None:
        """Note that a worker said something, whatever it is."""
        worker.last_seen = self._clock.loop_time()
        if worker.silence is None and self._listening:
            self._check_silence_in(self._silent_after, worker)

    def _check_silence_in(self, seconds: float, worker: Worker) -> None:
        due = self._clock.loop_time() + seconds
        worker.silence = asyncio.get_running_loop().call_later(seconds, self.check_silence, worker, due)

    def check_silence(self, worker: Worker, due: float) -> None:
        """Bury a worker that has said nothing for `worker_silent`; otherwise look again when it might be so.

        Args:
            worker: The worker.
            due: When this look was due, in loop time: if it comes much later, it was the operator that was away.
        """
        if worker.dead:
            return
        now = self._clock.loop_time()
        if now - due > _AWAY_SECONDS:
            worker.last_seen = now  # we were stopped or starved, and its heartbeats wait to be read
        silent_for = now - worker.last_seen
        if self._rejoin.waits_for(worker):
            self._check_silence_in(self._silent_after, worker)
        elif silent_for >= self._silent_after:
            self.bury(worker, why_silent(silent_for, self._workers.pod_of(worker)))
        else:
            self._check_silence_in(self._silent_after - silent_for, worker)

    # --- Losses

    def lose(self, worker: Worker, attempts: list[Attempt], why: str, *, disrupted: bool) -> None:
        """Reassign attempts of a worker that is gone, once their loss is persisted."""
        left_at = worker.left_at if worker.left_at is not None else self._clock.loop_time()
        lost = [
            LostAttempt(
                id=attempt.id,
                may_have_begun=worker.has_begun(attempt)
                or (attempt.sent and (worker.makes_claims or not disrupted) and attempt not in worker.given_away),
                is_waiting=attempt.is_waiting(left_at),
                stood_its_trial=attempt.is_cleared,
            )
            for attempt in attempts
        ]
        now = self._clock.now()
        for attempt_id, kind in kinds_of_loss(lost, disrupted=disrupted).items():
            report = Report(attempt_id=attempt_id, outcome=Outcome.LOST, at=now, error=why, loss=kind)
            self._runs.report(attempt_id, report)

    def bury(self, worker: Worker, why: str, *, disrupted: bool = False) -> None:
        """Declare a worker dead: what it had is reassigned, once its loss is persisted."""
        if worker.dead:
            return
        self._connections.close(worker)
        self._workers.remove(worker)
        if worker.pod is None:
            self._in_background(delete_lease(self._api, worker.namespace, worker.id))
        lost = list(worker.assigned.values())
        if lost or not worker.draining:
            self._metrics.losses.inc()
            log.warning("worker lost", extra={"worker": worker.shown_name, "why": why, "attempts": len(lost)})
        pod = self._workers.pod_of(worker)
        disrupted = disrupted or (is_disruption(pod) if pod is not None else worker.pod is None and worker.draining)
        self.lose(worker, lost, why, disrupted=disrupted)
        self._rejoin.changed(
            worker, why_dead=why if worker.claim_state is ClaimState.AWAITED else None, disrupted=disrupted
        )
        self._on_change(worker.pool)
        self._on_death(worker)

    def look_at(self, worker: Worker, kind: str, pod: Pod) -> None:
        """Bury a worker if its Pod or its container has ended."""
        worker.life, what = look_at_container(worker.life, pod)
        if kind == "DELETED":
            what = "its Pod was deleted"
        elif what is None and pod.is_over:
            what = f"its Pod ended as {pod.phase}"
        if what is not None:
            why = self._rejoin.why_ended(worker) or why_ended(pod)
            disrupted = is_disruption(pod, deleted=kind == "DELETED")
            self.bury(worker, f"{what}: {why}" if why else what, disrupted=disrupted)
        elif pod.is_being_deleted:
            self._connections.drain(worker)  # which may not say so itself, or late

    def suspect_replaced(self, worker: Worker, pod: Pod) -> None:
        """Bury a worker that another of its name replaced in its Pod, unless it listens; its Pod says how it ended."""
        self.look_at(worker, "MODIFIED", pod)
        if not worker.dead:
            asyncio.get_running_loop().call_later(_CAUSE_SECONDS, self._bury_unless_it_listens, worker)

    def _bury_unless_it_listens(self, worker: Worker) -> None:
        if worker.stream is None and not self._runs.stopped:
            self.bury(worker, "another process took its place in its Pod")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            if worker.silence is not None:
                worker.silence.cancel()
