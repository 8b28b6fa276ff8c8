"""The operator: API session, engine, gRPC server and kopf, started in the order that loses nothing, and stopped so."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

import kopf

from hatchet_operator.cluster.api import Api, Endpoint
from hatchet_operator.dispatcher.services import GrpcServer
from hatchet_operator.engine.engine import Engine, find_token_key
from hatchet_operator.handlers import make_registry
from hatchet_operator.probes import Probes
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.5


class Operator:
    """One operator process.

    Args:
        settings: What is configured.
        endpoint: The API server.
        install_signal_handlers: Called after each start of kopf, which puts its own in their place.
    """

    def __init__(
        self, settings: Settings, endpoint: Endpoint, *, install_signal_handlers: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._install_signal_handlers = install_signal_handlers
        self.ready = asyncio.Event()
        self.grpc_address = ""
        self.probes_port: int | None = None
        self.engine: Engine | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; what is in flight then is found again in the objects."""
        async with Api(self._endpoint, max_writes=self._settings.max_writes) as api:
            engine = self.engine = Engine(api, self._settings, token_key=await find_token_key(api, self._settings))
            server = GrpcServer(engine)
            probes = Probes(engine, self.ready)
            if self._settings.metrics_port is not None:
                self.probes_port = await probes.start(self._settings.grpc_host, self._settings.metrics_port)
            starting = asyncio.create_task(self._start(engine, server))
            kopf_task: asyncio.Task[None] | None = None
            try:
                await _first_of(starting, stop)
                if starting.done():
                    starting.result()
                    kopf_task = asyncio.create_task(self._keep_kopf_running(engine, stop))
                    self.ready.set()
                    watching = asyncio.create_task(engine.watch())
                    await _first_of(watching, stop)
                    if watching.done():
                        watching.result()
            finally:
                starting.cancel()
                engine.registry.stop()  # streams never end by themselves
                await server.stop(_GRACE_SECONDS)
                await probes.stop()
                if kopf_task is not None:
                    await kopf_task
                await engine.stop()

    async def _start(self, engine: Engine, server: GrpcServer) -> None:
        """Workers are let in only when everything is known: before that, a spawn could find too little."""
        await engine.start()
        port = await server.start(self._settings.grpc_host, self._settings.grpc_port)
        self.grpc_address = self._settings.grpc_advertise or f"{self._settings.grpc_host}:{port}"
        engine.admit_workers(self.grpc_address)
        log.info("operator ready", extra={"grpc": self.grpc_address, "runs": len(engine.store)})

    async def _keep_kopf_running(self, engine: Engine, stop: asyncio.Event) -> None:
        """Kopf ends after a minute of 5xx; it is started again, and the rest of the operator goes on meanwhile.

        ``spawn_tasks`` and not ``kopf.operator()``: that one cancels the tasks of everybody else when it ends.
        """
        failures = 0
        while not stop.is_set():
            kopf_stop = asyncio.Event()
            tasks = await kopf.spawn_tasks(
                registry=make_registry(engine, self._endpoint),
                settings=kopf.OperatorSettings(),
                clusterwide=self._settings.namespace is None,
                namespaces=[self._settings.namespace] if self._settings.namespace else [],
                stop_flag=kopf_stop,
            )
            self._install_signal_handlers()
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            kopf_stop.set()
            for task in (*tasks, stopping):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            if not stop.is_set():
                failures += 1
                errors = [repr(error) for error in results if isinstance(error, Exception)]
                log.warning("kopf ended, starting it again", extra={"errors": errors, "failures": failures})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(2**failures, 30) * random.uniform(0.5, 1))  # noqa: S311  # jitter


async def _first_of(task: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
