"""The operator's engine: the steps of a start and of an end. Its rooms are made and wired in `wiring`."""

import os
from collections.abc import Callable
from typing import Protocol

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import POOLS, WEBHOOK_SOURCES, WORKFLOWS, Resource
from hatchet_operator.decisions.pooling import OperatorAccess
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.memory import Given
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.traces import Tracer
from hatchet_operator.engine.watches import Watches
from hatchet_operator.engine.wiring import Rooms, wire
from hatchet_operator.engine.workers.handover import HandedOver
from hatchet_operator.errors import NotFound
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings, Tls


class _Observer(Protocol):
    """Knows the objects of a kind."""

    def observe(self, kind: str, obj: Json) -> None: ...
    def known(self) -> list[ObjectRef]: ...
    def version_of(self, ref: ObjectRef) -> int: ...
    def forget(self, ref: ObjectRef) -> None: ...


class Engine:
    """Everything that the operator knows and does, apart from kopf and gRPC.

    Args:
        api: The API server.
        settings: What is configured.
        token_key: Signs the tokens of pools.
        is_leading: Checked before each command to a worker.
        on_absence: Called when the server does not know one of our kinds, or no longer does.
        metrics: The process's; None: its own.
        clock: Tells the time; None: the machine's.
        pace: How long it waits for what; None: as in a cluster.
        tracer: Where spans go; None: nowhere.
    """

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
        pace: Pace | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        pace = pace or Pace()
        self._api = api
        self._on_absence = on_absence
        self.settings = settings
        self.scope = Scope(namespaces=settings.namespaces, shards=settings.shards, shard=settings.shard)
        self.metrics = metrics or Metrics()
        self.events = EventRecorder(api)
        given = Given(
            api=api,
            settings=settings,
            scope=self.scope,
            token_key=token_key,
            is_leading=is_leading,
            metrics=self.metrics,
            clock=clock or Clock(),
            pace=pace,
            events=self.events,
            tracer=tracer,
        )
        rooms = wire(given)
        self._name(rooms)
        self.watches = Watches(
            api,
            self.scope,
            silence_seconds=settings.watch_silence.total_seconds(),
            turn_seconds=pace.turn,
            metrics=self.metrics,
            on_absence=on_absence,
            runs=self.observer,
            on_limit=self.rate_limits.observe,
            on_pod=(
                self.callers.observe_pod,
                self.registry.observe_pod,
                self.pools.observe_pod,
                self.run_pods.observe_pod,
            ),
        )

    def _name(self, rooms: Rooms) -> None:
        """Have the rooms and calls that others ask at hand."""
        memory, running, edges = rooms.memory, rooms.running, rooms.edges
        self.store, self.observer, self.reader = memory.store, memory.observer, memory.reader
        self.workers, self.buckets = memory.workers, memory.buckets
        self.traces = memory.traces
        self.known_pools, self.pods_of_runs = memory.pools, memory.pods_of_runs
        self.runs, self.results, self.workflows = running.runs, running.results, running.workflows
        self.asked, self.streams, self.connections = running.asked, running.streams, running.connections
        self.rate_limits, self.ledger, self._group_statuses = (
            running.rate_limits,
            running.ledger,
            running.group_statuses,
        )
        self._starting, self.spawning = rooms.starting, rooms.starting.spawning
        self.triggering, self.webhooks = rooms.starting.triggering, rooms.starting.webhooks
        self.payloads, self._removal = rooms.storing.payloads, rooms.storing.removal
        self.pools, self.run_pods, self._quotas = rooms.podding.pools, rooms.podding.run_pods, rooms.podding.quotas
        self._working, self.registry = rooms.working, rooms.working.registry
        self.callers, self.senders, self.gauges = edges.callers, edges.senders, edges.gauges
        said = edges.attempt_calls
        self.attempt, self.may_log, self.started = said.attempt, said.may_log, said.started
        self.report, self.may_report, self.fail = said.report, said.may_report, said.fail
        self.room_for_output, self.refresh_timeout = said.room_for_output, said.refresh_timeout
        self.release_slot = said.release_slot
        asked = edges.client_calls
        self.register_workflow, self.trigger, self.run_id = asked.register_workflow, asked.trigger, asked.run_id
        self.is_light, self.find_run, self.read_stream = asked.is_light, asked.find_run, asked.read_stream

    async def start(self) -> None:
        """Read everything there is; afterwards workers may be let in.

        Workflows first, since a run without one would be said to wait for it; see also `Watches.start`.
        """
        await self.resync()
        await self.registry.know_from_leases()
        await self.ledger.read()
        await self.watches.start()
        self.observer.loading = False
        self.runs.loaded()
        await self.workflows.wait_until_loaded()

    async def watch(self) -> None:
        """Run until a watch ends, which is an error of ours."""
        await self.watches.run()

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
        self._starting.crons.start()
        self.webhooks.start()
        self._removal.start()
        self.rate_limits.start()
        self._group_statuses.start()
        self.registry.begin_rejoin(handed_over)

    async def resync(self) -> None:
        """Compare what is known of the kinds that people edit with what exists.

        kopf misses deletions that happen while it can't watch; after each of its relists this finds them.
        """
        for resource, observer in ((WORKFLOWS, self.workflows), (POOLS, self.pools), (WEBHOOK_SOURCES, self.webhooks)):
            for place in self.scope.places:
                await self._compare(resource, observer, place)

    async def _compare(self, resource: Resource, observer: _Observer, place: str | None) -> None:
        """Compare what one of them knows with what exists in a namespace, or in the cluster."""
        try:
            items, version = await self._api.until_answered(self._api.list_all, resource, place)
        except NotFound:
            self._on_absence()
            raise
        items = [item for item in items if self.scope.covers(item["metadata"]["namespace"])]
        present = {ObjectRef(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
        for item in items:
            observer.observe("MODIFIED", item)
        for ref in observer.known():
            was_listed = place in (None, ref.namespace)
            # one that was written after the list is newer than it
            if was_listed and ref not in present and observer.version_of(ref) <= int(version):
                observer.forget(ref)

    async def stop(self) -> None:
        """Leave no task and no timer behind: the next leader must not be disturbed by what this engine knew."""
        self.runs.stopped = True
        await self.watches.stop()
        await self._working.waiting.stop()
        self.streams.stop()
        await self._starting.crons.stop()
        await self.webhooks.stop()
        await self._removal.stop()
        await self.rate_limits.stop()
        await self._group_statuses.stop()
        await self.ledger.stop()
        self.buckets.stop()
        await self._working.offers.stop()
        self.registry.stop()
        await self.callers.stop()
        await self._quotas.stop()
        await self.run_pods.stop()
        await self.pools.stop()
        await self.workflows.stop()
        await self.runs.stop()
        await self._starting.root_labels.stop()
        await self.reader.stop()
        await self.events.stop()
