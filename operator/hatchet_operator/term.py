"""One term of leadership: API session, engine, gRPC server and kopf, started in an order in which nothing is lost.

Everything that acts is created when the term begins and is gone when it has ended: what was read before the Lease was
acquired, or is still in flight after it was lost, could be wrong. What is in flight at the end is recovered from the
objects.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol

from prometheus_client.core import Metric

from hatchet_operator import garbage
from hatchet_operator.access.certificates import KeyPair
from hatchet_operator.access.tls import CertificateSource, ServerCertificate, find_certificate_source
from hatchet_operator.access.token_key import find_token_key
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.leader_endpoint import Address, LeaderEndpoint
from hatchet_operator.dispatcher.server import GrpcServer
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.gauges import watch_ages
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.traces import Tracer
from hatchet_operator.engine.workers.handover import read_handed_over, write_handed_over
from hatchet_operator.errors import ApiError, ConfigurationError
from hatchet_operator.handlers import KopfWatches, make_registry
from hatchet_operator.kopf_alone import kopf
from hatchet_operator.pace import Pace
from hatchet_operator.receiver.server import Receiver
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import NOWHERE, Settings, Tls

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 5.0

Announce = Callable[[str | None], Coroutine[Any, Any, None]]


class Term:
    """One operator's time as the one that acts.

    Args:
        settings: What is configured.
        endpoint: The API server.
        metrics: The process's; they outlive a term.
        is_leading: Checked before each write and each command to a worker.
        on_absence: Called when the server does not know one of our kinds, or no longer does.
        ready: Set while workers are let in.
        install_signal_handlers: Called after each start of kopf, which puts its own in their place.
        clock: Tells the time.
        pace: How long it waits for what.
        open_api: Opens its session with the API server.
        announce: Says where this leader listens, or (None) that it is about to stop.
        handed_over: What the last leader assigned to which worker, as it wrote it; None: it could not say.
        writing: Bounds the writes of all terms of this process; None: this is the only one.
        tracer: Where spans go; None: nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        *,
        metrics: Metrics,
        is_leading: Callable[[], bool],
        on_absence: Callable[[], None],
        ready: asyncio.Event,
        install_signal_handlers: Callable[[], None],
        clock: Clock,
        pace: Pace,
        open_api: Callable[..., Api],
        announce: Announce,
        handed_over: str | None = None,
        writing: asyncio.Semaphore | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._tracer = tracer
        self._writing = writing
        self._endpoint = endpoint
        self._metrics = metrics
        self._is_leading = is_leading
        self._install_signal_handlers = install_signal_handlers
        self._clock = clock
        self._pace = pace
        self._open_api = open_api
        self._announce = announce
        self._handed_over = handed_over
        self.hands_over: str | None = None
        """What it assigned to which worker; set once the term has ended cleanly."""
        self._server: GrpcServer | None = None
        self._receiver: Receiver | None = None
        self._service: LeaderEndpoint | None = None
        self._on_absence = on_absence
        self._listed = asyncio.Event()
        self._kopf_watches = KopfWatches(settings.namespaces, on_list=self._listed.set, on_absence=on_absence)
        self._kopf_stops = asyncio.Event()
        self._ready = ready
        self.grpc_address = ""
        self.events_port: int | None = None
        self.engine: Engine | None = None

    async def run(self, over: asyncio.Event) -> None:
        """Serve until ``over`` is set."""
        garbage.freeze()  # modules, models and such
        async with self._open_api(
            self._endpoint,
            max_writes=self._settings.max_writes,
            writing=self._writing,
            may_write=self._is_leading,
            on_answer=self._metrics.api_answered,
        ) as api:
            serving = asyncio.create_task(self._serve(api))
            ending = asyncio.create_task(over.wait())
            try:
                await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    serving.result()
            finally:
                ending.cancel()
                await self._end(serving)

    def silent_watches(self, longer_than_seconds: float) -> list[str]:
        """Return the watches that have received nothing for too long, not even a bookmark."""
        now = asyncio.get_running_loop().time()
        return [
            f"watch of {name} silent for {silent_for:.0f}s"
            for name, at in self._heard_at().items()
            if (silent_for := now - at) > longer_than_seconds
        ]

    def _heard_at(self) -> dict[str, float]:
        """Return when each watch last received something, in loop time."""
        if self.engine is None:
            return {}
        return self.engine.watches.heard_at() | self._kopf_watches.asked_at()

    def _gauges(self) -> Iterable[Metric]:
        """Return the gauges for Prometheus: what the engine knows, and how fresh that is."""
        engine_has = self.engine.gauges.collect() if self.engine is not None else ()
        return (*engine_has, watch_ages(self._heard_at(), asyncio.get_running_loop().time()))

    def lack(self, what: str | None) -> None:
        """Say on pools which CRD is missing; None: none is missing any more, and kopf has to look for it, too."""
        if self.engine is not None:
            self.engine.pools.lack(what)
        if what is None:
            self._kopf_stops.set()

    async def _serve(self, api: Api) -> None:
        """Serve, letting workers in only when everything is known: before that, a spawn could find too little."""
        engine = self.engine = Engine(
            api,
            self._settings,
            token_key=await find_token_key(api, self._settings),
            metrics=self._metrics,
            is_leading=self._is_leading,
            on_absence=self._on_absence,
            clock=self._clock,
            pace=self._pace,
            tracer=self._tracer,
        )
        await engine.start()
        garbage.freeze()  # and the runs
        source = find_certificate_source(
            api, self._settings, address=self._advertised(self._settings.grpc_port), pace=self._pace
        )
        certificate = await source.read() if source else None
        server, port = await self._let_in(engine, certificate)
        shown = {"grpc": self.grpc_address, "runs": len(engine.store)}
        log.info("operator ready", extra=shown if engine.scope.shard is None else shown | {"shard": engine.scope.shard})
        if self._settings.grpc_service is not None:
            self._service = self._make_service(engine, api, self._settings.grpc_service, port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_kopf_running(engine))
            group.create_task(self._compare_after_lists(engine))
            group.create_task(engine.watch())
            if source is not None:
                group.create_task(_keep_certificate(source, engine, server, *self._receivers()))
            if self._service is not None:
                group.create_task(self._service.keep())
            self._metrics.terms.inc()
            self._metrics.add_gauges(self._gauges)
            self._ready.set()
            group.create_task(self._announce(self._listens_at(port)))

    async def _let_in(self, engine: Engine, certificate: ServerCertificate | None) -> tuple[GrpcServer, int]:
        """Open the ports, and admit workers; return the gRPC server and its port."""
        if certificate is not None:
            engine.pools.trust(certificate.ca_pem)
        host, pair = self._settings.grpc_host, certificate.pair if certificate else None
        if self._settings.events_port is not None:  # before workers are let in: pools' tokens say where it is
            self._receiver = Receiver(engine)
            self.events_port = await self._receiver.bind(host, self._settings.events_port, pair)
        server = self._server = GrpcServer(engine)
        port = await server.start(host, self._settings.grpc_port, pair)
        self.grpc_address = self._advertised(port)
        engine.admit_workers(self.grpc_address, read_handed_over(self._handed_over), rest_url=self.rest_url)
        for receiver in self._receivers():
            await receiver.listen()
        return server, port

    @property
    def rest_url(self) -> str | None:
        """Where clients find Hatchet's REST API; None: there is no port for it."""
        if self.events_port is None:
            return None
        if self._settings.rest_url is not None:
            return self._settings.rest_url
        host = self.grpc_address.rpartition(":")[0]
        return f"{'http' if self._settings.tls is Tls.NONE else 'https'}://{host}:{self.events_port}"

    def _receivers(self) -> tuple[Receiver, ...]:
        return (self._receiver,) if self._receiver is not None else ()

    def _listens_at(self, port: int) -> str | None:
        """Return where other Pods of this Deployment reach this process; None: unknown."""
        host = self._settings.pod_ip or self._settings.grpc_host
        if host in NOWHERE:
            return None
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _advertised(self, port: int) -> str:
        settings = self._settings
        if settings.grpc_advertise is not None:
            return settings.grpc_advertise
        if settings.grpc_service is not None:
            return f"{settings.grpc_service}.{settings.operator_namespace}.svc:{port}"
        return f"{settings.grpc_host}:{port}"

    def _make_service(self, engine: Engine, api: Api, name: str, port: int) -> LeaderEndpoint:
        settings = self._settings
        host, _, advertised = self.grpc_address.rpartition(":")

        def former_ports() -> frozenset[int]:
            found = (address.rpartition(":") for address in engine.registry.addresses_in_use())
            return frozenset(
                int(port) for name, _, port in found if name == host and port != advertised and port.isdigit()
            )

        def on_served(ports: frozenset[int]) -> None:
            engine.known_pools.also_served = frozenset(f"{host}:{port}" for port in ports)

        address = Address(
            ip=settings.pod_ip or settings.grpc_host,
            port=port,
            events_port=self.events_port,
            pod_name=settings.pod_name,
            pod_uid=settings.pod_uid,
        )
        return LeaderEndpoint(
            api,
            ObjectRef(settings.operator_namespace, name),
            address,
            settings.owner,
            former_ports=former_ports,
            on_served=on_served,
        )

    async def _end(self, serving: asyncio.Task[None]) -> None:
        """Stop assigning work at once, let answers in flight reach their callers, then leave nothing behind."""
        was_ready, asked_to = self._ready.is_set(), self._is_leading()  # otherwise it was deposed
        if not was_ready:
            await _cancel(serving)  # a start that continues would let workers in
        self._ready.clear()
        self._metrics.remove_gauges(self._gauges)
        if self.engine is not None:
            if was_ready and asked_to:
                self.hands_over = write_handed_over(self.engine.registry.assignments())
            # Streams never end by themselves. Nothing is assigned after this, also to workers that listen again while
            # this server still answers calls: what was handed over has to stay complete.
            self.engine.registry.stop()
            if was_ready and asked_to:
                await self.engine.ledger.close()
        if was_ready and asked_to:
            await self._announce(None)  # before it stops listening, or it would be considered dead
        grace_seconds = self._pace.grace if asked_to else 0
        stops = [receiver.stop(grace_seconds) for receiver in self._receivers()]
        if self._server is not None:
            stops.append(self._server.stop(grace_seconds))
        await asyncio.gather(*stops)
        await _cancel(serving)
        if self._service is not None and asked_to:
            await self._service.withdraw()
        if self.engine is not None:
            await self.engine.stop()

    async def _compare_after_lists(self, engine: Engine) -> None:
        """After each of kopf's lists, find what was deleted while it could not watch; kopf does not say."""
        while True:
            await self._listed.wait()
            self._listed.clear()
            try:
                await engine.resync()
            except ApiError as error:
                log.warning("workflows and pools not compared, trying again", extra={"error": str(error)})
                self._listed.set()
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _keep_kopf_running(self, engine: Engine) -> None:
        """Restart kopf when it ends, as it does on a watch error other than 410; the rest keeps running meanwhile."""
        while True:
            if errors := await self._run_kopf(engine):
                log.warning("kopf ended, starting it again", extra={"errors": errors})
                await asyncio.sleep(_AGAIN_SECONDS * random.uniform(0.5, 1))  # noqa: S311  # jitter

    async def _run_kopf(self, engine: Engine) -> list[str]:
        """Run kopf until it ends by itself, or has to discover the kinds again, and return its errors.

        It uses ``spawn_tasks`` and not ``kopf.operator()``, which cancels all other tasks when it ends.
        """
        stop = self._kopf_stops = asyncio.Event()
        self._kopf_watches.begin()
        spawning = asyncio.create_task(self._spawn_kopf(engine, stop))
        try:
            tasks = await asyncio.shield(spawning)  # interrupted in the middle, it would leave tasks behind
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = await spawning
            stop.set()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return [repr(error) for error in results if isinstance(error, Exception)]

    async def _spawn_kopf(self, engine: Engine, stop: asyncio.Event) -> Collection[asyncio.Task[None]]:
        # Otherwise kopf asks for the user, which a Pod doesn't have. It is for its peering, and its type is not public.
        identity: Any = "hatchet-operator"
        tasks = await kopf.spawn_tasks(
            registry=make_registry(engine, self._endpoint, self._kopf_watches, watch_seconds=self._pace.kopf_watch),
            settings=kopf.OperatorSettings(),
            identity=identity,
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            stop_flag=stop,
        )
        self._install_signal_handlers()  # before anything else runs: a signal to kopf's own would end only kopf
        return tasks


async def _cancel(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)  # what it raised was raised before


class _Shows(Protocol):
    """A server that presents a certificate."""

    def show(self, certificate: KeyPair) -> None: ...


async def _keep_certificate(source: CertificateSource, engine: Engine, *servers: _Shows) -> None:
    """Present a newer certificate as soon as there is one; failures are retried."""
    while True:
        await asyncio.sleep(source.look_again_seconds)
        try:
            certificate = await source.read()
        except (ApiError, ConfigurationError) as error:
            log.error("certificate not renewed", extra={"error": str(error)})
            continue
        engine.pools.trust(certificate.ca_pem)
        for server in servers:
            server.show(certificate.pair)
