"""One term of leadership: API session, engine, gRPC server and kopf, started in the order that loses nothing.

Everything that acts is made when the term begins and is gone when it has ended: what was read before the Lease was
taken, or is still under way after it was lost, could be wrong. What is in flight at the end is found again in the
objects.
"""

import asyncio
import gc
import logging
import random
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import kopf

from hatchet_operator.cluster.api import Api, Endpoint
from hatchet_operator.cluster.leader_endpoint import Address, LeaderEndpoint
from hatchet_operator.dispatcher.services import GrpcServer
from hatchet_operator.engine.engine import Engine, find_token_key
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.rejoin import read_handed_over, write_handed_over
from hatchet_operator.engine.tls import CertificateSource, find_certificate_source
from hatchet_operator.errors import ApiError, ConfigurationError
from hatchet_operator.handlers import KopfWatches, make_registry
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import NOWHERE, Settings

log = logging.getLogger(__name__)

Announce = Callable[[str | None], Coroutine[Any, Any, None]]


class Term:
    """One operator's time as the one that acts.

    Args:
        settings: What is configured.
        endpoint: The API server.
        metrics: Of the process; they outlive a term.
        is_leading: Asked before each write and each command to a worker.
        on_absence: Called when the server does not know one of our kinds, or not any more.
        ready: Set while workers are let in.
        install_signal_handlers: Called after each start of kopf, which puts its own in their place.
        grace_seconds: How long calls may take to end when the process is asked to.
        announce: Says where this leader listens, or (None) that it is about to stop.
        handed_over: What the last leader gave to whom, in its words; None: it could not say.
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
        grace_seconds: float,
        announce: Announce,
        handed_over: str | None = None,
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._metrics = metrics
        self._is_leading = is_leading
        self._install_signal_handlers = install_signal_handlers
        self._grace_seconds = grace_seconds
        self._announce = announce
        self._handed_over = handed_over
        self.hands_over: str | None = None
        """Once the term has ended in order: what it gave to whom."""
        self._server: GrpcServer | None = None
        self._service: LeaderEndpoint | None = None
        self._on_absence = on_absence
        self._kopf_watches = KopfWatches(on_absence)
        self._kopf_again = asyncio.Event()
        self._ready = ready
        self.grpc_address = ""
        self.engine: Engine | None = None

    async def run(self, over: asyncio.Event) -> None:
        """Serve until ``over`` is set."""
        gc.freeze()  # modules, models and such: to look through them for garbage takes longer than anybody should wait
        async with Api(self._endpoint, max_writes=self._settings.max_writes, may_write=self._is_leading) as api:
            serving = asyncio.create_task(self._serve(api))
            ending = asyncio.create_task(over.wait())
            try:
                await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    serving.result()
            finally:
                ending.cancel()
                await self._end(serving)
                gc.unfreeze()

    def silent_watches(self, longer_than_seconds: float) -> list[str]:
        """Say which watches heard nothing for too long, not even a bookmark."""
        if self.engine is None:
            return []
        informers = {"runs": self.engine.run_informer, "pods": self.engine.pod_informer}
        heard_at = {name: each.last_event_at for name, each in informers.items() if each.synced.is_set()}
        now = asyncio.get_running_loop().time()
        return [
            f"watch of {name} silent for {silent_for:.0f}s"
            for name, at in (heard_at | self._kopf_watches.asked_at).items()
            if (silent_for := now - at) > longer_than_seconds
        ]

    def lack(self, what: str | None) -> None:
        """Say on pools which CRD is missing; None: none is any more, and kopf has to look for it, too."""
        if self.engine is not None:
            self.engine.pools.lack(what)
        if what is None:
            self._kopf_again.set()

    async def _serve(self, api: Api) -> None:
        """Workers are let in only when everything is known: before that, a spawn could find too little."""
        engine = self.engine = Engine(
            api,
            self._settings,
            token_key=await find_token_key(api, self._settings),
            metrics=self._metrics,
            is_leading=self._is_leading,
            on_absence=self._on_absence,
        )
        await engine.start()
        gc.freeze()  # and the runs: they are as many, and hold no garbage
        source = find_certificate_source(api, self._settings, address=self._advertised(self._settings.grpc_port))
        certificate = await source.read() if source else None
        if certificate is not None:
            engine.pools.trust(certificate.ca_pem)
        server = self._server = GrpcServer(engine)
        port = await server.start(
            self._settings.grpc_host, self._settings.grpc_port, certificate.pair if certificate else None
        )
        self.grpc_address = self._advertised(port)
        engine.admit_workers(self.grpc_address, read_handed_over(self._handed_over))
        log.info("operator ready", extra={"grpc": self.grpc_address, "runs": len(engine.store)})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_kopf_running(engine))
            group.create_task(engine.watch())
            if source is not None:
                group.create_task(_keep_certificate(source, server, engine))
            if self._settings.grpc_service is not None:
                self._service = self._make_service(engine, api, self._settings.grpc_service, port)
                group.create_task(self._service.keep())
            self._ready.set()
            group.create_task(self._announce(self._listens_at(port)))

    def _listens_at(self, port: int) -> str | None:
        """Return where others of this Deployment reach this process; None: they can't be told."""
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
            engine.pools.also_served = frozenset(f"{host}:{port}" for port in ports)

        address = Address(
            ip=settings.pod_ip or settings.grpc_host, port=port, pod_name=settings.pod_name, pod_uid=settings.pod_uid
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
        """Stop giving out work at once, let answers under way reach their callers, then leave nothing behind."""
        was_ready, asked_to = self._ready.is_set(), self._is_leading()  # else it was deposed
        if not was_ready:
            await _cancel(serving)  # a start that goes on would let workers in
        self._ready.clear()
        if self.engine is not None:
            if was_ready and asked_to:  # nothing is given out between this and the end of the streams
                self.hands_over = write_handed_over(self.engine.registry.given_out())
            self.engine.registry.stop()  # streams never end by themselves
        if was_ready and asked_to:
            await self._announce(None)  # before it stops to listen, or it would be taken for dead
        if self._server is not None:
            await self._server.stop(self._grace_seconds if asked_to else 0)
        await _cancel(serving)
        if self._service is not None and asked_to:
            await self._service.withdraw()
        if self.engine is not None:
            await self.engine.stop()

    async def _keep_kopf_running(self, engine: Engine) -> None:
        """Kopf ends after a minute of 5xx; it is started again, and the rest of the operator goes on meanwhile."""
        failures = 0
        while True:
            errors = await self._run_kopf(engine)
            if self._kopf_again.is_set():
                continue
            failures += 1
            log.warning("kopf ended, starting it again", extra={"errors": errors, "failures": failures})
            await asyncio.sleep(min(2**failures, 30) * random.uniform(0.5, 1))  # noqa: S311  # jitter

    async def _run_kopf(self, engine: Engine) -> list[str]:
        """Run kopf until it ends by itself, or has to look anew which kinds there are, and return why.

        ``spawn_tasks`` and not ``kopf.operator()``: that one cancels the tasks of everybody else when it ends.
        """
        stop = asyncio.Event()
        self._kopf_again.clear()
        again = asyncio.create_task(self._kopf_again.wait())
        self._kopf_watches.begin()
        spawning = asyncio.create_task(self._spawn_kopf(engine, stop))
        try:
            tasks = await asyncio.shield(spawning)  # cut off in its middle, it would leave tasks behind
            await asyncio.wait((*tasks, again), return_when=asyncio.FIRST_COMPLETED)
        finally:
            again.cancel()
            tasks = await spawning
            stop.set()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        return [repr(error) for error in results if isinstance(error, Exception)]

    async def _spawn_kopf(self, engine: Engine, stop: asyncio.Event) -> Collection[asyncio.Task[None]]:
        # Or kopf asks who the user is, and in a Pod nobody knows. It is for its peering, and its type is not public.
        identity: Any = "hatchet-operator"
        tasks = await kopf.spawn_tasks(
            registry=make_registry(engine, self._endpoint, self._kopf_watches),
            settings=kopf.OperatorSettings(),
            identity=identity,
            clusterwide=self._settings.namespace is None,
            namespaces=[self._settings.namespace] if self._settings.namespace else [],
            stop_flag=stop,
        )
        self._install_signal_handlers()  # before anybody else runs: a signal to kopf's own would end kopf alone
        return tasks


async def _cancel(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)  # what it raised was raised before


async def _keep_certificate(source: CertificateSource, server: GrpcServer, engine: Engine) -> None:
    """Show a newer certificate as soon as there is one; what goes wrong meanwhile is tried again."""
    while True:
        await asyncio.sleep(source.look_again_seconds)
        try:
            certificate = await source.read()
        except (ApiError, ConfigurationError) as error:
            log.error("certificate not renewed", extra={"error": str(error)})
            continue
        engine.pools.trust(certificate.ca_pem)
        server.show(certificate.pair)
