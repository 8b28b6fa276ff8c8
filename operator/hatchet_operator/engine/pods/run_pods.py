"""Pods of runs whose workflow has ``execution: Pod``: created when an attempt waits, deleted when the run is over.

There is one decision at a time per run, from what is known in memory; a new pod is put there at once. A pod's
name is derived, so a create that was not answered is retried and finds itself. Which pod takes which attempt is up to
the queue: the run's UID is part of the queue's key.

What a quota has no room for waits in line, see `waiting_line`: the first is tried again as soon as a pod of the
namespace has ended or is gone, or the quota allows more, see `quotas`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hatchet_operator.access.identity import Caller
from hatchet_operator.backoff import RUN_POD_REFUSED
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.pooling import ending_of, number_of, template_problem, trouble_of
from hatchet_operator.decisions.quotas import is_for_lack_of_room
from hatchet_operator.decisions.run_pods import (
    RunPodsPlan,
    RunPodView,
    has_ended,
    make_run_pod,
    plan_run_pods,
    run_uid_of,
)
from hatchet_operator.decisions.waiting_line import Place, WaitingLines
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.pods.known_pools import KnownPools
from hatchet_operator.engine.pods.pods_of_runs import PodsOfRun, PodsOfRuns, RunPod
from hatchet_operator.engine.pods.pools import Pools
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod, read_pod
from hatchet_operator.resources.reasons import Reason

log = logging.getLogger(__name__)

_ROOM_SECONDS = 5.0
"""How long after a pod's end its quota may still count it."""
_ROOM_AGAIN_SECONDS = 0.2


class RunPods:
    """The pods of all such runs.

    Args:
        api: Where they are.
        events: Records on the run what was done to it.
        clock: Tells the time.
        known: What is known of such pods.
        store: The runs.
        known_pools: Has the templates.
        pools: Has the Secret of each pool.
        graph_of: What a run executes, according to its workflow now.
        workers_in: The workers in a Pod.
        drain: Stops giving a worker new attempts.
        trouble_changed: Called when the reason why a run's pod does not start has changed.
        no_room: Called with the namespace of a quota that has no room for a pod.
        cancel_grace: How long an attempt that was told to stop may take to end by itself.
        protects: Whether nodes are not to be taken from under these pods.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        clock: Clock,
        known: PodsOfRuns,
        store: RunStore,
        known_pools: KnownPools,
        pools: Pools,
        graph_of: Callable[[RunRecord], Graph | None],
        workers_in: Callable[[str], list[Worker]],
        drain: Callable[[Worker], None],
        trouble_changed: Callable[[RunRecord], None],
        no_room: Callable[[str], None],
        cancel_grace: timedelta,
        protects: bool,
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock
        self._store = store
        self._known_pools = known_pools
        self._pools = pools
        self._graph_of = graph_of
        self._workers_in = workers_in
        self._drain = drain
        self._trouble_changed = trouble_changed
        self._no_room = no_room
        self._cancel_grace = cancel_grace
        self._protects = protects
        self._known = known
        self._lines = WaitingLines()
        self._work: WorkQueue[str] = WorkQueue(self._reconcile, failed=self._poisoned)
        self.active = False

    def start(self) -> None:
        """Create and delete pods from now on."""
        self.active = True
        waiting = [
            attempt.run_uid
            for record in self._store.unfinished()
            for attempt in record.attempts.values()
            if attempt.run_uid is not None and attempt.worker is None
        ]
        for run_uid in waiting:  # the first in line is tried first, though all are looked at now
            record = self._store.by_uid(run_uid)
            if run_uid not in self._known and record is not None and (body := self._make(record, 0)) is not None:
                self._lines.join(self._place_of(record, body))
        for run_uid in {*self._known, *waiting}:
            self.changed(run_uid)

    # --- What is observed

    def observe_pod(self, kind: str, seen: Pod) -> None:
        """Observe a Pod that was made for one run."""
        if kind == "DELETED":
            self._forget(seen.uid)
            self.there_may_be_room(seen.namespace)
            return
        if has_ended(seen):
            self.there_may_be_room(seen.namespace)
        if (run_uid := self._known.saw(seen)) is not None:
            self.changed(run_uid)

    def run_changed(self, change: RunChange) -> None:
        """React to a change: a run that is final or gone needs no pod."""
        uid = change.record.uid
        if (change.gone or change.ended) and uid in self._known:
            self.changed(uid)

    def worker_died(self, worker: Worker) -> None:
        """Note that a worker is dead; in such a pod it never comes back, as its container is not restarted."""
        pod = self._known.pod(worker.pod_uid)
        if pod is not None and worker.run_uid is not None:
            pod.lost = True
            self.changed(worker.run_uid)

    def told_to_stop(self, worker: Worker, attempt_id: str, at: datetime) -> None:
        """Note that an attempt that is no longer wanted was told to stop; its pod gets nothing new."""
        pod = self._known.pod(worker.pod_uid)
        if pod is None or worker.run_uid is None:
            return
        self._known.stopping(pod, attempt_id, self._clock.loop_time() - (self._clock.now() - at).total_seconds())
        self._drain(worker)
        self.changed(worker.run_uid)

    def attempt_ended(self, caller: Caller, attempt_id: str) -> None:
        """Note that a worker reported an attempt's end, wanted or not."""
        if (run_uid := self._known.stopped(attempt_id, in_pod=caller.pod_uid)) is not None:
            self.changed(run_uid)

    def _forget(self, uid: str) -> None:
        if (run_uid := self._known.forget(uid)) is not None:
            self.changed(run_uid)

    def changed(self, run_uid: str) -> None:
        """Have a run's pods reconciled; what changes meanwhile leads to another decision."""
        if self.active:
            self._work.add(run_uid)

    # --- Decide and apply

    def _poisoned(self, run_uid: str, error: Exception) -> None:
        """Report a run whose pods can't be decided about; it does not stop the others."""
        log.error("pods of run can't be reconciled", extra={"run_uid": run_uid}, exc_info=error)
        if (record := self._store.by_uid(run_uid)) is not None:
            message = f"the operator can't continue with this run's pods: {error!r}"
            self._events.warn(record.subject, Reason.INTERNAL_ERROR, message)

    async def _reconcile(self, run_uid: str) -> None:
        record = self._store.by_uid(run_uid)
        if record is None and not self._store.was_deleted(run_uid):
            return  # newer than our watch of runs, or soon garbage-collected with its run
        final = record is None or record.is_final
        known = self._known.known(run_uid)
        if final and not known.pods:
            self._work.forget(run_uid)
            self._leave_line(run_uid)
            self._known.drop(run_uid)
            return
        queued = record is not None and any(
            attempt.worker is None and attempt.run_uid is not None and not attempt.is_aside
            for attempt in record.attempts.values()
        )
        views = [self._view(pod, None if final else record) for pod in known.pods.values()]
        plan = plan_run_pods(views, final=final, queued=queued, cancel_grace=self._cancel_grace)
        self._recheck(run_uid, plan.recheck_after)
        if not plan.create:
            self._leave_line(run_uid)
        try:
            await self._apply(run_uid, known, plan, record)
        except ApiError as error:
            self._refuse(run_uid, known, f"the API server refused what has to be done to the run's pods: {error}")
            log.warning("pods of run not reconciled", extra={"run_uid": run_uid, "error": str(error)})
        self._tell_trouble(known, record)

    async def _apply(self, run_uid: str, known: PodsOfRun, plan: RunPodsPlan, record: RunRecord | None) -> None:
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
            left = known.refused_until - self._clock.loop_time()
            if left > 0:
                self._recheck(run_uid, timedelta(seconds=left))
            else:
                await self._create(run_uid, known, record)

    def _view(self, pod: RunPod, record: RunRecord | None) -> RunPodView:
        now = self._clock.loop_time()
        workers = self._workers_in(pod.uid)
        trouble = trouble_of(pod.seen)
        return RunPodView(
            name=pod.name,
            number=number_of(pod.seen),
            ended_for=timedelta(seconds=now - pod.ended_at) if pod.ended_at is not None else None,
            deleting=pod.seen.is_being_deleted,
            current=trouble is None or record is None or self._is_current(pod.seen, record),
            connected=any(worker.stream is not None for worker in workers),
            draining=any(worker.draining for worker in workers) or self._is_of_another_pool(pod.seen, record),
            attempts=sum(len(worker.assigned) for worker in workers),
            lost=pod.lost and not workers and pod.ended_at is None,
            stopping_for=timedelta(seconds=now - min(pod.stopping.values())) if pod.stopping else None,
            trouble=trouble,
        )

    def _is_of_another_pool(self, pod: Pod, record: RunRecord | None) -> bool:
        """Whether the workflow was moved to another pool since the pod was created: its worker gets nothing new."""
        graph = self._graph_of(record) if record else None
        return graph is not None and graph.pool not in (None, pod.labels.get(labels.POOL))

    def _is_current(self, pod: Pod, record: RunRecord) -> bool:
        wanted = self._make(record, number_of(pod))
        return wanted is None or wanted["metadata"]["labels"] == pod.labels

    def _make(self, record: RunRecord, number: int) -> Json | None:
        """Build the pod's object; None: there is no pool to build it from, or its template makes no valid pod."""
        graph = self._graph_of(record)
        pool = self._known_pools.get(ObjectRef(record.ref.namespace, graph.pool or "")) if graph else None
        if graph is None or pool is None or pool.metadata.deletion_timestamp is not None or template_problem(pool):
            return None
        return make_run_pod(
            pool,
            self._known_pools.access,
            record.run,
            number=number,
            overrides=graph.pod_overrides,
            protected=self._protects,
        )

    def _why_none_is_made(self, record: RunRecord) -> str:
        graph = self._graph_of(record)
        name = graph.pool if graph else None
        pool = self._known_pools.get(ObjectRef(record.ref.namespace, name or ""))
        if pool is not None and (problem := template_problem(pool)) is not None:
            return f'no pod can be made from WorkerPool "{name}": {problem}'
        return f'there is no WorkerPool "{name}" to make the run\'s pod from'

    async def _create(self, run_uid: str, known: PodsOfRun, record: RunRecord) -> None:
        namespace = record.ref.namespace
        body = self._make(record, known.next_number)
        if body is None:
            self._leave_line(run_uid)
            self._refuse(run_uid, known, self._why_none_is_made(record))
            return
        place = self._place_of(record, body)
        if (first := self._lines.first_before(place)) is not None:
            self._lines.join(place)
            ahead = self._known.get(first)
            known.refused = ahead.refused if ahead is not None else None
            return  # it is decided about again when its turn comes
        name = body["metadata"]["name"]
        try:
            await self._pools.ensure_secret(ObjectRef(namespace, body["metadata"]["labels"][labels.POOL]))
            answer = await self._api.until_answered(self._api.create, PODS, namespace, body, strict=True)
        except AlreadyExists:
            known.next_number += 1  # unless it turns out to be ours, and the answer to our create was lost
            self.changed(run_uid)
            try:
                answer = await self._api.until_answered(self._api.get, PODS, namespace, name)
            except NotFound:
                return
        except Refused as error:
            self._refused(run_uid, known, place, error)
            return
        else:
            log.info("pod of run created", extra={"run": str(record.ref), "pod": name})
        self._leave_line(run_uid)
        known.refusals, known.refused = 0, None
        pod = read_pod(answer)
        if run_uid_of(pod) == run_uid and pod.uid not in known.pods:  # the watch may have shown a newer state
            self.observe_pod("ADDED", pod)

    def _refused(self, run_uid: str, known: PodsOfRun, place: Place, error: Refused) -> None:
        before = known.refused
        self._refuse(run_uid, known, f"the API server refused the run's pod: {error.message}")
        if not is_for_lack_of_room(error.message):
            self._leave_line(run_uid)
            return
        self._no_room(place.line[0])
        self._lines.join(place)
        if known.refused != before:
            for behind in list(self._lines.behind(run_uid)):
                self.changed(behind)

    # --- The line for a quota

    def _place_of(self, record: RunRecord, body: Json) -> Place:
        """Return a run's place in line: as in any queue, urgency comes before age."""
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

    def there_may_be_room(self, namespace: str) -> None:
        """Try again what a quota had no room for, first come, first served."""
        for run_uid in self._lines.firsts(namespace):
            if (known := self._known.get(run_uid)) is not None:
                known.room_until = self._clock.loop_time() + _ROOM_SECONDS
            self._try_now(run_uid)

    def _try_now(self, run_uid: str) -> None:
        if (known := self._known.get(run_uid)) is not None:
            known.refusals, known.refused_until = 0, 0.0
        self.changed(run_uid)

    def _refuse(self, run_uid: str, known: PodsOfRun, why: str) -> None:
        known.refusals += 1
        known.refused = why
        pause = RUN_POD_REFUSED.jittered_after(known.refusals)
        if self._clock.loop_time() < known.room_until:
            pause = _ROOM_AGAIN_SECONDS
        known.refused_until = self._clock.loop_time() + pause
        self._recheck(run_uid, timedelta(seconds=pause))

    async def _delete(self, pod: RunPod, *, grace_seconds: int | None = None) -> None:
        uid = pod.uid
        for worker in self._workers_in(uid):
            self._drain(worker)
        try:
            await self._api.until_answered(
                self._api.delete, PODS, pod.seen.namespace, pod.name, uid=uid, grace_seconds=grace_seconds
            )
        except (NotFound, Conflict):
            self._forget(uid)
            return
        log.info("pod of run deleted", extra={"pod": pod.name, "grace_seconds": grace_seconds})
        if grace_seconds == 0:
            self._forget(uid)
        elif not pod.seen.is_being_deleted:
            pod.seen = replace(pod.seen, deletion_timestamp=self._clock.now())

    def _tell_trouble(self, known: PodsOfRun, record: RunRecord | None) -> None:
        trouble = known.refused
        newest = max(known.pods.values(), key=lambda pod: number_of(pod.seen), default=None)
        if newest is not None and not any(w.stream is not None for w in self._workers_in(newest.uid)):
            why = trouble_of(newest.seen)
            trouble = f"pod {newest.name}: {why}" if why else trouble
        # Pods that we delete don't count: nothing runs in them now, or they were to be killed.
        busy = [pod for pod in known.pods.values() if any(w.assigned for w in self._workers_in(pod.uid))]
        ending = next((why for pod in busy if (why := ending_of(pod.seen)) is not None), None)
        if (trouble, ending) != (known.trouble, known.ending):
            known.trouble, known.ending = trouble, ending
            if record is not None:
                self._trouble_changed(record)

    def _recheck(self, run_uid: str, delay: timedelta | None) -> None:
        if delay is not None:
            self._work.add_after(run_uid, delay.total_seconds())

    async def stop(self) -> None:
        self.active = False
        await self._work.stop()
