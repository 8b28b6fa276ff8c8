"""Workers from their registration on: this room's entry point.

Register ─► known ─ListenV2─► connected ─stream closed─► known
              │                   │
              └──── Pod or container ended, silent for 30 s, or replaced in its Pod ────► dead: its attempts are lost
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.decisions.claims import ClaimState
from hatchet_operator.decisions.deaths import Life
from hatchet_operator.decisions.pooling import pool_of
from hatchet_operator.decisions.rejoining import Reach, RejoinTimeouts
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import DEFAULT_SLOTS, Registration, Worker, WorkerStream
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.results import Results
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workers.claims import ClaimedAttempt, Claims
from hatchet_operator.engine.workers.connections import Connections
from hatchet_operator.engine.workers.deaths import Deaths
from hatchet_operator.engine.workers.handover import HandedOver, assignments
from hatchet_operator.engine.workers.registrations import keep_in_lease, keep_on_pod, read_leases, read_registration
from hatchet_operator.engine.workers.rejoin import Rejoin
from hatchet_operator.engine.workers.streams import Streams
from hatchet_operator.engine.workers.workers import Workers, run_of
from hatchet_operator.errors import InvalidRequest, NotFound, NotPermitted, NotReady, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod, read_pod
from hatchet_operator.resources.worker_labels import MAX_LABELS, LabelValue
from hatchet_operator.settings import Settings

__all__ = ["ClaimedAttempt", "RegistrationRequest", "Registry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationRequest:
    """What a worker says when it registers."""

    name: str
    actions: tuple[str, ...]
    slots: int | None = None
    revisions: tuple[str, ...] = ()
    labels: Mapping[str, LabelValue] = field(default_factory=dict)
    pod_name: str | None = None
    pod_uid: str | None = None
    worker_id: str | None = None  # it was registered before, with an operator that no longer knows it
    alive_at: datetime | None = None  # now, by its own clock


class Registry:
    """Registers workers, and hands what they and their Pods report to the other parts of this package."""

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        runs: Runs,
        results: Results,
        workers: Workers,
        connections: Connections,
        metrics: Metrics,
        settings: Settings,
        scope: Scope,
        clock: Clock,
        slots_of_pool: Callable[[ObjectRef], int | None],
        on_change: Callable[[ObjectRef], None],
        on_death: Callable[[Worker], None],
        reach_of: Callable[[Pod], Reach],
        end_pod: Callable[[ObjectRef, Pod, str], None],
        not_begun_seconds: float,
    ) -> None:
        self._api = api
        self._store = store
        self._runs = runs
        self._scope = scope
        self._clock = clock
        self._slots_of_pool = slots_of_pool
        self._workers = workers
        self._connections = connections
        self.rejoin = Rejoin(
            hold=runs.hold,
            timeouts=RejoinTimeouts(usual=settings.rejoin, running=settings.rejoin_running),
            tell_after=settings.waiting_told_after,
            clock=clock,
            workers=workers,
            runs_on=_runs_on,
            reach_of=reach_of,
            end_pod=end_pod,
            on_change=on_change,
        )
        self.deaths = Deaths(
            api,
            workers=workers,
            connections=connections,
            rejoin=self.rejoin,
            runs=runs,
            metrics=metrics,
            clock=clock,
            silent_after=settings.worker_silent,
            on_change=on_change,
            on_death=on_death,
        )
        self._streams = Streams(
            workers=workers,
            connections=connections,
            claims=Claims(store=store, runs=runs, results=results, clock=clock),
            deaths=self.deaths,
            rejoin=self.rejoin,
            runs=runs,
            clock=clock,
            on_change=on_change,
            not_begun_seconds=not_begun_seconds,
        )

    def workers_of_pool(self, pool: ObjectRef) -> list[Worker]:
        return self._workers.of_pool(pool)

    # --- Registration

    async def register(self, caller: Caller, request: RegistrationRequest) -> Worker:
        """Keep a worker's registration, on its Pod if it runs in one of its pool's, and make it known.

        Raises:
            NotPermitted: A Pod registers as another one.
            NotReady: The registration can't be kept.
        """
        _refuse_another_pod(caller, request)
        namespace, pool = caller.namespace, caller.pool
        # a Pod's token says which Pod it is; others have to say so, published clients beside the pool's token
        pod_name = caller.pod_name or request.pod_name
        pod_uid = caller.pod_uid or request.pod_uid or caller.claimed_pod_uid
        pod = self._workers.find_pod(pod_uid or "")
        taken = self._workers.get(request.worker_id)
        may_keep_id = taken is None or taken.is_of(caller)
        registration = Registration(
            worker_id=(request.worker_id if may_keep_id else None) or str(uuid.uuid4()),
            name=request.name,
            pool=pool,
            actions=request.actions,
            slots=self._slots_of_pool(ObjectRef(namespace, pool)) or request.slots or DEFAULT_SLOTS,
            revisions=request.revisions,
            labels=dict(request.labels),
            registered_at=self._clock.now(),
            alive_at=request.alive_at,
        )
        if pod_uid and pod is None:
            pod = await self._find_pod(caller.pool_ref, pod_name, pod_uid)
        if pod is not None and pool_of(pod) != caller.pool_ref:
            pod = None  # another worker's Pod says nothing about this worker
        run_uid = run_of(pod)
        if pod is not None:
            before = [worker.registration.registered_at for worker in self._workers.in_pod(pod_uid or "")]
            registration = registration.model_copy(update={"container_after": max(before, default=None)})
            pod = await keep_on_pod(self._api, pod, registration)
        if pod is None:
            await keep_in_lease(self._api, namespace, registration)
        worker = self._add(namespace, registration, pod, registered_by=caller.pod_uid, run_uid=run_uid)
        if pod is not None:
            self._look_at_pod(worker, pod)
        log.info("worker registered", extra={"worker": worker.id, "pool": f"{namespace}/{pool}", "slots": worker.slots})
        return worker

    def _look_at_pod(self, worker: Worker, pod: Pod) -> None:
        """Find out from a new worker's Pod whether it has died already, or another one before it."""
        self.deaths.look_at(worker, "MODIFIED", pod)  # its Pod may have had its last event before
        for other in self._workers.in_pod(pod.uid):
            if other is not worker and other.registration.name == worker.registration.name:
                self.deaths.suspect_replaced(other, pod)

    async def upsert_labels(self, caller: Caller, worker_id: str, given: Mapping[str, LabelValue]) -> None:
        """Set some labels of a worker, and leave the others; they apply from now on, and for the next operator.

        Raises:
            UnknownObject: There is no such worker; it should register again.
            InvalidRequest: It would have too many.
            NotReady: They can't be kept, or the worker registered again meanwhile.
        """
        worker = self._streams.get(caller, worker_id)
        async with worker.keeping:  # of two changes the later includes both
            labels = worker.labels | dict(given)
            if len(labels) > MAX_LABELS:
                name = worker.registration.name
                raise InvalidRequest(f'worker "{name}" would have {len(labels)} labels; expected at most {MAX_LABELS}')
            registration = worker.registration.model_copy(update={"labels": labels})
            pod = self._workers.pod_of(worker)
            if pod is None or await keep_on_pod(self._api, pod, registration) is None:
                await keep_in_lease(self._api, worker.namespace, registration)
            if worker.dead:  # what was just written may be older than what it registered meanwhile
                raise NotReady(f'worker "{worker.registration.name}" registered again meanwhile; repeat the call')
            worker.registration = registration
        self._connections.labels_changed(worker)

    async def pod_of(self, caller: Caller) -> Pod | None:
        """Return the Pod that a caller claims to be; None: it is not a Pod, or its Pod is gone."""
        uid = caller.pod_uid or caller.claimed_pod_uid
        if uid is None:
            return None
        return self._workers.find_pod(uid) or await self._find_pod(caller.pool_ref, caller.pod_name, uid)

    async def _find_pod(self, pool: ObjectRef, name: str | None, uid: str) -> Pod | None:
        """Return a Pod, asking the API server if it is newer than our watch."""
        try:
            if name is not None:
                found = [await self._api.until_answered(lambda: self._api.get(PODS, pool.namespace, name))]
            else:
                selector = f"{labels.POOL}={pool.name}"
                found, _ = await self._api.until_answered(
                    lambda: self._api.list_all(PODS, pool.namespace, label_selector=selector)
                )
        except (NotFound, Refused):
            return None
        return next((read_pod(pod) for pod in found if pod["metadata"]["uid"] == uid), None)

    def _add(
        self,
        namespace: str,
        registration: Registration,
        pod: Pod | None,
        *,
        claim_state: ClaimState = ClaimState.MADE,
        registered_by: str | None = None,
        run_uid: str | None = None,
    ) -> Worker:
        old = self._workers.get(registration.worker_id)
        if old is not None:
            self._connections.close(old)
        worker = Worker(
            namespace=namespace,
            registration=registration,
            slots=registration.slots,
            # to register again claims nothing of what the worker had before
            claim_state=old.claim_state if old else claim_state,
            pod=pod.ref if pod else None,
            pod_uid=pod.uid if pod else None,
            run_uid=run_uid,
            registered_by=registered_by,
            assigned=old.assigned if old else {},
            occupied=old.occupied if old else 0,
            suspects=old.suspects if old else set(),
            life=Life(alive_at=registration.alive_at, after=registration.container_after),
            draining_since=old.draining_since if old else None,
            idle_since=self._clock.loop_time(),
            passed_over=old.passed_over if old else {},
        )
        for attempt in worker.assigned.values():
            attempt.worker = worker
        if old is not None:
            self._workers.remove(old)
        self._workers.add(worker)
        self.deaths.seen(worker)
        return worker

    # --- What workers say

    def listen(
        self, caller: Caller, worker_id: str, claimed: list[ClaimedAttempt] | None
    ) -> tuple[Worker, WorkerStream]:
        """See `Streams.listen`."""
        return self._streams.listen(caller, worker_id, claimed)

    def left(self, worker: Worker, stream: WorkerStream) -> None:
        """See `Streams.left`."""
        self._streams.left(worker, stream)

    def drain(self, caller: Caller, worker_id: str, *, has_ended: bool = False) -> None:
        """See `Streams.drain`."""
        self._streams.drain(caller, worker_id, has_ended=has_ended)

    def heartbeat(self, caller: Caller, worker_id: str, *, at: datetime | None = None, overrunning: int = 0) -> None:
        """See `Streams.heartbeat`."""
        self._streams.heartbeat(caller, worker_id, at=at, overrunning=overrunning)

    def ended(self, attempt: Attempt | None) -> None:
        """See `Streams.ended`."""
        self._streams.ended(attempt)

    # --- Pods

    def find_pod(self, uid: str) -> Pod | None:
        """See `Workers.find_pod`."""
        return self._workers.find_pod(uid)

    def pods_of(self, pool: ObjectRef) -> list[Pod]:
        """See `Workers.pods_of`."""
        return self._workers.pods_of(pool)

    def addresses_in_use(self) -> set[str]:
        """See `Workers.addresses_in_use`."""
        return self._workers.addresses_in_use()

    def observe_pod(self, kind: str, pod: Pod) -> None:
        """Observe a Pod: a worker dies with its Pod, and with its container."""
        self._workers.saw_pod(kind, pod)
        if kind != "DELETED":
            self._know_from_annotation(pod)
        for worker in self._workers.in_pod(pod.uid):
            self.deaths.look_at(worker, kind, pod)

    # --- After a start

    def _know_from_annotation(self, pod: Pod) -> None:
        """Know a worker after a start, if it registered with a previous operator."""
        if not self._runs.has_runs_on_hold or self._workers.in_pod(pod.uid):
            return
        if (registration := read_registration(pod.name, pod.annotations)) is not None:
            self._add(pod.namespace, registration, pod, claim_state=ClaimState.AWAITED, run_uid=run_of(pod))

    async def know_from_leases(self) -> None:
        """Know the workers outside of Pods after a start."""
        for namespace, registration in await read_leases(self._api, self._scope):
            self._add(namespace, registration, None, claim_state=ClaimState.AWAITED)

    def begin_rejoin(self, handed_over: HandedOver | None = None) -> None:
        """Wait until each known worker has said what it has, is dead, or time is up; runs and Pods are known."""
        self.deaths.listen()
        self.rejoin.begin(handed_over)

    def assignments(self) -> HandedOver | None:
        """Say which worker has what, for the next leader; None: unknown, since a worker has not said so yet."""
        if self._runs.has_runs_on_hold or self.rejoin.is_waiting:
            return None
        return assignments(self._store)

    def stop(self) -> None:
        self.rejoin.stop()
        self.deaths.stop()
        self._connections.end(self._workers)


def _runs_on(worker: Worker, pod: Pod | None) -> bool:
    """Whether the container from which a worker registered still runs, on a node that is reachable."""
    if pod is None or pod.is_being_deleted or pod.phase != "Running" or pod.condition("Ready").status == "False":
        return False
    began = pod.worker.running_since if pod.worker is not None else None
    return began is not None and began <= worker.registration.registered_at


def _refuse_another_pod(caller: Caller, request: RegistrationRequest) -> None:
    if caller.pod_uid is not None and request.pod_uid not in (None, caller.pod_uid):
        raise NotPermitted(
            f'Pod "{caller.pod_name}" ({caller.pod_uid} by its token) registers as Pod "{request.pod_name}" '
            f"({request.pod_uid}); HATCHET_POD_UID must be the metadata.uid of the Pod itself"
        )
