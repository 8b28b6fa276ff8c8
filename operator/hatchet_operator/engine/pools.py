"""WorkerPools: a token for each, and as many pods as its work needs.

Pods are counted in memory, where a pod that was just made is put at once; one reconcile runs per pool at a time. So a
watch that is late makes no second pod.
"""

import asyncio
import base64
import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from weakref import WeakValueDictionary

from hatchet_operator.cluster.api import Api, Json, back_off
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import PODS, POOLS, SECRETS
from hatchet_operator.decisions.pool_status import Refusal, pool_status
from hatchet_operator.decisions.pooling import (
    ADDRESS_KEY,
    CA_KEY,
    OperatorAccess,
    lacks_token,
    lifetime_of,
    make_pod,
    number_of,
    reach_of,
    template_hash,
    template_problem,
    token_secret_name,
    trouble_of,
    why_ended,
    without_generated_name,
)
from hatchet_operator.decisions.rejoining import Reach
from hatchet_operator.decisions.run_pods import has_ended
from hatchet_operator.decisions.scaling import Demand, PodView, PoolPlan, plan_pool
from hatchet_operator.decisions.waiting import NO_LOAD, PoolLoad
from hatchet_operator.engine.records import Tombstones
from hatchet_operator.engine.workers import DEFAULT_SLOTS, Worker
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused, Transient
from hatchet_operator.identity import Caller, mint_token
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, owner_reference
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.workerpool import WorkerPool

log = logging.getLogger(__name__)

_AVAILABLE = ConditionType.AVAILABLE
_LOOK_AGAIN = timedelta(seconds=2)
"""Time for the watch to show a pod of which nobody knows whether it was made."""
_TRY_AGAIN = timedelta(seconds=30)
"""After refusals, at the latest: a quota or a right may be given meanwhile, of which nobody tells us."""

_GATHER_SECONDS = 0.05
_LAST_SECONDS = 2
"""For a pod that can tell nobody what comes of its work."""
_NAMESPACE_TERMINATING = "NamespaceTerminating"


class Pools:
    """All pools of the operator."""

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        token_key: str,
        workers_of: Callable[[ObjectRef], list[Worker]],
        drain: Callable[[Worker], None],
        queued: Callable[[ObjectRef], int],
        awaited: Callable[[ObjectRef], str | None],
        pods_of: Callable[[ObjectRef], list[Json]],
        trouble_changed: Callable[[ObjectRef], None],
    ) -> None:
        self._api = api
        self._events = events
        self._token_key = token_key
        self.token_key_id = hashlib.sha256(token_key.encode()).hexdigest()[:8]
        self._workers_of = workers_of
        self._drain = drain
        self._queued = queued
        self._awaited = awaited
        self._pods_of = pods_of
        self._trouble_changed = trouble_changed
        self._rechecks: dict[ObjectRef, asyncio.TimerHandle] = {}
        self._pools: dict[ObjectRef, WorkerPool] = {}
        self._pods: dict[ObjectRef, dict[str, Json]] = {}  # pool -> pod uid -> Pod
        self._locks: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: set[ObjectRef] = set()
        self._failures: dict[ObjectRef, int] = {}  # in a row
        self._refusals: dict[ObjectRef, Refusal] = {}
        self._lacking: Refusal | None = None
        self._ending: set[ObjectRef] = set()  # their namespaces are being deleted
        self._ended_at: dict[str, float] = {}  # pod uid -> time.monotonic() when it was seen to have ended
        self._deleted_pods = Tombstones()
        self._secrets: dict[ObjectRef, tuple[str, Json]] = {}  # what was written, by pool
        self._troubles: dict[ObjectRef, str] = {}
        self._loads: dict[ObjectRef, PoolLoad] = {}
        self._access = OperatorAccess(grpc_address="")
        self.also_served: frozenset[str] = frozenset()
        """Addresses beside the one that pods are given now: of earlier settings, while pods have them."""
        self.ca_pem: str | None = None
        self.active = False

    def admit(self, access: OperatorAccess) -> None:
        """Make pods from now on, which find the operator so."""
        self._access = access
        self.active = True
        self._all_changed()

    def trust(self, ca_pem: str | None) -> None:
        """Have pods trust these authorities, before one of them signs a certificate that they meet."""
        if ca_pem != self.ca_pem:
            self.ca_pem = ca_pem
            self._all_changed()

    def lack(self, what: str | None) -> None:
        """Say on all pools which CRD is missing; None: none is any more."""
        self._lacking = (
            Refusal(message=what, is_of_spec=False, generation=0, until=0.0, lacking=True) if what is not None else None
        )
        self._all_changed()

    def _all_changed(self) -> None:
        for pool in self.known():
            self.changed(pool)

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self._pools

    def get(self, ref: ObjectRef) -> WorkerPool | None:
        return self._pools.get(ref)

    @property
    def access(self) -> OperatorAccess:
        """How pods find the operator."""
        return self._access

    def trouble_of(self, ref: ObjectRef) -> str | None:
        """Say why a pool has fewer workers than its work needs; None: nothing is known to be wrong."""
        return self._troubles.get(ref)

    def loaded(self, ref: ObjectRef, load: PoolLoad) -> None:
        """Show what a pool has to do."""
        if ref in self._pools and load != self._loads.get(ref, NO_LOAD):
            self._loads[ref] = load
            self.changed(ref)

    def _load_of(self, ref: ObjectRef) -> PoolLoad:
        slots = sum(worker.slots for worker in self._workers_of(ref) if worker.is_connected)
        return replace(self._loads.get(ref, NO_LOAD), slots=slots)  # which changes seldom: it needs no look

    def why_not_available(self, ref: ObjectRef) -> str | None:
        """Say what the pool's status says of pods that are still to come."""
        pool = self._pools.get(ref)
        conditions = pool.status.conditions if pool else ()
        return next((one.message for one in conditions if one.type == _AVAILABLE and one.status == "False"), None)

    def known(self) -> list[ObjectRef]:
        return list(self._pools)

    def version_of(self, ref: ObjectRef) -> int:
        return int(self._pools[ref].metadata.resource_version)

    def forget(self, ref: ObjectRef) -> None:
        """It is not there any more; its pods and Secret are owned by it."""
        self._pools.pop(ref, None)
        self._secrets.pop(ref, None)
        self._troubles.pop(ref, None)
        self._loads.pop(ref, None)
        self._failures.pop(ref, None)
        self._refusals.pop(ref, None)
        self._ending.discard(ref)
        if (recheck := self._rechecks.pop(ref, None)) is not None:
            recheck.cancel()

    def template_of(self, ref: ObjectRef) -> str | None:
        """Return the hash of what a pool's pods are made from now; None: there is no such pool, or none is made yet."""
        pool = self._pools.get(ref)
        return template_hash(pool, self._access) if pool and self.active else None

    def reach_of(self, pod: Json) -> Reach:
        """Say how the worker of a pod finds this operator."""
        metadata = pod["metadata"]
        pool = self._pools.get(ObjectRef(metadata["namespace"], metadata.get("labels", {}).get(labels.POOL, "")))
        return reach_of(pod, self._access, served=self.also_served, pool=pool)

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
        if known is not None and int(obj["metadata"]["resourceVersion"]) <= int(known.metadata.resource_version):
            return
        if known is not None and known.metadata.uid != obj["metadata"]["uid"]:
            self.forget(ref)  # deleted and made anew between two events, and what it had goes with it
        try:
            self._pools[ref] = WorkerPool.model_validate(obj)
        except ValueError as error:
            log.warning("pool is not understood", extra={"pool": str(ref), "error": str(error)})
        else:
            self.changed(ref)

    def observe_pod(self, kind: str, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            # a made-up DELETED event has no labels, so look everywhere
            for ref, pods in list(self._pods.items()):
                if pods.pop(uid, None) is not None:
                    self.changed(ref)
            self._there_may_be_room(pod["metadata"].get("namespace", ""))
            self._deleted_pods.add(uid)
            self._ended_at.pop(uid, None)
            return
        name = pod["metadata"].get("labels", {}).get(labels.POOL)
        if name is None:
            return
        ref = ObjectRef(pod["metadata"]["namespace"], name)
        if lacks_token(pod, pool=name):
            self._secrets.pop(ref, None)
            self.changed(ref)
        if _pool_uid_of(pod) is None:
            return  # somebody's Deployment, whose pods work for the pool but are not its to scale
        self._pods.setdefault(ref, {})[uid] = pod
        if _has_ended(pod) and uid not in self._ended_at:
            self._ended_at[uid] = time.monotonic()
            self._tell_end(ref, pod)
        self.changed(ref)

    def _there_may_be_room(self, namespace: str) -> None:
        """A pod is gone: what a quota had no room for is tried again at once."""
        for ref, refusal in list(self._refusals.items()):
            if ref.namespace == namespace and "exceeded quota" in refusal.message:
                self._refusals[ref] = replace(refusal, until=0.0)
                self._failures.pop(ref, None)
                self.changed(ref)

    def _tell_end(self, ref: ObjectRef, pod: Json) -> None:
        """Say who ended a pod; conditions do it only while the pool lacks one."""
        why, pool = why_ended(pod), self._pools.get(ref)
        if self.active and why is not None and pool is not None:
            self._events.warn(pool, Reason.POD_ENDED, f"pod {pod['metadata']['name']} was ended: {why}")

    def changed(self, ref: ObjectRef) -> None:
        """Have a pool reconciled soon; many changes at once lead to one."""
        if not self.active or ref in self._pending or ref not in self._pools:
            return
        self._pending.add(ref)
        task = asyncio.get_running_loop().create_task(self._reconcile_soon(ref))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconcile_soon(self, ref: ObjectRef) -> None:
        await asyncio.sleep(_GATHER_SECONDS)  # a burst of runs and of pod events leads to one decision
        lock = self._locks.setdefault(ref, asyncio.Lock())
        async with lock:
            self._pending.discard(ref)
            try:
                await self.reconcile(ref)
            except ApiError as error:
                log.warning("pool not reconciled", extra={"pool": str(ref), "error": str(error)})
                self._recheck_after(ref, self._pause_after_failure(ref))
            except Exception as error:  # the boundary between pools; the error is shown, not hidden
                log.error("pool can't be reconciled", extra={"pool": str(ref)}, exc_info=error)
                if (pool := self._pools.get(ref)) is not None:
                    message = f"the operator can't go on with this pool: {error!r}"
                    self._events.warn(pool, Reason.INTERNAL_ERROR, message)

    # --- Decide and apply

    async def reconcile(self, ref: ObjectRef) -> None:
        """Bring a pool's token, pods and status to what they should be."""
        pool = self._pools.get(ref)
        if pool is None or pool.metadata.deletion_timestamp is not None or ref in self._ending:
            return
        plan = self._plan(pool, ref)
        self._recheck_after(ref, plan.recheck_after)
        for worker in self._workers_of(ref):  # before anything is awaited: one that is idle must not get work meanwhile
            if worker.pod is not None and worker.pod.name in plan.drain:
                self._drain(worker)
        look_again = await self._make_what_is_missing(pool, ref, plan)
        if ref in self._ending:
            return
        if look_again is not None and (plan.recheck_after is None or look_again < plan.recheck_after):
            self._recheck_after(ref, look_again)
        for name in plan.delete:
            await self._delete_pod(ref, name)
        refusal = self._lacking or self._refusals.get(ref)
        failing = plan.message if plan.reason is Reason.PODS_FAILING else None
        self._note_trouble(ref, refusal.message if refusal else failing)
        await self._write_status(ref, plan, refusal)

    async def _make_what_is_missing(self, pool: WorkerPool, ref: ObjectRef, plan: PoolPlan) -> timedelta | None:
        """Make the pool's Secret and the pods that it lacks; return when to look again."""
        if (problem := template_problem(pool)) is not None:
            generation = pool.metadata.generation
            self._refusals[ref] = Refusal(message=problem, is_of_spec=True, generation=generation, until=float("inf"))
            self._events.warn(pool, Reason.INVALID_SPEC, problem)
            return None
        if not plan.create and self._secrets.get(ref) == (pool.metadata.uid, self._secret_data(ref)):
            self._refusals.pop(ref, None)
            return None
        refusal = self._refusals.get(ref)
        if refusal is not None and refusal.generation == pool.metadata.generation:
            left = refusal.until - time.monotonic()
            if left > 0:
                return timedelta(seconds=left)
        try:
            await self._ensure_secret(pool)
            for _ in range(plan.create):
                await self._create_pod(pool, number=plan.number)
        except Transient as error:
            log.warning("pod may not have been made", extra={"pool": str(ref), "error": str(error)})
            return _LOOK_AGAIN
        except Refused as error:
            return self._refuse(pool, ref, error)
        self._failures.pop(ref, None)
        self._refusals.pop(ref, None)
        return None

    def _refuse(self, pool: WorkerPool, ref: ObjectRef, error: Refused) -> timedelta | None:
        """Remember why there is no pod, and say so; return when to try again."""
        current = self._pools.get(ref)
        if current is None or current.metadata.uid != pool.metadata.uid:
            return None  # deleted meanwhile: what is remembered now would be of the next pool of that name
        if _NAMESPACE_TERMINATING in error.causes:  # for good, and the pool goes as well: nobody needs to hear of it
            log.info("pool left alone, its namespace is being deleted", extra={"pool": str(ref)})
            self._ending.add(ref)
            self._recheck_after(ref, None)
            return None
        pause = self._pause_after_failure(ref)
        self._refusals[ref] = refusal = Refusal(
            message="the API server refused the pool's pod: "
            + without_generated_name(error.message, pool=pool.metadata.name),
            is_of_spec=_is_of_spec(error),
            generation=pool.metadata.generation,
            until=time.monotonic() + pause.total_seconds(),
        )
        self._events.warn(pool, refusal.reason, refusal.message)
        return pause

    def _pause_after_failure(self, ref: ObjectRef) -> timedelta:
        """A namespace that was just made refuses pods until it has its service account; a quota may do so for days."""
        self._failures[ref] = failures = self._failures.get(ref, 0) + 1
        return timedelta(seconds=back_off(failures + 4, longest_seconds=_TRY_AGAIN.total_seconds()))

    def _note_trouble(self, ref: ObjectRef, trouble: str | None) -> None:
        if trouble == self._troubles.get(ref):
            return
        if trouble is None:
            del self._troubles[ref]
        else:
            self._troubles[ref] = trouble
        self._trouble_changed(ref)

    async def ensure_secret(self, ref: ObjectRef) -> None:
        """Make sure that a pool's Secret is there for a pod that somebody else makes."""
        pool = self._pools.get(ref)
        if pool is not None:
            await self._ensure_secret(pool)

    def _plan(self, pool: WorkerPool, ref: ObjectRef) -> PoolPlan:
        workers = {worker.pod_uid: worker for worker in self._workers_of(ref)}
        wanted_template = template_hash(pool, self._access)
        views = [
            _view(pod, workers.get(uid), wanted_template=wanted_template, ended_at=self._ended_at.get(uid))
            for uid, pod in self._pods.get(ref, {}).items()
            if _pool_uid_of(pod) == pool.metadata.uid  # not of an earlier one of that name, with which they go
        ]
        asked = max((worker.slots for worker in workers.values()), default=DEFAULT_SLOTS)
        return plan_pool(pool, views, Demand(queued=self._queued(ref), slots_per_pod=pool.spec.slots or asked))

    def _recheck_after(self, ref: ObjectRef, delay: timedelta | None) -> None:
        if (before := self._rechecks.pop(ref, None)) is not None:
            before.cancel()
        if delay is not None:
            loop = asyncio.get_running_loop()
            self._rechecks[ref] = loop.call_later(delay.total_seconds(), self.changed, ref)

    def _secret_data(self, ref: ObjectRef) -> Json:
        caller = Caller(namespace=ref.namespace, pool=ref.name)
        address = self._access.grpc_address
        token = mint_token(caller, key=self._token_key, grpc_address=address)
        data = {"token": token, ADDRESS_KEY: address}
        return data if self.ca_pem is None else data | {CA_KEY: self.ca_pem}

    async def _ensure_secret(self, pool: WorkerPool) -> None:
        """Look at the Secret before each pod: nobody tells us of it, and a pod waits for a volume without a word.

        Watching would take the right to list all Secrets.
        """
        namespace, name = pool.metadata.namespace, pool.metadata.name
        ref = ObjectRef(namespace, name)
        data = self._secret_data(ref)
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": token_secret_name(name),
                "namespace": namespace,
                "labels": {labels.POOL: name, labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": [owner_reference(pool)],
            },
            "stringData": data,
        }
        try:
            await self._renew_secret(namespace, body)
        except NotFound:
            with suppress(AlreadyExists):  # by another pod's look at it, or by a try of ours whose answer was lost
                await self._api.until_answered(self._api.create, SECRETS, namespace, body)
        self._secrets[ref] = pool.metadata.uid, data  # of this pool: another one may have its name by now

    async def _renew_secret(self, namespace: str, body: Json) -> None:
        """The Secret may be of an operator with another key or address, or of an earlier pool of that name."""
        name, owners = body["metadata"]["name"], body["metadata"]["ownerReferences"]
        pool = body["metadata"]["labels"][labels.POOL]
        secret = await self._api.until_answered(self._api.get, SECRETS, namespace, name)
        if secret["metadata"].get("labels", {}).get(labels.MANAGED_BY) != labels.MANAGER:
            raise Refused(f'Secret "{name}" is there and somebody else\'s; delete it, or give the pool another name')
        # not decoded: somebody may have put into it what is no text
        wanted = {key: base64.b64encode(value.encode()).decode() for key, value in body["stringData"].items()}
        if (secret.get("data"), secret["metadata"].get("ownerReferences")) == (wanted, owners):
            return
        # With its owner, or the garbage collector would take it away after the earlier pool.
        patch: Json = {"metadata": {"ownerReferences": owners}, "stringData": body["stringData"]}
        await self._api.until_answered(self._api.patch, SECRETS, namespace, name, patch)
        await asyncio.gather(*(self._renew_files(pod, wanted) for pod in self._pods_of(ObjectRef(namespace, pool))))

    async def _renew_files(self, pod: Json, data: Json) -> None:
        """Have the kubelet look at a pod: by itself it brings it what is in a Secret within a minute or so."""
        metadata = pod["metadata"]
        digest = hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()[:16]
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {labels.CREDENTIALS: digest}}}
        with suppress(ApiError):  # then it takes its time
            await self._api.patch(PODS, metadata["namespace"], metadata["name"], patch)

    async def _create_pod(self, pool: WorkerPool, *, number: int) -> None:
        # Not repeated when no answer comes: its name is generated, so a second try could make a second pod. The watch
        # shows whether it was made, and a moment later it is decided again.
        body = make_pod(pool, self._access, number=number)
        pod = await self._api.create(PODS, pool.metadata.namespace, body, strict=True)  # as kubectl does
        log.info("pod created", extra={"pool": pool.metadata.name, "pod": pod["metadata"]["name"]})
        if pod["metadata"]["uid"] not in self._deleted_pods:
            ref = ObjectRef(pool.metadata.namespace, pool.metadata.name)
            self._pods.setdefault(ref, {}).setdefault(pod["metadata"]["uid"], pod)

    async def _delete_pod(self, pool: ObjectRef, name: str) -> None:
        try:
            await self._api.until_answered(self._api.delete, PODS, pool.namespace, name)
        except NotFound:
            return
        for pod in self._pods.get(pool, {}).values():
            if pod["metadata"]["name"] == name:
                pod["metadata"].setdefault("deletionTimestamp", datetime.now(UTC).isoformat())
        log.info("pod deleted", extra={"pool": pool.name, "pod": name})

    def end_pod(self, ref: ObjectRef, pod: Json, why: str) -> None:
        """End a pod that can't tell what it has, so that nothing of it is done twice while it runs."""
        if (pool := self._pools.get(ref)) is not None:
            self._events.warn(pool, Reason.POD_ENDED, f"pod {pod['metadata']['name']} was ended: {why}")
        task = asyncio.get_running_loop().create_task(self._end_pod(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_pod(self, pod: Json) -> None:
        metadata = pod["metadata"]
        with suppress(NotFound, Conflict):  # it is gone already, or another has its name
            await self._api.until_answered(
                self._api.delete,
                PODS,
                metadata["namespace"],
                metadata["name"],
                uid=metadata["uid"],
                grace_seconds=_LAST_SECONDS,
            )

    async def _write_status(self, ref: ObjectRef, plan: PoolPlan, refusal: Refusal | None) -> None:
        conflicts = 0
        while (pool := self._pools.get(ref)) is not None:
            awaited = self._awaited(ref)  # no lack of workers: what may be with one must not go to another meanwhile
            told = plan if awaited is None else replace(plan, message=f"{plan.message}; {awaited}")
            status = pool_status(pool, told, refusal, self._load_of(ref), datetime.now(UTC))
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
                    self._api.replace, POOLS, ref.namespace, ref.name, body, subresource="status"
                )
            except Conflict:
                conflicts += 1
                await asyncio.sleep(back_off(conflicts, longest_seconds=5))
                try:
                    answer = await self._api.until_answered(self._api.get, POOLS, ref.namespace, ref.name)
                except NotFound:
                    return
                self.observe("MODIFIED", answer)
                continue
            except NotFound:
                return
            self.observe("MODIFIED", answer)
            said = {condition.message for condition in pool.status.conditions}
            for condition in status.conditions:
                if condition.reason == Reason.PODS_FAILING and condition.message not in said:
                    self._events.warn(pool, condition.reason, condition.message)
            return

    async def stop(self) -> None:
        self.active = False
        for recheck in self._rechecks.values():
            recheck.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _pool_uid_of(pod: Json) -> str | None:
    owners = pod["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner["kind"] == POOLS.kind), None)


def _has_ended(pod: Json) -> bool:
    """Whether a pod is over; of one that does not start its containers again, a sidecar may run on."""
    if pod["spec"].get("restartPolicy", "Always") == "Never":
        return has_ended(pod)
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _is_of_spec(error: Refused) -> bool:
    """Whether the template itself makes no pod; admission policies and webhooks deny with the same codes."""
    return error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and "denied" not in error.message


def _view(pod: Json, worker: Worker | None, *, wanted_template: str, ended_at: float | None) -> PodView:
    now = time.monotonic()
    draining_since = worker.draining_since if worker else None
    return PodView(
        name=pod["metadata"]["name"],
        deleting="deletionTimestamp" in pod["metadata"],
        # a pod of an operator that did not label it yet is as good as any
        current=pod["metadata"].get("labels", {}).get(labels.TEMPLATE, wanted_template) == wanted_template,
        connected=worker is not None and worker.is_connected,
        attempts=len(worker.out) if worker else 0,
        occupied=worker.occupied if worker else 0,
        idle_for=timedelta(seconds=now - worker.idle_since) if worker and not worker.out else None,
        draining_for=timedelta(seconds=now - draining_since) if draining_since is not None else None,
        trouble=trouble_of(pod),
        number=number_of(pod),
        ended_for=timedelta(seconds=now - ended_at) if ended_at is not None else None,
        lived=lifetime_of(pod),
    )
