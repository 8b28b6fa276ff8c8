"""WorkerPools: a token for each, and as many pods as its work needs.

One reconcile runs per pool at a time.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from hatchet_operator.access.identity import NO_REST_API
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import POOLS
from hatchet_operator.cluster.statuses import write_status
from hatchet_operator.decisions.pool_status import Refusal, pool_status
from hatchet_operator.decisions.pooling import (
    OperatorAccess,
    lacks_token,
    pool_of,
    template_hash,
    template_problem,
    why_ended,
)
from hatchet_operator.decisions.protection import PROTECTED, open_annotations, plan_protection
from hatchet_operator.decisions.scaling import Demand, PodView, PoolPlan, plan_pool
from hatchet_operator.decisions.waiting import NO_LOAD, PoolLoad
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import DEFAULT_SLOTS, Worker
from hatchet_operator.engine.pods.known_pools import KnownPools
from hatchet_operator.engine.pods.pool_pods import PoolPods
from hatchet_operator.engine.pods.pool_secrets import PoolSecrets
from hatchet_operator.engine.pods.refusals import Refusals
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import ApiError, NotFound, Refused, Transient
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import PoolStatus, WorkerPool

log = logging.getLogger(__name__)

_LOOK_AGAIN = timedelta(seconds=2)
"""Time for the watch to show a pod if it is unknown whether it was created."""

_GATHER_SECONDS = 0.05


class Pools:
    """All pools of the operator."""

    def __init__(
        self,
        api: Api,
        *,
        known: KnownPools,
        events: EventRecorder,
        clock: Clock,
        token_key: str,
        workers_of: Callable[[ObjectRef], list[Worker]],
        drain: Callable[[Worker], None],
        queued: Callable[[ObjectRef], int],
        awaited: Callable[[ObjectRef], str | None],
        pods_of: Callable[[ObjectRef], list[Pod]],
        trouble_changed: Callable[[ObjectRef], None],
        no_room: Callable[[str], None],
        payload_keys: Callable[[str], str | None],
        protect_after: timedelta,
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock
        self.token_key_id = hashlib.sha256(token_key.encode()).hexdigest()[:8]
        self._workers_of = workers_of
        self._drain = drain
        self._queued = queued
        self._awaited = awaited
        self._trouble_changed = trouble_changed
        self._known = known
        self._protect_after = protect_after
        self._pods = PoolPods(api, clock=clock)
        self._refusals = Refusals(events=events, clock=clock, no_room=no_room)
        # a burst of runs and of pod events leads to one decision
        self._work: WorkQueue[ObjectRef] = WorkQueue(
            self._reconcile, failed=self._poisoned, gather_seconds=_GATHER_SECONDS
        )
        self._secrets = PoolSecrets(api, token_key=token_key, pods_of=pods_of, payload_keys=payload_keys)
        self._loads: dict[ObjectRef, PoolLoad] = {}

    def admit(self, access: OperatorAccess) -> None:
        """Create pods from now on, and tell them how to find the operator."""
        self._known.access = access
        self._secrets.grpc_address = access.grpc_address
        self._secrets.rest_url = access.rest_url or NO_REST_API
        self._known.has_pods = True
        self._all_changed()

    def trust(self, ca_pem: str | None) -> None:
        """Have pods trust these authorities, before any of these signs a certificate that pods see."""
        if ca_pem != self._secrets.ca_pem:
            self._secrets.ca_pem = ca_pem
            self._all_changed()

    def lack(self, what: str | None) -> None:
        """Say on all pools which CRD is missing; None: none is missing."""
        self._refusals.lack(what)
        self._all_changed()

    def _all_changed(self) -> None:
        for pool in self.known():
            self.changed(pool)

    @property
    def ca_pem(self) -> str | None:
        """Return the authorities that pods trust."""
        return self._secrets.ca_pem

    def show_load(self, ref: ObjectRef, load: PoolLoad) -> None:
        """Show a pool's load."""
        if ref in self._known and load != self._loads.get(ref, NO_LOAD):
            self._loads[ref] = load
            self.changed(ref)

    def _load_of(self, ref: ObjectRef) -> PoolLoad:
        slots = sum(worker.slots for worker in self._workers_of(ref) if worker.is_connected)
        return replace(self._loads.get(ref, NO_LOAD), slots=slots)  # slots change rarely

    def known(self) -> list[ObjectRef]:
        return list(self._known)

    def version_of(self, ref: ObjectRef) -> int:
        return int(self._known[ref].metadata.resource_version)

    def forget(self, ref: ObjectRef) -> None:
        """Forget a pool that no longer exists; it owned its pods and Secret."""
        self._known.forget(ref)
        self._secrets.forget(ref)
        self._loads.pop(ref, None)
        self._refusals.forget(ref)
        self._work.forget(ref)

    # --- What is observed

    def observe(self, kind: str, obj: Json) -> None:
        """Observe a WorkerPool: from the watch, or from the answer to a write."""
        ref = ObjectRef(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        known = self._known.get(ref)
        if kind == "DELETED":
            if known is not None and known.metadata.uid == obj["metadata"]["uid"]:
                self.forget(ref)
            return
        if known is not None and int(obj["metadata"]["resourceVersion"]) <= int(known.metadata.resource_version):
            return
        if known is not None and known.metadata.uid != obj["metadata"]["uid"]:
            self.forget(ref)  # deleted and created again between two events, and everything it had is gone too
        try:
            self._known.put(ref, WorkerPool.model_validate(obj))
        except ValueError as error:
            log.warning("pool is not understood", extra={"pool": str(ref), "error": str(error)})
        else:
            self.changed(ref)

    def observe_pod(self, kind: str, pod: Pod) -> None:
        """Observe a Pod with the label of a pool; only those that a pool owns are scaled by it."""
        if kind == "DELETED":
            for ref in self._pods.forget(pod.uid):
                self.changed(ref)
            self.there_may_be_room(pod.namespace)
            return
        if labels.POOL not in pod.labels:
            return
        ref = pool_of(pod)
        if lacks_token(pod, pool=ref.name):
            self._secrets.forget(ref)
            self.changed(ref)
        if pod.owner_uid(POOLS.kind) is None:
            return  # a pod of somebody's Deployment, which works for the pool but is not scaled by it
        if self._pods.saw(ref, pod):
            self._tell_end(ref, pod)
        self.changed(ref)

    def _tell_end(self, ref: ObjectRef, pod: Pod) -> None:
        """Record who ended a pod; conditions do so only while the pool lacks one."""
        why, pool = why_ended(pod), self._known.get(ref)
        if self._known.has_pods and why is not None and pool is not None:
            self._events.warn(pool, Reason.POD_ENDED, f"pod {pod.name} was ended: {why}")

    def there_may_be_room(self, namespace: str) -> None:
        """Try again what a quota had no room for."""
        for ref in self._refusals.there_may_be_room(namespace):
            self.changed(ref)

    @property
    def are_at_rest(self) -> bool:
        """Whether what was seen so far led to all that it leads to; some pools may be looked at later."""
        return self._work.is_at_rest

    def will_look_at(self, ref: ObjectRef) -> bool:
        """Whether a pool is reconciled again, sooner or later, if nothing changes."""
        return ref in self._work

    def changed(self, ref: ObjectRef) -> None:
        """Have a pool reconciled soon; many changes at once lead to one reconcile."""
        if self._known.has_pods and ref in self._known:
            self._work.add(ref)

    def _poisoned(self, ref: ObjectRef, error: Exception) -> None:
        """Report a pool that can't be decided about; it does not stop the others."""
        log.error("pool can't be reconciled", extra={"pool": str(ref)}, exc_info=error)
        if (pool := self._known.get(ref)) is not None:
            message = f"the operator can't continue with this pool: {error!r}"
            self._events.warn(pool, Reason.INTERNAL_ERROR, message)

    # --- Decide and apply

    async def _reconcile(self, ref: ObjectRef) -> None:
        try:
            await self._bring_closer(ref)
        except ApiError as error:
            log.warning("pool not reconciled", extra={"pool": str(ref), "error": str(error)})
            self._recheck_after(ref, self._refusals.pause_after_failure(ref))

    async def _bring_closer(self, ref: ObjectRef) -> None:
        """Bring a pool's token, pods and status closer to the desired state."""
        pool = self._known.get(ref)
        if pool is None or pool.metadata.deletion_timestamp is not None or self._refusals.is_ending(ref):
            return
        plan = self._plan(pool, ref)
        self._recheck_after(ref, plan.recheck_after)
        for worker in self._workers_of(ref):  # before any await: an idle one must not get work meanwhile
            if worker.pod is not None and worker.pod.name in plan.drain:
                self._drain(worker)
        look_again = await self._make_what_is_missing(pool, ref, plan)
        if self._refusals.is_ending(ref):
            return
        if look_again is not None and (plan.recheck_after is None or look_again < plan.recheck_after):
            self._recheck_after(ref, look_again)
        for name in plan.delete:
            await self._pods.delete(ref, name)
        refusal = self._refusals.of(ref)
        failing = plan.message if plan.reason is Reason.PODS_FAILING else None
        if self._known.note_trouble(ref, refusal.message if refusal else failing):
            self._trouble_changed(ref)
        await self._write_status(ref, plan, refusal)
        await self._protect(ref)

    async def _protect(self, ref: ObjectRef) -> None:
        """Say on pods whether their nodes may be taken away."""
        if (pool := self._known.get(ref)) is None:
            return
        template = pool.spec.template.metadata.annotations
        plan = plan_protection(self._views(pool, ref), after=self._protect_after, template=template)
        self._recheck_after(ref, plan.recheck_after)
        await self._pods.annotate(ref, plan.protect, PROTECTED)
        await self._pods.annotate(ref, plan.open, open_annotations(template))

    async def _make_what_is_missing(self, pool: WorkerPool, ref: ObjectRef, plan: PoolPlan) -> timedelta | None:
        """Create the pool's Secret and the pods that it lacks; return when to look again."""
        if (problem := template_problem(pool)) is not None:
            self._refusals.invalid_template(ref, pool, problem)
            return None
        if not plan.create and self._secrets.is_written(ref, pool):
            self._refusals.over(ref)
            return None
        if (left := self._refusals.time_left(ref, pool)) is not None:
            return left
        try:
            await self._secrets.ensure(pool)
            for _ in range(plan.create):
                await self._pods.create(
                    pool,
                    self._known.access,
                    number=plan.number,
                    protected=plan.for_work and bool(self._protect_after),
                )
        except Transient as error:
            log.warning("pod may not have been made", extra={"pool": str(ref), "error": str(error)})
            return _LOOK_AGAIN
        except Refused as error:
            current = self._known.get(ref)
            if current is None or current.metadata.uid != pool.metadata.uid:
                return None  # deleted meanwhile: what we remembered now would apply to the next pool of that name
            return self._refusals.refused(ref, pool, error)
        self._refusals.succeeded(ref)
        return None

    async def ensure_secret(self, ref: ObjectRef) -> None:
        """Ensure that a pool's Secret exists, for a pod that is created elsewhere."""
        pool = self._known.get(ref)
        if pool is not None:
            await self._secrets.ensure(pool)

    def _plan(self, pool: WorkerPool, ref: ObjectRef) -> PoolPlan:
        asked = max((worker.slots for worker in self._workers_of(ref)), default=DEFAULT_SLOTS)
        demand = Demand(queued=self._queued(ref), slots_per_pod=pool.spec.slots or asked)
        return plan_pool(pool, self._views(pool, ref), demand)

    def _views(self, pool: WorkerPool, ref: ObjectRef) -> list[PodView]:
        workers = {worker.pod_uid: worker for worker in self._workers_of(ref)}
        return self._pods.views(ref, pool, workers, template_hash(pool, self._known.access))

    def _recheck_after(self, ref: ObjectRef, delay: timedelta | None) -> None:
        if delay is not None:
            self._work.add_after(ref, delay.total_seconds())

    def end_pod(self, ref: ObjectRef, pod: Pod, why: str) -> None:
        """End a pod that can't say what it has, so that none of its work is done twice while it runs."""
        if (pool := self._known.get(ref)) is not None:
            self._events.warn(pool, Reason.POD_ENDED, f"pod {pod.name} was ended: {why}")
        self._pods.end(pod)

    async def _write_status(self, ref: ObjectRef, plan: PoolPlan, refusal: Refusal | None) -> None:
        def decide() -> tuple[WorkerPool, PoolStatus] | None:
            if (pool := self._known.get(ref)) is None:
                return None
            awaited = self._awaited(ref)  # not a lack of workers: what one may have must not go to another meanwhile
            told = plan if awaited is None else replace(plan, message=f"{plan.message}; {awaited}")
            status = pool_status(pool, told, refusal, self._load_of(ref), self._clock.now())
            return (pool, status) if status != pool.status else None

        def observe(obj: Json) -> None:
            self.observe("MODIFIED", obj)

        with suppress(NotFound):  # it was deleted meanwhile
            if (written := await write_status(self._api, POOLS, ref, decide=decide, observe=observe)) is not None:
                self._warn_of_failing_pods(*written)

    def _warn_of_failing_pods(self, before: WorkerPool, status: PoolStatus) -> None:
        said = {condition.message for condition in before.status.conditions}
        for condition in status.conditions:
            if condition.reason == Reason.PODS_FAILING and condition.message not in said:
                self._events.warn(before, condition.reason, condition.message)

    async def stop(self) -> None:
        self._known.has_pods = False
        await self._work.stop()
        await self._pods.stop()
