"""WorkerPools: a token and `minReplicas` pods for each, kept so.

Pods are counted in memory, where a pod that was just made is put at once; one reconcile runs per pool at a time. So a
watch that is late makes no second pod.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import PODS, POOLS, SECRETS
from hatchet_operator.decisions.pooling import PoolPlan, make_pod, plan_pool, token_secret_name, view_of
from hatchet_operator.errors import AlreadyExists, Conflict, NotFound, Refused
from hatchet_operator.identity import Caller, mint_token
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Condition
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.workerpool import PoolStatus, WorkerPool

log = logging.getLogger(__name__)


class Pools:
    """All pools of the operator."""

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        token_key: str,
        connected_pods: Callable[[ObjectRef], set[str]],
    ) -> None:
        self._api = api
        self._events = events
        self._token_key = token_key
        self._connected_pods = connected_pods
        self._pools: dict[ObjectRef, WorkerPool] = {}
        self._pods: dict[ObjectRef, dict[str, Json]] = {}  # pool -> pod uid -> Pod
        self._locks: dict[ObjectRef, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: set[ObjectRef] = set()
        self._deleted_pods: set[str] = set()
        self.grpc_address = ""
        self.active = False

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self._pools

    def known(self) -> list[ObjectRef]:
        return list(self._pools)

    def version_of(self, ref: ObjectRef) -> int:
        return int(self._pools[ref].metadata.resource_version)

    def forget(self, ref: ObjectRef) -> None:
        """It is not there any more; its pods and Secret are owned by it."""
        self._pools.pop(ref, None)

    def slots_of(self, ref: ObjectRef) -> int | None:
        pool = self._pools.get(ref)
        return pool.spec.slots if pool else None

    # --- What is observed

    def observe(self, kind: str, obj: Json) -> None:
        ref = ObjectRef(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        known = self._pools.get(ref)
        if kind == "DELETED":
            if known is not None and known.metadata.uid == obj["metadata"]["uid"]:
                self.forget(ref)
            return
        if known is not None and int(obj["metadata"]["resourceVersion"]) < int(known.metadata.resource_version):
            return
        try:
            self._pools[ref] = WorkerPool.model_validate(obj)
        except ValueError as error:
            log.warning("pool is not understood", extra={"pool": str(ref), "error": str(error)})

    def observe_pod(self, kind: str, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            # a made-up DELETED event has no labels, so look everywhere
            for ref, pods in list(self._pods.items()):
                if pods.pop(uid, None) is not None:
                    self.changed(ref)
            self._deleted_pods.add(uid)
            return
        name = pod["metadata"].get("labels", {}).get(labels.POOL)
        if name is None:
            return
        ref = ObjectRef(pod["metadata"]["namespace"], name)
        self._pods.setdefault(ref, {})[uid] = pod
        self.changed(ref)

    def changed(self, ref: ObjectRef) -> None:
        """Have a pool reconciled soon; many changes at once lead to one."""
        if not self.active or ref in self._pending or ref not in self._pools:
            return
        self._pending.add(ref)
        task = asyncio.get_running_loop().create_task(self._reconcile_soon(ref))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconcile_soon(self, ref: ObjectRef) -> None:
        async with self._locks.setdefault(ref, asyncio.Lock()):
            self._pending.discard(ref)
            await self.reconcile(ref)

    # --- Decide and apply

    async def reconcile(self, ref: ObjectRef) -> None:
        """Bring a pool's token, pods and status to what they should be."""
        pool = self._pools.get(ref)
        if pool is None or pool.metadata.deletion_timestamp is not None:
            return
        connected = self._connected_pods(ref)
        pods = self._pods.get(ref, {})
        plan = plan_pool(pool, [view_of(pod, connected=uid in connected) for uid, pod in pods.items()])
        refused: str | None = None
        if plan.create:
            try:
                await self._ensure_token(pool)
                for _ in range(plan.create):
                    await self._create_pod(pool)
            except Refused as error:
                refused = f"the API server refused the pool's pod: {error.message}"
                self._events.warn(pool, Reason.INVALID_SPEC, refused)
        for name in plan.delete:
            await self._delete_pod(ref, name)
        await self._write_status(ref, plan, refused)

    async def _ensure_token(self, pool: WorkerPool) -> None:
        namespace, name = pool.metadata.namespace, pool.metadata.name
        token = mint_token(Caller(namespace=namespace, pool=name), key=self._token_key, grpc_address=self.grpc_address)
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": token_secret_name(name),
                "namespace": namespace,
                "labels": {labels.POOL: name, labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": "WorkerPool",
                        "name": name,
                        "uid": pool.metadata.uid,
                        "controller": True,
                    }
                ],
            },
            "stringData": {"token": token},
        }
        try:
            await self._api.until_answered(lambda: self._api.create(SECRETS, namespace, body))
        except AlreadyExists:
            patch: Json = {"stringData": {"token": token}}  # of an operator with another key or address
            await self._api.until_answered(lambda: self._api.patch(SECRETS, namespace, token_secret_name(name), patch))

    async def _create_pod(self, pool: WorkerPool) -> None:
        # Not repeated when no answer comes: its name is generated, so a second try could make a second pod. The watch
        # shows whether it was made, and the next reconcile decides again.
        pod = await self._api.create(PODS, pool.metadata.namespace, make_pod(pool, grpc_address=self.grpc_address))
        log.info("pod created", extra={"pool": pool.metadata.name, "pod": pod["metadata"]["name"]})
        if pod["metadata"]["uid"] not in self._deleted_pods:
            ref = ObjectRef(pool.metadata.namespace, pool.metadata.name)
            self._pods.setdefault(ref, {}).setdefault(pod["metadata"]["uid"], pod)

    async def _delete_pod(self, pool: ObjectRef, name: str) -> None:
        try:
            await self._api.until_answered(lambda: self._api.delete(PODS, pool.namespace, name))
        except NotFound:
            return
        for pod in self._pods.get(pool, {}).values():
            if pod["metadata"]["name"] == name:
                pod["metadata"].setdefault("deletionTimestamp", datetime.now(UTC).isoformat())
        log.info("pod deleted", extra={"pool": pool.name, "pod": name})

    async def _write_status(self, ref: ObjectRef, plan: PoolPlan, refused: str | None) -> None:
        while (pool := self._pools.get(ref)) is not None:
            status = _status(pool, plan, refused, datetime.now(UTC))
            if status == pool.status:
                return
            body: Json = {
                "apiVersion": API_VERSION,
                "kind": POOLS.kind,
                "metadata": {
                    "name": ref.name,
                    "namespace": ref.namespace,
                    "uid": pool.metadata.uid,
                    "resourceVersion": pool.metadata.resource_version,
                },
                "status": status.to_wire(),
            }
            try:
                answer = await self._api.until_answered(
                    lambda body=body: self._api.replace(POOLS, ref.namespace, ref.name, body, subresource="status")  # type: ignore[misc]
                )
            except Conflict:
                try:
                    answer = await self._api.until_answered(lambda: self._api.get(POOLS, ref.namespace, ref.name))
                except NotFound:
                    return
                self.observe("MODIFIED", answer)
                continue
            except NotFound:
                return
            self.observe("MODIFIED", answer)
            if not plan.available and plan.reason is Reason.PODS_FAILING:
                self._events.warn(pool, plan.reason, plan.message)
            return

    async def stop(self) -> None:
        self.active = False
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _status(pool: WorkerPool, plan: PoolPlan, refused: str | None, now: datetime) -> PoolStatus:
    old = {condition.type: condition for condition in pool.status.conditions}

    def condition(kind: ConditionType, value: bool, reason: Reason, message: str) -> Condition:
        status = "True" if value else "False"
        before = old.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else now
        return Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=since,
            observed_generation=pool.metadata.generation or None,
        )

    valid = condition(
        ConditionType.VALID, refused is None, Reason.VALID if refused is None else Reason.INVALID_SPEC, refused or ""
    )
    return PoolStatus(
        replicas=plan.replicas,
        ready_replicas=plan.ready,
        selector=f"{labels.POOL}={pool.metadata.name}",
        conditions=(condition(ConditionType.AVAILABLE, plan.available, plan.reason, plan.message), valid),
        observed_generation=pool.metadata.generation or None,
    )
