"""Pods of pools: those that exist or were just created, and how they come and go.

They are counted in memory, where a new pod is put at once, so that a late watch does not lead to a second one.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, POOLS
from hatchet_operator.decisions.pooling import OperatorAccess, lifetime_of, make_pod, number_of, trouble_of
from hatchet_operator.decisions.protection import is_protected
from hatchet_operator.decisions.run_pods import has_ended
from hatchet_operator.decisions.scaling import PodView
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.tombstones import Tombstones
from hatchet_operator.errors import ApiError, Conflict, NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod, read_pod
from hatchet_operator.resources.workerpool import WorkerPool

log = logging.getLogger(__name__)

_LAST_SECONDS = 2
"""Grace period of a pod that can't report the results of its work to anybody."""


class PoolPods:
    """The pods of all pools."""

    def __init__(self, api: Api, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._pods: dict[ObjectRef, dict[str, Pod]] = {}  # pool -> pod uid -> Pod
        self._ended_at: dict[str, float] = {}  # pod uid -> the loop's time when it was seen to have ended
        self._written_at: dict[str, float] = {}  # pod uid -> the loop's time when its protection was last written
        self._deleted = Tombstones()
        self._tasks: set[asyncio.Task[None]] = set()

    def saw(self, pool: ObjectRef, pod: Pod) -> bool:
        """Observe a pod as it is now; return whether it has ended since it was last seen."""
        self._pods.setdefault(pool, {})[pod.uid] = pod
        if not _has_ended(pod) or pod.uid in self._ended_at:
            return False
        self._ended_at[pod.uid] = self._clock.loop_time()
        return True

    def forget(self, uid: str) -> list[ObjectRef]:
        """Forget a pod; return the pools that it belonged to: a synthetic DELETED event has no labels that say so."""
        self._deleted.add(uid)
        self._ended_at.pop(uid, None)
        self._written_at.pop(uid, None)
        return [pool for pool, pods in self._pods.items() if pods.pop(uid, None) is not None]

    def views(
        self, ref: ObjectRef, pool: WorkerPool, workers: Mapping[str | None, Worker], template: str
    ) -> list[PodView]:
        """Return what a decision about a pool may know about its pods.

        Args:
            ref: The pool's name.
            pool: The pool; pods of an earlier one of that name are deleted with that one.
            workers: By the UIDs of their pods.
            template: The hash of its current pod template.
        """
        now, today = self._clock.loop_time(), self._clock.now()
        return [
            replace(
                _view(pod, workers.get(uid), wanted_template=template, ended_at=self._ended_at.get(uid), now=now),
                busy_for=_busy_for(workers.get(uid), today),
                written_for=timedelta(seconds=now - self._written_at[uid]) if uid in self._written_at else None,
            )
            for uid, pod in self._pods.get(ref, {}).items()
            if pod.owner_uid(POOLS.kind) == pool.metadata.uid
        ]

    async def create(self, pool: WorkerPool, access: OperatorAccess, *, number: int, protected: bool) -> None:
        """Create one more pod for a pool.

        Raises:
            ApiError: It was not created, or it is unknown whether it was.
        """
        # Not retried when no answer comes: its name is generated, so a second try could create a second pod. The watch
        # shows whether it was created, and a moment later the pool is decided about again.
        body = make_pod(pool, access, number=number, protected=protected)
        answer = await self._api.create(PODS, pool.metadata.namespace, body, strict=True)  # as kubectl does
        pod = read_pod(answer)
        log.info("pod created", extra={"pool": pool.metadata.name, "pod": pod.name})
        if pod.uid not in self._deleted:
            ref = ObjectRef(pool.metadata.namespace, pool.metadata.name)
            self._pods.setdefault(ref, {}).setdefault(pod.uid, pod)

    async def delete(self, pool: ObjectRef, name: str) -> None:
        """Delete a pod of a pool, and count it as being deleted from now on; nothing if it is gone."""
        try:
            await self._api.until_answered(self._api.delete, PODS, pool.namespace, name)
        except NotFound:
            return
        pods = self._pods.get(pool, {})
        for pod in pods.values():
            if pod.name == name and not pod.is_being_deleted:
                pods[pod.uid] = replace(pod, deletion_timestamp=self._clock.now())
        log.info("pod deleted", extra={"pool": pool.name, "pod": name})

    async def annotate(self, pool: ObjectRef, names: Collection[str], annotations: Mapping[str, str | None]) -> None:
        """Write annotations on pods, or (None) take them off. If that fails, a later decision repeats it."""
        pods = [pod for pod in self._pods.get(pool, {}).values() if pod.name in names]
        await asyncio.gather(*(self._annotate(pool, pod, annotations) for pod in pods))

    async def _annotate(self, pool: ObjectRef, pod: Pod, annotations: Mapping[str, str | None]) -> None:
        self._written_at[pod.uid] = self._clock.loop_time()
        patch = {"metadata": {"uid": pod.uid, "annotations": dict(annotations)}}
        try:
            written = read_pod(await self._api.patch(PODS, pod.namespace, pod.name, patch))
        except (NotFound, Conflict):  # it is gone, or another has its name
            return
        except ApiError as error:
            log.warning("protection of a pod not written", extra={"pod": pod.name, "error": str(error)})
            return
        pods = self._pods.get(pool, {})
        if written.uid in pods:  # what the watch shows comes later, or came already
            pods[written.uid] = replace(pods[written.uid], annotations=written.annotations)

    def end(self, pod: Pod) -> None:
        """End a pod that can't report the results of its work to anybody, with a short grace period."""
        task = asyncio.get_running_loop().create_task(self._end(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, pod: Pod) -> None:
        try:
            await self._api.until_answered(
                self._api.delete,
                PODS,
                pod.namespace,
                pod.name,
                uid=pod.uid,
                grace_seconds=_LAST_SECONDS,
            )
        except (NotFound, Conflict):
            return  # it is gone already, or another pod has its name
        except ApiError as error:  # its worker is given up all the same, a minute later
            log.error("pod not ended", extra={"pod": pod.name, "error": str(error)})

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _has_ended(pod: Pod) -> bool:
    """Whether a pod has ended; if its containers are not restarted, a sidecar may still be running."""
    return has_ended(pod) if pod.restart_policy == "Never" else pod.is_over


def _view(pod: Pod, worker: Worker | None, *, wanted_template: str, ended_at: float | None, now: float) -> PodView:
    draining_since = worker.draining_since if worker else None
    return PodView(
        name=pod.name,
        deleting=pod.is_being_deleted,
        # a pod from an operator version that did not set the label counts as current
        current=pod.labels.get(labels.TEMPLATE, wanted_template) == wanted_template,
        connected=worker is not None and worker.is_connected,
        attempts=len(worker.assigned) if worker else 0,
        occupied=worker.occupied if worker else 0,
        idle_for=timedelta(seconds=now - worker.idle_since) if worker and not worker.assigned else None,
        draining_for=timedelta(seconds=now - draining_since) if draining_since is not None else None,
        trouble=trouble_of(pod),
        number=number_of(pod),
        ended_for=timedelta(seconds=now - ended_at) if ended_at is not None else None,
        lived=lifetime_of(pod),
        on_node=pod.node is not None,
        protected=is_protected(pod.annotations),
    )


def _busy_for(worker: Worker | None, now: datetime) -> timedelta | None:
    """Return how long the oldest attempt of a worker has gone on: the first of those that it took and still has."""
    oldest = next(iter(worker.assigned.values()), None) if worker else None
    return now - oldest.started_at if oldest is not None and oldest.started_at is not None else None
