"""The operator's engine: its rooms wired together, the steps of a start, and calls that involve more than one room."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial

from hatchet_operator.access.callers import Callers
from hatchet_operator.access.identity import Caller
from hatchet_operator.access.senders import Senders
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS, POOLS, RATE_LIMITS, RUNS, WEBHOOK_SOURCES, WORKFLOWS
from hatchet_operator.cluster.namespaces import NamespacedInformer, Namespaces
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.pooling import OperatorAccess, pool_template_of
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.attempt_calls import AttemptCalls
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.waiting import Waiting
from hatchet_operator.engine.gauges import EngineGauges
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.engine.limits.ledger import Ledger
from hatchet_operator.engine.limits.objects import RateLimits
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.obstacles import Obstacles
from hatchet_operator.engine.payloads.removal import Removal
from hatchet_operator.engine.payloads.texts import Payloads
from hatchet_operator.engine.pods.pools import Pools
from hatchet_operator.engine.pods.quotas import Quotas
from hatchet_operator.engine.pods.run_pods import RunPods
from hatchet_operator.engine.runs.asked import AskedRuns
from hatchet_operator.engine.runs.changes import RunChange, RunFeed
from hatchet_operator.engine.runs.group_statuses import GroupStatuses
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.results import Results
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.root_labels import RootLabels
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.engine.streams.readers import Reader
from hatchet_operator.engine.streams.streams import Streams
from hatchet_operator.engine.triggers.crons import Crons
from hatchet_operator.engine.triggers.events import Events
from hatchet_operator.engine.triggers.webhooks import Webhooks
from hatchet_operator.engine.workers.connections import Connections
from hatchet_operator.engine.workers.handover import HandedOver
from hatchet_operator.engine.workers.offers import Offers
from hatchet_operator.engine.workers.registry import Registry
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import (
    IdempotencyCollision,
    NotFound,
    UnknownObject,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import read_pod
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import WorkflowDefinition
from hatchet_operator.settings import Settings, Tls

log = logging.getLogger(__name__)


class Engine:
    """Everything that the operator knows and does, apart from kopf and gRPC."""

    def __init__(
        self,
        api: Api,
        settings: Settings,
        *,
        token_key: str,
        is_leading: Callable[[], bool],
        on_absence: Callable[[], None],
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        self._clock = clock
        self.settings = settings
        self.scope = scope = Scope(namespace=settings.namespace, shards=settings.shards, shard=settings.shard)
        self.metrics = metrics or Metrics()
        self._on_absence = on_absence
        self.events = EventRecorder(api)
        self.store = RunStore()
        self.changes = RunFeed()
        self.observer = RunObserver(self.store, self.changes, clock=clock)
        self.buckets = Buckets(clock)
        self.ledger = Ledger(api, settings.operator_namespace, owner=settings.owner, buckets=self.buckets, scope=scope)
        self.rate_limits = RateLimits(api, buckets=self.buckets)
        self.reader = RunReader(api, self.store, self.observer, clock=clock)
        self.workers = Workers()
        # Rooms notify those above them of what happens; a room that is built later is looked up when it is called.
        self.workflows = Workflows(
            api,
            events=self.events,
            clock=clock,
            on_change=self._workflow_changed,
            template_of=lambda pool: self.pools.template_of(pool),
            pool_exists=self._pool_is_there,
            revisions_in_use=self.store.revisions_in_use,
            is_offered=self.workers.is_offered,
        )
        self.runs = Runs(
            api,
            store=self.store,
            observer=self.observer,
            reader=self.reader,
            workflows=self.workflows,
            events=self.events,
            metrics=self.metrics,
            settings=settings,
            clock=clock,
            trouble_of=lambda attempt: self.obstacles.of(attempt),
            awaited_for=lambda record: self.registry.rejoin.told_of(record),
            starting=lambda attempt: None if attempt.run_uid else self.pools.why_not_available(attempt.pool_ref),
            ending_of=lambda attempt: self.run_pods.ending_of(attempt.run_uid) if attempt.run_uid else None,
            told_to_stop=lambda worker, attempt_id, at: self.run_pods.told_to_stop(worker, attempt_id, at),
            on_demand=self._demand_changed,
            on_activity=lambda namespace, pool: self.waiting.active(namespace, pool),
            buckets=self.buckets,
        )
        self.group_statuses = GroupStatuses(self.runs.groups, workflows=self.workflows)
        self.connections = Connections(
            self.runs.attempts.queue, metrics=self.metrics, clock=clock, may_command=is_leading
        )
        self.results = Results(
            api,
            self.store,
            observer=self.observer,
            reader=self.reader,
            graph_of=lambda ref: self.workflows.current_graph(ref),
            clock=clock,
            slot_changed=self.runs.attempts.slot_changed,
        )
        self.streams = Streams(self.store, clock=clock)
        self.asked = AskedRuns(api, self.store, self.reader)
        self.root_labels = RootLabels(api, self.observer, self.events)
        self.spawning = Spawning(
            api,
            store=self.store,
            observer=self.observer,
            reader=self.reader,
            root_labels=self.root_labels,
            runs=self.runs,
            workflows=self.workflows,
            events=self.events,
            metrics=self.metrics,
            clock=clock,
            may_begin_light=settings.light_runs,
        )
        self.crons = Crons(
            api,
            store=self.store,
            workflows=self.workflows,
            spawning=self.spawning,
            events=self.events,
            metrics=self.metrics,
            clock=clock,
        )
        self.payloads = Payloads(settings, self.metrics)
        self.removal = Removal(
            self.payloads,
            store=self.store,
            observer=self.observer,
            scope=scope,
            installation=settings.owner["uid"] if settings.owner is not None else None,
            after=settings.payload_orphans_after,
            metrics=self.metrics,
            is_leading=is_leading,
            clock=clock,
        )
        self.triggering = Events(
            workflows=self.workflows, spawning=self.spawning, events=self.events, metrics=self.metrics
        )
        self.webhooks = Webhooks(
            api,
            events=self.events,
            metrics=self.metrics,
            listens=settings.events_port is not None,
            clock=clock,
        )
        self.quotas = Quotas(
            api, there_may_be_room=self._there_may_be_room, silence_seconds=settings.watch_silence.total_seconds()
        )
        self.pools = Pools(
            api,
            events=self.events,
            clock=clock,
            token_key=token_key,
            workers_of=self.workers.shared_of,
            drain=self.connections.drain,
            queued=lambda pool: self.runs.attempts.queue.demand_for(pool.namespace, pool.name),
            awaited=lambda pool: self.registry.rejoin.told_of_pool(pool),
            pods_of=self.workers.pods_of,
            trouble_changed=self._pool_trouble_changed,
            no_room=self.quotas.watch,
            payload_keys=self.payloads.keys_of,
        )
        self.waiting = Waiting(
            self.runs.attempts.queue,
            workers_of=self.workers.shared_of,
            pool_of=self.pools.get,
            tell=self.runs.requeue_waiting,
            load_changed=self.pools.loaded,
            told_after=settings.waiting_told_after,
            clock=clock,
        )
        self.offers = Offers(
            self.workflows, workers_of=self.workers.shared_of, is_settled=lambda: not self.runs.holding
        )
        self.registry = Registry(
            api,
            store=self.store,
            runs=self.runs,
            results=self.results,
            workers=self.workers,
            connections=self.connections,
            metrics=self.metrics,
            settings=settings,
            scope=scope,
            clock=clock,
            slots_of_pool=self.pools.slots_of,
            on_change=self._workers_changed,
            on_death=lambda worker: self.run_pods.worker_died(worker),
            reach_of=self.pools.reach_of,
            end_pod=self.pools.end_pod,
        )
        self.run_pods = RunPods(
            api,
            events=self.events,
            clock=clock,
            store=self.store,
            pools=self.pools,
            graph_of=lambda record: (self.workflows.graph_of(record.whole) if record.whole else None) or record.graph,
            workers_in=self.workers.in_pod,
            drain=self.connections.drain,
            trouble_changed=self.runs.requeue,
            no_room=self.quotas.watch,
            cancel_grace=settings.cancel_grace,
        )
        self.obstacles = Obstacles(
            pools=self.pools, run_pods=self.run_pods, workers=self.workers, workflows=self.workflows
        )
        self.attempt_calls = AttemptCalls(
            store=self.store,
            runs=self.runs,
            registry=self.registry,
            run_pods=self.run_pods,
            payloads=self.payloads,
            clock=clock,
        )
        calls = self.attempt_calls
        self.attempt, self.may_log, self.started = calls.attempt, calls.may_log, calls.started
        self.report, self.may_report, self.fail = calls.report, calls.may_report, calls.fail
        self.room_for_output = calls.room_for_output
        self.refresh_timeout, self.release_slot = calls.refresh_timeout, calls.release_slot
        self.callers = Callers(
            api,
            key=token_key,
            audience=settings.token_audience,
            scope=scope,
            find_pod=self.workers.find_pod,
        )
        self.senders = Senders(api, self.callers, audience=settings.token_audience, namespace=settings.namespace)
        self.gauges = EngineGauges(
            store=self.store,
            workflows=self.workflows,
            pools=self.pools,
            waiting=self.waiting,
            rate_limits=self.rate_limits,
            clock=clock,
        )
        self._api = api
        silence = settings.watch_silence.total_seconds()
        self.namespaces = Namespaces(api, covers=scope.covers, silence_seconds=silence) if scope.is_shard else None
        self.run_informer = self._informer(self._inform_of_runs)
        self.pod_informer = self._informer(self._inform_of_pods)
        self.limit_informer = self._informer(self._inform_of_limits)
        self._informing: list[asyncio.Task[None]] = []
        # Reactions to a change of a run, in this order: first the queue, so that slots that are given back now do not
        # go to runs that are about to end; last the requeueing, which relies on what all the others know by then.
        self.changes.react_with(
            self.runs.queue_follows,
            self._count,
            self.streams.run_changed,
            self.reader.changed,
            self.results.run_changed,
            self.run_pods.run_changed,
            self.runs.groups.run_changed,
            self.removal.run_changed,
            self.runs.requeue_family,
        )

    async def start(self) -> None:
        """Read everything there is; afterwards workers may be let in.

        Workflows and limits first, since a run without them would be said to wait for them; Pods before runs, since
        what known workers may have must not be assigned again.
        """
        await self.resync()
        await self.registry.know_from_leases()
        await self.ledger.read()
        informers = (self.limit_informer, self.pod_informer, self.run_informer)
        for informer in (self.namespaces.informer, *informers) if self.namespaces is not None else informers:
            informing = asyncio.create_task(informer.run())
            self._informing.append(informing)
            await _unless_ended(informing, informer.synced)
        self.observer.loading = False
        self.runs.loaded()
        await self.workflows.wait_until_loaded()

    async def watch(self) -> None:
        """Run until a watch ends, which is an error of ours."""
        await asyncio.gather(*self._informing)

    def admit_workers(
        self, grpc_address: str, handed_over: HandedOver | None = None, *, rest_url: str | None = None
    ) -> None:
        """Start creating pods, and wait for known workers to say which attempts they have: the gRPC server listens.

        Args:
            grpc_address: The address that it listens on.
            handed_over: Which worker the last leader assigned what to; None: it could not say.
            rest_url: Where Hatchet's REST API is; None: it is not served.
        """
        secure = self.settings.tls is not Tls.NONE
        self.pools.admit(
            OperatorAccess(
                grpc_address=grpc_address,
                token_audience=self.settings.token_audience,
                tls=secure,
                own_ca=self.pools.ca_pem is not None,
                token_key=self.pools.token_key_id,
                payloads=self.payloads.access(os.environ),
                rest_url=rest_url,
            )
        )
        self.run_pods.start()
        self.crons.start()
        self.webhooks.start()
        self.removal.start()
        self.rate_limits.start()
        self.group_statuses.start()
        self.registry.begin_rejoin(handed_over)

    async def resync(self) -> None:
        """Compare what is known of the kinds that people edit with what exists.

        kopf misses deletions that happen while it can't watch; after each of its relists this finds them.
        """
        for resource, keeper in ((WORKFLOWS, self.workflows), (POOLS, self.pools), (WEBHOOK_SOURCES, self.webhooks)):
            try:
                items, version = await self._api.until_answered(self._api.list_all, resource, self.settings.namespace)
            except NotFound:
                self._on_absence()
                raise
            items = [item for item in items if self.scope.covers(item["metadata"]["namespace"])]
            present = {ObjectRef(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
            for item in items:
                keeper.observe("MODIFIED", item)
            for ref in keeper.known():
                if ref not in present and keeper.version_of(ref) <= int(version):  # otherwise it is newer than the list
                    keeper.forget(ref)

    async def stop(self) -> None:
        """Leave no task and no timer behind: the next leader must not be disturbed by what this engine knew."""
        self.runs.stopped = True
        for task in self._informing:
            task.cancel()
        await asyncio.gather(*self._informing, return_exceptions=True)
        await self.waiting.stop()
        self.streams.stop()
        await self.crons.stop()
        await self.webhooks.stop()
        await self.removal.stop()
        await self.rate_limits.stop()
        await self.group_statuses.stop()
        await self.ledger.stop()
        self.buckets.stop()
        await self.offers.stop()
        self.registry.stop()
        await self.callers.stop()
        await self.quotas.stop()
        await self.run_pods.stop()
        await self.pools.stop()
        await self.workflows.stop()
        await self.runs.stop()
        await self.root_labels.stop()
        await self.reader.stop()
        await self.events.stop()

    # --- What workers say about attempts and their code

    async def register_workflow(self, caller: Caller, definition: WorkflowDefinition) -> str:
        """Put a worker's definition into effect; return the name of its revision."""
        pod = await self.registry.pod_of(caller)
        template = pool_template_of(pod) if pod else None
        return await self.workflows.register(caller.namespace, caller.pool, definition, template=template)

    async def trigger(self, trigger: Trigger) -> str:
        """Ensure that a run exists; return the id that its client knows it by."""
        try:
            return self.run_id(trigger.caller, await self.spawning.trigger(trigger))
        except IdempotencyCollision as error:
            raise IdempotencyCollision(self.run_id(trigger.caller, error.run)) from None

    def run_id(self, caller: Caller, name: str) -> str:
        """Return the id by which a caller knows a run: its name, or otherwise its UID, while we know that."""
        record = None if caller.takes_names else self.store.get(ObjectRef(caller.namespace, name))
        return record.uid if record else name

    def is_light(self, caller: Caller, run_id: str) -> bool:
        """Whether a run has no object yet."""
        record = self.store.find(caller.namespace, run_id)
        return record is not None and record.light is not None

    async def find_run(self, caller: Caller, run_id: str) -> tuple[WorkflowRun, Graph | None] | None:
        """Return a run of the caller's namespace by its name or UID, and its graph; None: there is none."""
        record = await self._find_record(caller, run_id)
        if record is None:  # none, or another controller's, about which nothing is remembered
            obj = await self.results.look_up(caller.namespace, run_id)
            return None if obj is None else (WorkflowRun.model_validate(obj), None)
        run = await self.reader.read(record)
        return None if run is None else (run, self.workflows.graph_of(run))

    async def _find_record(self, caller: Caller, run_id: str) -> RunRecord | None:
        record = self.store.find(caller.namespace, run_id)
        if record is None and (obj := await self.results.look_up(caller.namespace, run_id)) is not None:
            self.observer.observe("MODIFIED", obj)
            record = self.store.find(caller.namespace, run_id)
        return record

    async def read_stream(self, caller: Caller, run_id: str, *, seen: Mapping[str, int]) -> Reader:
        """Listen to a run of the caller's namespace.

        Raises:
            UnknownObject: There is none.
        """
        record = await self._find_record(caller, run_id)
        if record is None:
            raise UnknownObject(f"run {run_id} was deleted, or never existed")
        return self.streams.read(record, seen=seen)

    # --- Wiring

    def _informer(self, make: Callable[[str | None], Informer]) -> Informer | NamespacedInformer:
        """Make what informs of a kind's objects in our namespaces."""
        if self.namespaces is not None:
            return NamespacedInformer(self.namespaces, make)
        return make(self.scope.namespace)

    def _inform_of_runs(self, namespace: str | None) -> Informer:
        return Informer(
            self._api,
            RUNS,
            on_change=self.observer.observe,
            on_relist=partial(self.observer.listed, namespace=namespace if self.scope.is_shard else None),
            on_absence=self._on_absence,
            on_failure=self.metrics.not_observed.labels(resource=RUNS.plural).inc,
            is_known=self.observer.is_known,
            namespace=namespace,
            silence_seconds=self.settings.watch_silence.total_seconds(),
        )

    def _inform_of_pods(self, namespace: str | None) -> Informer:
        return Informer(
            self._api,
            PODS,
            on_change=self._observe_pod,
            on_failure=self.metrics.not_observed.labels(resource=PODS.plural).inc,
            namespace=namespace,
            label_selector=labels.POOL,
            silence_seconds=self.settings.watch_silence.total_seconds(),
        )

    def _inform_of_limits(self, namespace: str | None) -> Informer:
        return Informer(
            self._api,
            RATE_LIMITS,
            on_change=self.rate_limits.observe,
            on_absence=self._on_absence,
            on_failure=self.metrics.not_observed.labels(resource=RATE_LIMITS.plural).inc,
            namespace=namespace,
            silence_seconds=self.settings.watch_silence.total_seconds(),
        )

    def _count(self, change: RunChange) -> None:
        if self.observer.loading or not (change.came or change.ended):
            return
        workflow = change.record.workflow_ref
        is_known = self.workflows.get(workflow) is not None
        if change.came:
            self.metrics.run_came(workflow, is_known=is_known)
        if change.ended and change.run is not None:
            self.metrics.run_ended(workflow, change.run.status, is_known=is_known)

    def _observe_pod(self, kind: str, obj: Json) -> None:
        pod = read_pod(obj)
        self.callers.observe_pod(kind, pod)
        self.registry.observe_pod(kind, pod)
        self.pools.observe_pod(kind, pod)
        self.run_pods.observe_pod(kind, pod)

    def _demand_changed(self, namespace: str, pool: str | None, run_uid: str | None) -> None:
        if run_uid is not None:
            self.run_pods.changed(run_uid)
        else:
            self.pools.changed(ObjectRef(namespace, pool or ""))

    def _workers_changed(self, pool: ObjectRef) -> None:
        self.pools.changed(pool)
        self.offers.changed(pool)

    def _there_may_be_room(self, namespace: str) -> None:
        self.pools.there_may_be_room(namespace)
        self.run_pods.there_may_be_room(namespace)

    def _pool_trouble_changed(self, pool: ObjectRef) -> None:
        self.runs.requeue_waiting(self.runs.attempts.queue.waiting_in(pool.namespace, pool.name))

    def _workflow_changed(self, workflow: ObjectRef) -> None:
        self.crons.workflow_changed(workflow)
        self.runs.workflow_changed(workflow)

    def _pool_is_there(self, pool: ObjectRef) -> bool:
        return pool in self.pools or any(worker.is_connected for worker in self.workers.of_pool(pool))


async def _unless_ended(task: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for an event that a task will set; raise the task's error if it ends first."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        waiting.cancel()
