"""The workers that the operator knows: registered, listening, silent, dead.

Register ─► known ─ListenV2─► connected ─stream closed─► known
              │                   │
              └──── Pod or container ended, silent for 30 s, or replaced in its Pod ────► dead: its attempts are lost
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.decisions.deaths import Life, is_disruption, look_at_container, why_silent
from hatchet_operator.decisions.losses import LostAttempt, kinds_of_loss
from hatchet_operator.decisions.observed import Outcome, Report, current_attempt_id
from hatchet_operator.decisions.pooling import address_of, why_ended, worker_status
from hatchet_operator.decisions.rejoining import Patience, Reach
from hatchet_operator.decisions.run_pods import has_ended
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.records import Attempt, RunRecord, RunStore
from hatchet_operator.engine.registrations import (
    delete_lease,
    keep_in_lease,
    keep_on_pod,
    read_leases,
    read_registration,
)
from hatchet_operator.engine.rejoin import HandedOver, Rejoin
from hatchet_operator.engine.results import Results
from hatchet_operator.engine.runs import Runs
from hatchet_operator.engine.workers import (
    DEFAULT_SLOTS,
    CancelCommand,
    Registration,
    StartCommand,
    Worker,
    WorkerStream,
)
from hatchet_operator.errors import NotFound, NotPermitted, Refused, UnknownObject
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)

_AWAY_SECONDS = 1.0
_NOT_BEGUN_SECONDS = 2.0  # how long to wait for a word of a worker whose stream ended
_BEGAN_BEFORE = 100  # an attempt's `starts`: it ran before this operator did, as is written down
_CAUSE_SECONDS = 1.0  # how long to wait for the Pod to say how a worker ended that another one replaced


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationRequest:
    """What a worker says when it registers."""

    name: str
    actions: tuple[str, ...]
    slots: int | None = None
    revisions: tuple[str, ...] = ()
    pod_name: str | None = None
    pod_uid: str | None = None
    worker_id: str | None = None  # it was registered before, with an operator that knows no more of it
    alive_at: datetime | None = None  # now, by its own clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An attempt that a worker says it has."""

    run: str
    attempt_id: str
    step: str
    started_at: datetime


class Registry:
    """All workers, by id and by Pod."""

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        runs: Runs,
        results: Results,
        metrics: Metrics,
        settings: Settings,
        slots_of_pool: Callable[[ObjectRef], int | None],
        on_change: Callable[[ObjectRef], None],
        on_death: Callable[[Worker], None],
        may_command: Callable[[], bool],
        reach_of: Callable[[Json], Reach],
        end_pod: Callable[[ObjectRef, Json, str], None],
    ) -> None:
        self._api = api
        self._store = store
        self._runs = runs
        self._results = results
        self._metrics = metrics
        self._settings = settings
        self._slots_of_pool = slots_of_pool
        self._on_change = on_change
        self._on_death = on_death
        self._may_command = may_command
        self._workers: dict[str, Worker] = {}
        self._by_pod: dict[str, set[Worker]] = {}
        self._pods: dict[str, Json] = {}
        self._listening = False  # workers can be heard
        self.rejoin = Rejoin(
            runs=runs,
            patience=Patience(usual=settings.rejoin, running=settings.rejoin_running),
            tell_after=settings.waiting_told_after,
            workers=lambda: list(self._workers.values()),
            find_pod=self.find_pod,
            runs_on=_runs_on,
            reach_of=reach_of,
            end_pod=end_pod,
            on_change=on_change,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def workers_of_pool(self, pool: ObjectRef) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.pool == pool]

    def is_offered(self, pool: ObjectRef, action: str) -> bool:
        """Tell whether a worker of a pool may be given the action."""
        return any(action in worker.registration.actions for worker in self.workers_of_pool(pool))

    def workers_in_pod(self, uid: str) -> list[Worker]:
        return list(self._by_pod.get(uid, ()))

    # --- Registration

    async def register(self, caller: Caller, request: RegistrationRequest) -> Worker:
        """Keep a worker's registration, on its Pod if it lives in one of its pool, and make it known.

        Raises:
            NotPermitted: A Pod registers as another one.
            NotReady: The registration can't be kept.
        """
        if caller.pod_uid is not None and request.pod_uid not in (None, caller.pod_uid):
            raise NotPermitted(
                f'Pod "{caller.pod_name}" ({caller.pod_uid} by its token) registers as Pod "{request.pod_name}" '
                f"({request.pod_uid}); HATCHET_POD_UID must be the metadata.uid of the Pod itself"
            )
        namespace, pool = caller.namespace, caller.pool
        # a Pod's token says which Pod it is; others have to tell, published clients beside the pool's token
        pod_name = caller.pod_name or request.pod_name
        pod_uid = caller.pod_uid or request.pod_uid or caller.claimed_pod_uid
        pod = self._pods.get(pod_uid or "")
        taken = self._workers.get(request.worker_id or "")
        may_keep_id = taken is None or taken.is_of(caller)
        registration = Registration(
            worker_id=(request.worker_id if may_keep_id else None) or str(uuid.uuid4()),
            name=request.name,
            pool=pool,
            actions=request.actions,
            slots=self._slots_of_pool(ObjectRef(namespace, pool)) or request.slots or DEFAULT_SLOTS,
            revisions=request.revisions,
            registered_at=datetime.now(UTC),
            alive_at=request.alive_at,
        )
        if pod_uid and pod is None:
            pod = await self._find_pod(caller.pool_ref, pod_name, pod_uid)
        if pod is not None and _pool_of(pod) != caller.pool_ref:
            pod = None  # somebody else's Pod says nothing about this worker
        run_uid = _run_of(pod)
        if pod is not None:
            before = [worker.registration.registered_at for worker in self._by_pod.get(pod_uid or "", ())]
            registration = registration.model_copy(update={"container_after": max(before, default=None)})
            pod = await keep_on_pod(self._api, pod, registration)
        if pod is None:
            await keep_in_lease(self._api, namespace, registration)
        worker = self._add(namespace, registration, pod, registered_by=caller.pod_uid, run_uid=run_uid)
        if pod is not None:
            self._look_at(worker, "MODIFIED", pod)  # its Pod may have had its last event before
            for other in list(self._by_pod.get(pod["metadata"]["uid"], ())):
                if other is not worker and other.registration.name == registration.name:
                    self._may_be_replaced(other, pod)
        log.info("worker registered", extra={"worker": worker.id, "pool": f"{namespace}/{pool}", "slots": worker.slots})
        return worker

    def find_pod(self, uid: str) -> Json | None:
        """Return a Pod that belongs to a pool, as the watch last saw it."""
        return self._pods.get(uid)

    def addresses_in_use(self) -> set[str]:
        """Return the addresses of the operator that Pods of pools were given."""
        found = (address_of(pod) for pod in self._pods.values() if not has_ended(pod))
        return {address for address in found if address is not None}

    def pods_of(self, pool: ObjectRef) -> list[Json]:
        """Return the Pods of a pool that we made, those for one run included."""
        return [
            pod
            for pod in self._pods.values()
            if _pool_of(pod) == pool and pod["metadata"]["labels"].get(labels.MANAGED_BY) == labels.MANAGER
        ]

    async def pod_of(self, caller: Caller) -> Json | None:
        """Return the Pod that a caller says to be; None: it is none, or gone."""
        uid = caller.pod_uid or caller.claimed_pod_uid
        if uid is None:
            return None
        return self._pods.get(uid) or await self._find_pod(caller.pool_ref, caller.pod_name, uid)

    async def _find_pod(self, pool: ObjectRef, name: str | None, uid: str) -> Json | None:
        """The Pod may be newer than our watch."""
        try:
            if name is not None:
                pods = [await self._api.until_answered(lambda: self._api.get(PODS, pool.namespace, name))]
            else:
                selector = f"{labels.POOL}={pool.name}"
                pods, _ = await self._api.until_answered(
                    lambda: self._api.list_all(PODS, pool.namespace, label_selector=selector)
                )
        except (NotFound, Refused):
            return None
        return next((pod for pod in pods if pod["metadata"]["uid"] == uid), None)

    def _add(
        self,
        namespace: str,
        registration: Registration,
        pod: Json | None,
        *,
        reported: bool = True,
        registered_by: str | None = None,
        run_uid: str | None = None,
    ) -> Worker:
        old = self._workers.get(registration.worker_id)
        if old is not None:
            self._disconnect(old)
        worker = Worker(
            namespace=namespace,
            registration=registration,
            slots=registration.slots,
            reported=reported,
            pod=ObjectRef(pod["metadata"]["namespace"], pod["metadata"]["name"]) if pod else None,
            pod_uid=pod["metadata"]["uid"] if pod else None,
            run_uid=run_uid,
            registered_by=registered_by,
            out=old.out if old else {},
            occupied=old.occupied if old else 0,
            suspects=old.suspects if old else set(),
            life=Life(alive_at=registration.alive_at, after=registration.container_after),
            draining_since=old.draining_since if old else None,
        )
        for attempt in worker.out.values():
            attempt.worker = worker
        if old is not None:
            self._remove(old)
        self._workers[worker.id] = worker
        if worker.pod_uid is not None:
            self._by_pod.setdefault(worker.pod_uid, set()).add(worker)
        self._seen(worker)
        return worker

    def _remove(self, worker: Worker) -> None:
        worker.dead = True
        if worker.silence is not None:
            worker.silence.cancel()
        self._workers.pop(worker.id, None)
        if worker.pod_uid is not None and (others := self._by_pod.get(worker.pod_uid)) is not None:
            others.discard(worker)
            if not others:
                del self._by_pod[worker.pod_uid]

    # --- Streams

    def get(self, caller: Caller, worker_id: str) -> Worker:
        """Return a worker that the caller may speak for.

        Raises:
            UnknownObject: There is none; it should register again.
        """
        worker = self._workers.get(worker_id)
        if worker is None or not worker.is_of(caller):  # telling them apart would help nobody
            raise UnknownObject(f'worker "{worker_id}" is not known (any more); register again')
        return worker

    def listen(self, caller: Caller, worker_id: str, held: list[Held] | None) -> tuple[Worker, WorkerStream]:
        """Open a worker's stream, and bring its view and ours together.

        Args:
            caller: Whose worker it is.
            worker_id: Who listens.
            held: What it has; None: it does not say.
        """
        worker = self.get(caller, worker_id)
        worker.says_what_it_holds = held is not None
        if held is None and not worker.reported and worker.pod is not None:
            held = self._written_down_of(worker)
        worker.is_mute = held is None and not worker.reported
        self._disconnect(worker)
        stream = worker.stream = WorkerStream(self._may_command)
        self._seen(worker)
        self._metrics.workers.inc()
        if held is not None:
            self._adopt(worker, held)
        for attempt in list(worker.out.values()):
            # What was given out on a stream that broke may never have arrived; a worker knows what it has already.
            lost_on_the_way = held is not None and attempt.id not in {item.attempt_id for item in held}
            if lost_on_the_way or not attempt.sent or (held is None and not attempt.starts):
                stream.put(StartCommand(attempt))
        for attempt in worker.given_away:
            stream.put(
                CancelCommand(
                    attempt_id=attempt.id, run=attempt.ref.name, step=attempt.step.name, retry_count=attempt.number
                )
            )
        worker.given_away.clear()
        worker.reported = True
        if not worker.draining:
            self._runs.attempts.queue.connect(worker)
        self.rejoin.changed(worker)
        self._on_change(worker.pool)
        return worker, stream

    def _written_down_of(self, worker: Worker) -> list[Held]:
        """What a worker was given before this operator's time, if it does not say.

        Its id is known to the process that registered, and to no other, so that is the one that got them.
        """
        return [
            Held(
                run=record.ref.name,
                attempt_id=current_attempt_id(record.run, step),
                step=step,
                started_at=state.started_at or datetime.now(UTC),
            )
            for record in self._store.unfinished()
            if record.may_be_out and record.ref.namespace == worker.namespace
            for step, state in record.run.status.steps.items()
            if state.phase == "Running" and state.worker == worker.shown_name and step not in record.attempts
        ]

    def _adopt(self, worker: Worker, held: list[Held]) -> None:
        for item in held:
            record = self._store.find(worker.namespace, item.run)
            step = self._runs.step_of(record, item.attempt_id) if record else None
            attempt = self._runs.attempts.get(item.attempt_id)
            if record is None or step is None or not self._may_hold(worker, record, step, attempt):
                worker.send(CancelCommand(attempt_id=item.attempt_id, run=item.run, step=item.step, retry_count=0))
                self._runs.attempts.told_to_stop(worker, item.attempt_id, datetime.now(UTC))
                continue
            if attempt is not None and attempt.worker is worker:
                continue
            if attempt is not None:
                self._runs.attempts.queue.withdraw(attempt)
            else:
                attempt = self._runs.make_attempt(record, step, item.attempt_id, datetime.now(UTC))
            attempt.sent = True
            if not worker.says_what_it_holds:
                attempt.starts = _BEGAN_BEFORE
            if _is_assumed(record, step):
                del record.reports[step]  # nobody else was given it: the worker was late, no more
            self._runs.attempts.give(attempt, worker, started_at=_started_at(record, step, item))
            self._results.resume_waiting(record)
            self._runs.reconcile(record)

    def _may_hold(self, worker: Worker, record: RunRecord, step: str, attempt: Attempt | None) -> bool:
        """Whether what a worker says to hold is not another's, and of its pool or written down to be with it."""
        if attempt is not None and attempt.worker is not None:
            return attempt.worker is worker
        if worker.run_uid not in (None, record.uid):
            return False
        if _is_assumed(record, step) and record.reports[step].attempt_id in record.being_written:
            return False  # it goes out anew
        state = record.run.status.steps.get(step)
        was_given = state is not None and state.worker == worker.shown_name
        return was_given or self._runs.may_have(worker.pool, record)

    def left(self, worker: Worker, stream: WorkerStream) -> None:
        """A stream ended; that alone proves nothing about the worker."""
        if worker.stream is stream:
            self._disconnect(worker)
            self._on_change(worker.pool)
            if worker.draining and not worker.out and worker.pod is None:
                self._bury(worker, "it signed off")
            elif not worker.says_what_it_holds and worker.out:
                self._give_away_soon(worker)

    def drain(self, caller: Caller, worker_id: str, *, has_ended: bool = False) -> None:
        """The worker takes nothing new; what it has, it finishes, or has finished already."""
        worker = self.get(caller, worker_id)
        self.drain_worker(worker)
        if has_ended:  # one that it was told to stop may be deaf
            self._give_away(worker, [attempt for attempt in worker.out.values() if attempt.cancel_sent_at is None])

    def _give_away_soon(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_NOT_BEGUN_SECONDS, self._give_away_unless_heard_of, worker, loop.time())

    def _give_away_unless_heard_of(self, worker: Worker, since: float) -> None:
        """Take from a worker that left what it never said to have begun; one that lives says so at once."""
        if worker.dead or worker.stream is not None or self._runs.stopped:
            return
        if worker.last_seen > since:
            self._give_away_soon(worker)
        else:
            self._give_away(worker, [attempt for attempt in worker.out.values() if not worker.has_begun(attempt)])

    @staticmethod
    def ended(attempt: Attempt | None) -> None:
        """A worker says how an attempt ended, and so how often it says STARTED before that."""
        if attempt is not None and attempt.worker is not None and attempt.starts < _BEGAN_BEFORE:
            attempt.worker.acknowledges = attempt.starts > 1

    def _give_away(self, worker: Worker, attempts: list[Attempt]) -> None:
        worker.given_away += attempts
        self._lose(worker, attempts, "it was given to another", disrupted=worker.draining)

    def drain_worker(self, worker: Worker) -> None:
        if worker.draining_since is None:
            worker.draining_since = time.monotonic()
            self._runs.attempts.queue.disconnect(worker, datetime.now(UTC))
            log.info("worker draining", extra={"worker": worker.shown_name, "attempts": len(worker.out)})

    def heartbeat(self, caller: Caller, worker_id: str, *, at: datetime | None = None, overrunning: int = 0) -> None:
        """A worker lives, and says when it said so, by its own clock, and how much goes on in it though cancelled."""
        worker = self.get(caller, worker_id)
        self._seen(worker)
        worker.overrunning, before = max(overrunning, 0), worker.overrunning
        if worker.overrunning < before:
            self._runs.attempts.queue.fill(worker)
        if at is None or worker.pod_uid is None:
            return
        is_first = worker.life.alive_at is None
        worker.life = replace(worker.life, alive_at=at)
        if is_first and (pod := self._pods.get(worker.pod_uid)) is not None:
            self._look_at(worker, "MODIFIED", pod)  # what it said before may have been about another container

    def _disconnect(self, worker: Worker) -> None:
        if worker.stream is None:
            return
        worker.stream.close()
        worker.stream = None
        worker.left_at = asyncio.get_running_loop().time()
        self._metrics.workers.dec()
        self._runs.attempts.queue.disconnect(worker, datetime.now(UTC))

    # --- Death

    def _seen(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.last_seen = loop.time()
        if worker.silence is None and self._listening:
            self._check_silence_in(self._settings.worker_silent.total_seconds(), worker)

    def _check_silence_in(self, seconds: float, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.silence = loop.call_later(seconds, self._check_silence, worker, loop.time() + seconds)

    def _check_silence(self, worker: Worker, due: float) -> None:
        if worker.dead:
            return
        now = asyncio.get_running_loop().time()
        if now - due > _AWAY_SECONDS:
            worker.last_seen = now  # we were stopped or starved, and its heartbeats wait to be read
        limit = self._settings.worker_silent.total_seconds()
        silent_for = now - worker.last_seen
        if self.rejoin.waits_for(worker):
            self._check_silence_in(limit, worker)
        elif silent_for >= limit:
            self._bury(worker, why_silent(silent_for, self._pods.get(worker.pod_uid or "")))
        else:
            self._check_silence_in(limit - silent_for, worker)

    def _lose(self, worker: Worker, attempts: list[Attempt], why: str, *, disrupted: bool) -> None:
        """Have attempts of a worker that is gone given out anew, once that is written down."""
        left_at = worker.left_at if worker.left_at is not None else asyncio.get_running_loop().time()
        lost = [
            LostAttempt(
                id=attempt.id,
                may_have_begun=worker.has_begun(attempt)
                or (attempt.sent and (worker.says_what_it_holds or not disrupted) and attempt not in worker.given_away),
                is_waiting=attempt.is_waiting(left_at),
                stood_its_trial=attempt.is_cleared,
            )
            for attempt in attempts
        ]
        now = datetime.now(UTC)
        for attempt_id, kind in kinds_of_loss(lost, disrupted=disrupted).items():
            report = Report(attempt_id=attempt_id, outcome=Outcome.LOST, at=now, error=why, loss=kind)
            self._runs.report(attempt_id, report)

    def _bury(self, worker: Worker, why: str, *, disrupted: bool = False) -> None:
        """Declare a worker dead: what it had is given out anew, once that is written down."""
        if worker.dead:
            return
        self._disconnect(worker)
        self._remove(worker)
        if worker.pod is None:
            self._in_background(delete_lease(self._api, worker.namespace, worker.id))
        lost = list(worker.out.values())
        if lost or not worker.draining:
            self._metrics.losses.inc()
            log.warning("worker lost", extra={"worker": worker.shown_name, "why": why, "attempts": len(lost)})
        pod = self._pods.get(worker.pod_uid or "")
        disrupted = disrupted or (is_disruption(pod) if pod is not None else worker.pod is None and worker.draining)
        self._lose(worker, lost, why, disrupted=disrupted)
        self.rejoin.changed(worker, why_dead=None if worker.reported else why, disrupted=disrupted)
        self._on_change(worker.pool)
        self._on_death(worker)

    def observe_pod(self, kind: str, pod: Json) -> None:
        """A worker dies with its Pod, and with its container."""
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = pod
            self._know_from_annotation(pod)
        for worker in list(self._by_pod.get(uid, ())):
            self._look_at(worker, kind, pod)

    def _look_at(self, worker: Worker, kind: str, pod: Json) -> None:
        """Bury a worker if its Pod or its container is over."""
        worker.life, what = look_at_container(worker.life, pod)
        if kind == "DELETED":
            what = "its Pod was deleted"
        elif what is None and (phase := pod.get("status", {}).get("phase")) in ("Failed", "Succeeded"):
            what = f"its Pod ended as {phase}"
        if what is not None:
            why = self.rejoin.why_ended(worker) or why_ended(pod)
            disrupted = is_disruption(pod, deleted=kind == "DELETED")
            self._bury(worker, f"{what}: {why}" if why else what, disrupted=disrupted)
        elif "deletionTimestamp" in pod["metadata"]:
            self.drain_worker(worker)  # which may not say so itself, or late

    def _may_be_replaced(self, worker: Worker, pod: Json) -> None:
        """Another worker of its name registered in its Pod: it is over, unless it listens; its Pod is to say how."""
        self._look_at(worker, "MODIFIED", pod)
        if not worker.dead:
            asyncio.get_running_loop().call_later(_CAUSE_SECONDS, self._bury_unless_it_listens, worker)

    def _bury_unless_it_listens(self, worker: Worker) -> None:
        if worker.stream is None and not self._runs.stopped:
            self._bury(worker, "another process took its place in its Pod")

    def _know_from_annotation(self, pod: Json) -> None:
        """After a start, the workers are those that registered with an operator before."""
        if not self._runs.holding or pod["metadata"]["uid"] in self._by_pod:
            return
        if (registration := read_registration(pod)) is not None:
            self._add(pod["metadata"]["namespace"], registration, pod, reported=False, run_uid=_run_of(pod))

    async def know_from_leases(self) -> None:
        """After a start: the workers outside of Pods."""
        for namespace, registration in await read_leases(self._api, self._settings.namespace):
            self._add(namespace, registration, None, reported=False)

    # --- After a start

    def begin_rejoin(self, handed_over: HandedOver | None = None) -> None:
        """Runs and Pods are known: wait until each known worker has said what it holds, is dead, or time is up."""
        self._listening = True
        for worker in self._workers.values():
            self._seen(worker)  # its silence begins now: reading everything may have taken long
        self.rejoin.begin(handed_over)

    def given_out(self) -> HandedOver | None:
        """Say who has what, for the next leader; None: that is not known, since a worker did not say it yet."""
        if self._runs.holding or self.rejoin.is_waiting:
            return None
        given: dict[str, dict[str, tuple[str, ...]]] = {}
        for record in self._store.unfinished():
            for step, attempt in record.attempts.items():
                if attempt.worker is not None:
                    of_worker = given.setdefault(attempt.worker.id, {})
                    of_worker[record.uid] = (*of_worker.get(record.uid, ()), step)
        return given

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.rejoin.stop()
        for worker in self._workers.values():
            if worker.silence is not None:
                worker.silence.cancel()
            if worker.stream is not None:
                worker.stream.close()


def _pool_of(pod: Json) -> ObjectRef:
    return ObjectRef(pod["metadata"]["namespace"], pod["metadata"].get("labels", {}).get(labels.POOL, ""))


def _run_of(pod: Json | None) -> str | None:
    uid: str | None = pod["metadata"].get("labels", {}).get(labels.RUN_UID) if pod else None
    return uid


def _runs_on(worker: Worker, pod: Json | None) -> bool:
    """Whether the container from which a worker registered runs still, on a node that is heard of."""
    if pod is None or "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") != "Running":
        return False
    conditions = pod["status"].get("conditions") or []
    if any((each.get("type"), each.get("status")) == ("Ready", "False") for each in conditions):
        return False
    began: str | None = (((worker_status(pod) or {}).get("state") or {}).get("running") or {}).get("startedAt")
    return began is not None and datetime.fromisoformat(began) <= worker.registration.registered_at


def _is_assumed(record: RunRecord, step: str) -> bool:
    """Whether the end of a step's attempt is taken for granted, as nobody said to have it."""
    report = record.reports.get(step)
    return report is not None and report.is_assumed


def _started_at(record: RunRecord, step: str, item: Held) -> datetime:
    """What was written down counts; else what the worker says, within reason: its clock is not ours."""
    state = record.run.status.steps.get(step)
    if state is not None and state.phase == "Running" and state.started_at is not None:
        return state.started_at
    now = datetime.now(UTC)
    return min(max(item.started_at, now - timedelta(days=1)), now)
