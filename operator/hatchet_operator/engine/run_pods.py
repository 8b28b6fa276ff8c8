"""Pods of runs whose workflow has ``execution: Pod``: made when an attempt waits, gone when the run is over.

Per run one decision at a time, from what is known in memory; a pod that was just made is put there at once. A pod's
name is derived, so a create that was not answered is repeated and finds itself. Who takes which attempt is the
queue's business: the run's UID is a part of the queue's key.

What a quota has no room for stands in line, see `waiting_line`: the first is tried again as soon as a pod of the
namespace has ended or is gone, and after a pause, since a quota is also raised, of which nobody tells us.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hatchet_operator.cluster.api import Api, Json, back_off
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.pooling import ending_of, number_of, template_problem, trouble_of
from hatchet_operator.decisions.run_pods import (
    RunPodsPlan,
    RunPodView,
    has_ended,
    make_run_pod,
    plan_run_pods,
    run_uid_of,
)
from hatchet_operator.decisions.waiting_line import Place, WaitingLines
from hatchet_operator.engine.pools import Pools
from hatchet_operator.engine.records import RunRecord, RunStore, Tombstones
from hatchet_operator.engine.workers import Worker
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Reason

log = logging.getLogger(__name__)

_REFUSED_AGAIN_SECONDS = 30.0
"""The longest between two tries: a quota may have room meanwhile, of which nobody tells us."""
_ROOM_SECONDS = 5.0
"""How long after a pod's end its quota may still count it."""
_ROOM_AGAIN_SECONDS = 0.2
_NO_ROOM = "exceeded quota"


@dataclass(slots=True, eq=False)
class _Pod:
    """A pod of a run, and what its status does not say."""

    obj: Json
    ended_at: float | None = None
    lost: bool = False  # its worker is dead
    stopping: dict[str, float] = field(default_factory=dict)  # attempts that were told to stop, and since when

    @property
    def name(self) -> str:
        name: str = self.obj["metadata"]["name"]
        return name


@dataclass(slots=True, eq=False)
class _PodsOfRun:
    pods: dict[str, _Pod] = field(default_factory=dict)  # by uid
    next_number: int = 0
    refusals: int = 0
    refused: str | None = None  # why there is no pod
    refused_until: float = 0.0
    room_until: float = 0.0  # a pod has just gone, and the quota may be told a moment later
    trouble: str | None = None
    ending: str | None = None
    recheck: asyncio.TimerHandle | None = None


class RunPods:
    """The pods of all such runs.

    Args:
        api: Where they are.
        events: Tells on the run what was done to it.
        store: The runs.
        pools: Has the templates.
        graph_of: What a run executes, as its workflow says now.
        workers_in: The workers in a Pod.
        drain: Gives a worker nothing new.
        trouble_changed: Called when what keeps a run's pod from starting is another.
        cancel_grace: How long an attempt that is told to stop may still end by itself.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        store: RunStore,
        pools: Pools,
        graph_of: Callable[[RunRecord], Graph | None],
        workers_in: Callable[[str], list[Worker]],
        drain: Callable[[Worker], None],
        trouble_changed: Callable[[RunRecord], None],
        cancel_grace: timedelta,
    ) -> None:
        self._api = api
        self._events = events
        self._store = store
        self._pools = pools
        self._graph_of = graph_of
        self._workers_in = workers_in
        self._drain = drain
        self._trouble_changed = trouble_changed
        self._cancel_grace = cancel_grace
        self._runs: dict[str, _PodsOfRun] = {}
        self._run_of_pod: dict[str, str] = {}
        self._pod_of_attempt: dict[str, str] = {}  # attempts that were told to stop
        self._gone = Tombstones()
        self._lines = WaitingLines()
        self._again: dict[str, bool] = {}  # runs being decided about: whether something changed meanwhile
        self._tasks: set[asyncio.Task[None]] = set()
        self.active = False

    def start(self) -> None:
        """Make and delete pods from now on."""
        self.active = True
        waiting = [
            attempt.run_uid
            for record in self._store.unfinished()
            for attempt in record.attempts.values()
            if attempt.run_uid is not None and attempt.worker is None
        ]
        for run_uid in waiting:  # who came first is tried first, though all are looked at now
            record = self._store.by_uid(run_uid)
            if run_uid not in self._runs and record is not None and (body := self._make(record, 0)) is not None:
                self._lines.join(self._place_of(record, body))
        for run_uid in {*self._runs, *waiting}:
            self.changed(run_uid)

    def trouble_of(self, run_uid: str) -> str | None:
        """Say why a run that waits for its pod waits; None: nothing is known to be wrong."""
        known = self._runs.get(run_uid)
        return known.trouble if known else None

    def ending_of(self, run_uid: str) -> str | None:
        """Say that somebody deletes the pod in which a step of this run runs; None: nobody does."""
        known = self._runs.get(run_uid)
        return known.ending if known else None

    # --- What is observed

    def observe_pod(self, kind: str, obj: Json) -> None:
        metadata = obj["metadata"]
        uid = metadata["uid"]
        if kind == "DELETED":
            self._forget(uid)
            self._there_may_be_room(metadata.get("namespace", ""))
            return
        if has_ended(obj):
            self._there_may_be_room(metadata.get("namespace", ""))
        run_uid = run_uid_of(obj)
        if run_uid is None or uid in self._gone:
            return
        known = self._runs.setdefault(run_uid, _PodsOfRun())
        pod = known.pods.get(uid)
        if pod is None:
            pod = known.pods[uid] = _Pod(obj)
            self._run_of_pod[uid] = run_uid
            known.next_number = max(known.next_number, number_of(obj) + 1)
        pod.obj = obj
        if pod.ended_at is None and has_ended(obj):
            pod.ended_at = time.monotonic()
        self.changed(run_uid)

    def ended(self, record: RunRecord) -> None:
        """A run is final, or gone."""
        if record.uid in self._runs:
            self.changed(record.uid)

    def worker_died(self, worker: Worker) -> None:
        """A worker that is dead comes back in no pod of this kind: its container is not started again."""
        pod = self._pod(worker.pod_uid)
        if pod is not None and worker.run_uid is not None:
            pod.lost = True
            self.changed(worker.run_uid)

    def told_to_stop(self, worker: Worker, attempt_id: str, at: datetime) -> None:
        """An attempt that nobody wants any more was told so; its pod gets nothing new."""
        pod = self._pod(worker.pod_uid)
        if pod is None or worker.pod_uid is None or worker.run_uid is None:
            return
        pod.stopping.setdefault(attempt_id, time.monotonic() - (datetime.now(UTC) - at).total_seconds())
        self._pod_of_attempt[attempt_id] = worker.pod_uid
        self._drain(worker)
        self.changed(worker.run_uid)

    def attempt_ended(self, caller: Caller, attempt_id: str) -> None:
        """A worker says how an attempt ended, wanted or not."""
        pod_uid = self._pod_of_attempt.get(attempt_id)
        if pod_uid is None or caller.pod_uid not in (None, pod_uid):
            return
        pod = self._pod(pod_uid)
        if pod is not None and pod.stopping.pop(attempt_id, None) is not None:
            del self._pod_of_attempt[attempt_id]
            self.changed(self._run_of_pod[pod_uid])

    def _pod(self, uid: str | None) -> _Pod | None:
        known = self._runs.get(self._run_of_pod.get(uid or "", ""))
        return known.pods.get(uid or "") if known else None

    def _forget(self, uid: str) -> None:
        self._gone.add(uid)
        run_uid = self._run_of_pod.pop(uid, None)
        if run_uid is None:
            return
        pod = self._runs[run_uid].pods.pop(uid)
        for attempt_id in pod.stopping:
            self._pod_of_attempt.pop(attempt_id, None)
        self.changed(run_uid)

    def changed(self, run_uid: str) -> None:
        """Have a run's pods decided about; what changes meanwhile leads to another decision."""
        if not self.active:
            return
        if run_uid in self._again:
            self._again[run_uid] = True
            return
        self._again[run_uid] = False
        task = asyncio.get_running_loop().create_task(self._decide(run_uid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Decide and apply

    async def _decide(self, run_uid: str) -> None:
        try:
            again = True
            while again:
                self._again[run_uid] = False
                await self._reconcile(run_uid)
                again = self._again[run_uid]
        except Exception as error:  # the boundary between runs; the error is shown, not hidden
            log.error("pods of run can't be reconciled", extra={"run_uid": run_uid}, exc_info=error)
            if (record := self._store.by_uid(run_uid)) is not None:
                message = f"the operator can't go on with this run's pods: {error!r}"
                self._events.warn(record.subject, Reason.INTERNAL_ERROR, message)
        finally:
            del self._again[run_uid]

    async def _reconcile(self, run_uid: str) -> None:
        record = self._store.by_uid(run_uid)
        if record is None and not self._store.was_deleted(run_uid):
            return  # newer than our watch of runs, or collected with its run soon
        final = record is None or record.is_final
        known = self._runs.setdefault(run_uid, _PodsOfRun())
        if final and not known.pods:
            self._recheck(run_uid, known, None)
            self._leave_line(run_uid)
            del self._runs[run_uid]
            return
        queued = record is not None and any(
            attempt.worker is None and attempt.run_uid is not None for attempt in record.attempts.values()
        )
        views = [self._view(pod, None if final else record) for pod in known.pods.values()]
        plan = plan_run_pods(views, final=final, queued=queued, cancel_grace=self._cancel_grace)
        self._recheck(run_uid, known, plan.recheck_after)
        if not plan.create:
            self._leave_line(run_uid)
        try:
            await self._apply(run_uid, known, plan, record)
        except ApiError as error:
            self._refuse(run_uid, known, f"the API server refused what has to be done to the run's pods: {error}")
            log.warning("pods of run not reconciled", extra={"run_uid": run_uid, "error": str(error)})
        self._tell_trouble(known, record)

    async def _apply(self, run_uid: str, known: _PodsOfRun, plan: RunPodsPlan, record: RunRecord | None) -> None:
        pods = {pod.name: pod for pod in known.pods.values()}
        for name in plan.kill:
            await self._delete(pods[name], grace_seconds=0)
            if record is not None and pods[name].stopping:
                grace = self._cancel_grace.total_seconds()
                message = f"pod {name} was killed: a step went on for {grace:g}s after it was told to stop"
                self._events.warn(record.subject, Reason.POD_KILLED, message)
        for name in plan.delete:
            await self._delete(pods[name])
        if plan.create and record is not None:
            left = known.refused_until - time.monotonic()
            if left > 0:
                self._recheck(run_uid, known, timedelta(seconds=left))
            else:
                await self._create(run_uid, known, record)

    def _view(self, pod: _Pod, record: RunRecord | None) -> RunPodView:
        metadata = pod.obj["metadata"]
        now = time.monotonic()
        workers = self._workers_in(metadata["uid"])
        trouble = trouble_of(pod.obj)
        return RunPodView(
            name=pod.name,
            number=number_of(pod.obj),
            ended_for=timedelta(seconds=now - pod.ended_at) if pod.ended_at is not None else None,
            deleting="deletionTimestamp" in metadata,
            current=trouble is None or record is None or self._is_current(pod.obj, record),
            connected=any(worker.stream is not None for worker in workers),
            draining=any(worker.draining for worker in workers) or self._is_of_another_pool(pod.obj, record),
            attempts=sum(len(worker.out) for worker in workers),
            lost=pod.lost and not workers and pod.ended_at is None,
            stopping_for=timedelta(seconds=now - min(pod.stopping.values())) if pod.stopping else None,
            trouble=trouble,
        )

    def _is_of_another_pool(self, obj: Json, record: RunRecord | None) -> bool:
        """Whether the workflow was given to another pool since the pod was made: its worker gets nothing new."""
        graph = self._graph_of(record) if record else None
        return graph is not None and graph.pool not in (None, obj["metadata"]["labels"][labels.POOL])

    def _is_current(self, obj: Json, record: RunRecord) -> bool:
        wanted = self._make(record, number_of(obj))
        return wanted is None or wanted["metadata"]["labels"] == obj["metadata"]["labels"]

    def _make(self, record: RunRecord, number: int) -> Json | None:
        """Make the pod's object; None: there is no pool to make it from, or none can be made from it."""
        graph = self._graph_of(record)
        pool = self._pools.get(ObjectRef(record.ref.namespace, graph.pool or "")) if graph else None
        if graph is None or pool is None or pool.metadata.deletion_timestamp is not None or template_problem(pool):
            return None
        return make_run_pod(pool, self._pools.access, record.run, number=number, overrides=graph.pod_overrides)

    def _why_none_is_made(self, record: RunRecord) -> str:
        graph = self._graph_of(record)
        name = graph.pool if graph else None
        pool = self._pools.get(ObjectRef(record.ref.namespace, name or ""))
        if pool is not None and (problem := template_problem(pool)) is not None:
            return f'no pod can be made from WorkerPool "{name}": {problem}'
        return f'there is no WorkerPool "{name}" to make the run\'s pod from'

    async def _create(self, run_uid: str, known: _PodsOfRun, record: RunRecord) -> None:
        namespace = record.ref.namespace
        body = self._make(record, known.next_number)
        if body is None:
            self._leave_line(run_uid)
            self._refuse(run_uid, known, self._why_none_is_made(record))
            return
        place = self._place_of(record, body)
        if (first := self._lines.first_before(place)) is not None:
            self._lines.join(place)
            known.refused = self._runs[first].refused if first in self._runs else None
            return  # when it is its turn, it is decided about again
        name = body["metadata"]["name"]
        try:
            await self._pools.ensure_secret(ObjectRef(namespace, body["metadata"]["labels"][labels.POOL]))
            pod = await self._api.until_answered(self._api.create, PODS, namespace, body, strict=True)
        except AlreadyExists:
            known.next_number += 1  # unless it turns out to be ours, and the answer to our create was lost
            self._again[run_uid] = True
            try:
                pod = await self._api.until_answered(self._api.get, PODS, namespace, name)
            except NotFound:
                return
        except Refused as error:
            before = known.refused
            self._refuse(run_uid, known, f"the API server refused the run's pod: {error.message}")
            if _NO_ROOM not in error.message:
                self._leave_line(run_uid)
                return
            self._lines.join(place)
            if known.refused != before:
                for behind in list(self._lines.behind(run_uid)):
                    self.changed(behind)
            return
        else:
            log.info("pod of run created", extra={"run": str(record.ref), "pod": name})
        self._leave_line(run_uid)
        known.refusals, known.refused = 0, None
        if run_uid_of(pod) == run_uid and pod["metadata"]["uid"] not in known.pods:  # or the watch showed a newer one
            self.observe_pod("ADDED", pod)

    # --- Who stands in line for a quota

    def _place_of(self, record: RunRecord, body: Json) -> Place:
        """Where a run stands: as in any queue, the more urgent before the older."""
        graph, metadata = self._graph_of(record), record.run.metadata
        queued_at = min((each.queued_at for each in record.attempts.values()), default=datetime.min.replace(tzinfo=UTC))
        return Place(
            uid=record.uid,
            line=(record.ref.namespace, body["metadata"]["labels"][labels.TEMPLATE]),
            priority=record.run.spec.priority or (graph.priority if graph else 0),
            since=metadata.creation_timestamp or queued_at,
            name=f"{queued_at.isoformat()} {record.ref.name}",
        )

    def _leave_line(self, run_uid: str) -> None:
        if (following := self._lines.leave(run_uid)) is not None:
            self._try_now(following)

    def _there_may_be_room(self, namespace: str) -> None:
        for run_uid in self._lines.firsts(namespace):
            if (known := self._runs.get(run_uid)) is not None:
                known.room_until = time.monotonic() + _ROOM_SECONDS
            self._try_now(run_uid)

    def _try_now(self, run_uid: str) -> None:
        if (known := self._runs.get(run_uid)) is not None:
            known.refusals, known.refused_until = 0, 0.0
        self.changed(run_uid)

    def _refuse(self, run_uid: str, known: _PodsOfRun, why: str) -> None:
        known.refusals += 1
        known.refused = why
        pause = back_off(known.refusals + 5, longest_seconds=_REFUSED_AGAIN_SECONDS)
        if time.monotonic() < known.room_until:
            pause = _ROOM_AGAIN_SECONDS
        known.refused_until = time.monotonic() + pause
        self._recheck(run_uid, known, timedelta(seconds=pause))

    async def _delete(self, pod: _Pod, *, grace_seconds: int | None = None) -> None:
        metadata = pod.obj["metadata"]
        uid = metadata["uid"]
        for worker in self._workers_in(uid):
            self._drain(worker)
        try:
            await self._api.until_answered(
                self._api.delete, PODS, metadata["namespace"], pod.name, uid=uid, grace_seconds=grace_seconds
            )
        except (NotFound, Conflict):
            self._forget(uid)
            return
        log.info("pod of run deleted", extra={"pod": pod.name, "grace_seconds": grace_seconds})
        if grace_seconds == 0:
            self._forget(uid)
        else:
            pod.obj["metadata"].setdefault("deletionTimestamp", datetime.now(UTC).isoformat())

    def _tell_trouble(self, known: _PodsOfRun, record: RunRecord | None) -> None:
        trouble = known.refused
        newest = max(known.pods.values(), key=lambda pod: number_of(pod.obj), default=None)
        if newest is not None and not any(
            w.stream is not None for w in self._workers_in(newest.obj["metadata"]["uid"])
        ):
            why = trouble_of(newest.obj)
            trouble = f"pod {newest.name}: {why}" if why else trouble
        # ours are deleted when nothing runs in them any more, or killed
        busy = [pod for pod in known.pods.values() if any(w.out for w in self._workers_in(pod.obj["metadata"]["uid"]))]
        ending = next((why for pod in busy if (why := ending_of(pod.obj)) is not None), None)
        if (trouble, ending) != (known.trouble, known.ending):
            known.trouble, known.ending = trouble, ending
            if record is not None:
                self._trouble_changed(record)

    def _recheck(self, run_uid: str, known: _PodsOfRun, delay: timedelta | None) -> None:
        if known.recheck is not None:
            known.recheck.cancel()
            known.recheck = None
        if delay is not None:
            loop = asyncio.get_running_loop()
            known.recheck = loop.call_later(delay.total_seconds(), self.changed, run_uid)

    async def stop(self) -> None:
        self.active = False
        for known in self._runs.values():
            if known.recheck is not None:
                known.recheck.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
