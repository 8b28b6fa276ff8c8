"""What workers say (they listen, drain, beat, have ended), and what follows when a stream of theirs ends."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.claims import ClaimState, claim_state_after, is_sent_again
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import CancelCommand, StartCommand, Worker, WorkerStream
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.workers.claims import BEGAN_BEFORE, ClaimedAttempt, Claims
from hatchet_operator.engine.workers.connections import Connections
from hatchet_operator.engine.workers.deaths import Deaths
from hatchet_operator.engine.workers.rejoin import Rejoin
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.errors import UnknownObject
from hatchet_operator.resources.names import ObjectRef


class Streams:
    """Handles what workers say.

    Args:
        workers: All that are known.
        connections: Their streams.
        claims: Checks which attempts they claim to have.
        deaths: Told of each sign of life, and of what is lost with a stream.
        rejoin: Told which workers came back.
        runs: The runs that they work for.
        clock: Tells the time.
        on_change: Called with the pool of a worker that came or went.
        not_begun_seconds: How long to wait to hear from a worker whose stream ended.
    """

    def __init__(
        self,
        *,
        workers: Workers,
        connections: Connections,
        claims: Claims,
        deaths: Deaths,
        rejoin: Rejoin,
        runs: Runs,
        clock: Clock,
        on_change: Callable[[ObjectRef], None],
        not_begun_seconds: float,
    ) -> None:
        self._workers = workers
        self._connections = connections
        self._claims = claims
        self._deaths = deaths
        self._rejoin = rejoin
        self._runs = runs
        self._clock = clock
        self._on_change = on_change
        self._not_begun_seconds = not_begun_seconds

    def get(self, caller: Caller, worker_id: str) -> Worker:
        """Return a worker that the caller may act for.

        Raises:
            UnknownObject: There is none; it should register again.
        """
        worker = self._workers.get(worker_id)
        if worker is None or not worker.is_of(caller):  # there is no use in distinguishing the two
            raise UnknownObject(f'worker "{worker_id}" is not known, or no longer; register again')
        return worker

    def listen(
        self, caller: Caller, worker_id: str, claimed: list[ClaimedAttempt] | None
    ) -> tuple[Worker, WorkerStream]:
        """Open a worker's stream, and reconcile its view with ours.

        Args:
            caller: Whose worker it is.
            worker_id: The worker that listens.
            claimed: The attempts that it has; None: it does not say.

        Raises:
            UnknownObject: It is not known; it should register again.
            NotReady: This operator is about to end.
        """
        self._connections.check_open()
        worker = self.get(caller, worker_id)
        worker.makes_claims = claimed is not None
        if claimed is None and worker.claim_state is ClaimState.AWAITED and worker.pod is not None:
            claimed = self._claims.persisted_claims_of(worker)
        worker.claim_state = claim_state_after(worker.claim_state, says=claimed is not None)
        stream = self._connections.open(worker)
        self._deaths.seen(worker)
        if claimed is not None:
            self._claims.adopt(worker, claimed)
        claimed_ids = {item.attempt_id for item in claimed} if claimed is not None else None
        for attempt in list(worker.assigned.values()):
            is_claimed = attempt.id in claimed_ids if claimed_ids is not None else None
            if is_sent_again(is_claimed=is_claimed, was_sent=attempt.sent, has_begun=attempt.starts > 0):
                stream.put(StartCommand(attempt))
        for attempt in worker.given_away:
            stream.put(
                CancelCommand(
                    attempt_id=attempt.id, run=attempt.ref.name, step=attempt.step.name, retry_count=attempt.number
                )
            )
        worker.given_away.clear()
        self._connections.let_in(worker)
        self._rejoin.changed(worker)
        self._on_change(worker.pool)
        return worker, stream

    def left(self, worker: Worker, stream: WorkerStream) -> None:
        """Note that a stream ended; that alone proves nothing about the worker."""
        if worker.stream is stream:
            self._connections.close(worker)
            self._on_change(worker.pool)
            if worker.draining and not worker.assigned and worker.pod is None:
                self._deaths.bury(worker, "it signed off")
            elif not worker.makes_claims and worker.assigned:
                self._give_away_soon(worker)

    def drain(self, caller: Caller, worker_id: str, *, has_ended: bool = False) -> None:
        """Drain a worker: it takes nothing new; what it has, it finishes, or has finished already."""
        worker = self.get(caller, worker_id)
        self._connections.drain(worker)
        if has_ended:  # an attempt that it was told to stop may not react
            self._give_away(worker, [attempt for attempt in worker.assigned.values() if attempt.cancel_sent_at is None])

    def heartbeat(self, caller: Caller, worker_id: str, *, at: datetime | None = None, overrunning: int = 0) -> None:
        """Note that a worker is alive: when, by its own clock, and how many cancelled attempts still run in it."""
        worker = self.get(caller, worker_id)
        self._deaths.seen(worker)
        worker.overrunning, before = max(overrunning, 0), worker.overrunning
        if worker.overrunning < before:
            self._runs.attempts.queue.fill(worker)
        if at is None or worker.pod_uid is None:
            return
        is_first = worker.life.alive_at is None
        worker.life = replace(worker.life, alive_at=at)
        if is_first and (pod := self._workers.pod_of(worker)) is not None:
            self._deaths.look_at(worker, "MODIFIED", pod)  # what it said before may have been about another container

    @staticmethod
    def ended(attempt: Attempt | None) -> None:
        """Learn from an attempt's end how often its worker says STARTED before that."""
        if attempt is not None and attempt.worker is not None and attempt.starts < BEGAN_BEFORE:
            attempt.worker.acknowledges = attempt.starts > 1

    def _give_away_soon(self, worker: Worker) -> None:
        loop, since = asyncio.get_running_loop(), self._clock.loop_time()
        loop.call_later(self._not_begun_seconds, self._give_away_unless_heard_of, worker, since)

    def _give_away_unless_heard_of(self, worker: Worker, since: float) -> None:
        """Take from a disconnected worker what it never reported begun; one that is alive is heard from at once."""
        if worker.dead or worker.stream is not None or self._runs.stopped:
            return
        if worker.last_seen > since:
            self._give_away_soon(worker)
        else:
            self._give_away(worker, [attempt for attempt in worker.assigned.values() if not worker.has_begun(attempt)])

    def _give_away(self, worker: Worker, attempts: list[Attempt]) -> None:
        worker.given_away += attempts
        self._deaths.lose(worker, attempts, "it was given to another", disrupted=worker.draining)
