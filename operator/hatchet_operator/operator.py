"""One operator process: probes from its start to its end, and between them terms of leadership.

    the API server answers ─► standby or, without leader election, term

    standby ─ the Lease is ours ─► term ─ lost ─► standby …
                                     └─ asked to end: the term ends first, then the Lease is released

Without leader election there is one term, from start to end.
"""

import asyncio
import gc
import logging
import socket
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from hatchet_operator.cluster.api import Api, Endpoint, always
from hatchet_operator.cluster.election import Elector, LeaseTimes
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import ApiError, ConfigurationError, NotFound
from hatchet_operator.probes import Health, Probes
from hatchet_operator.settings import Settings
from hatchet_operator.term import Term

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.5
_STUCK_SECONDS = 120.0


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
        self._answered = False
        self.metrics = Metrics()
        self.ready = asyncio.Event()
        """Set while this operator leads and workers are let in."""
        self.probes_port: int | None = None
        self.elector: Elector | None = None
        self.term: Term | None = None
        self._hands_over: str | None = None

    @property
    def engine(self) -> Engine | None:
        return self.term.engine if self.term else None

    @property
    def grpc_address(self) -> str:
        return self.term.grpc_address if self.term else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; what is in flight then is found again in the objects.

        Raises:
            ConfigurationError: The API server does not know our kinds.
        """
        self.metrics.is_leader.set_function(lambda: float(self._is_leading()))
        probes = Probes(self.metrics.registry, self.health)
        if self._settings.metrics_port is not None:
            self.probes_port = await probes.start(self._settings.grpc_host, self._settings.metrics_port)
        try:
            self._answered = await _unless(stop, _check_definitions(self._endpoint, self._settings.namespace))
            if not self._answered:
                return
            if self._settings.leader_election:
                async with Api(self._endpoint, user_agent="hatchet-operator/leader-election", may_write=always) as api:
                    await self._take_turns(api, stop)
            else:
                await self._lead(stop)
        finally:
            await probes.stop()

    def health(self) -> Health:
        stuck = self.term.silent_watches(_STUCK_SECONDS) if self.term else []
        if self.elector is not None and (silent := self.elector.silent_for()) > _STUCK_SECONDS:
            stuck.append(f"no look at the Lease for {silent:.0f}s")
        if not self._answered:
            return Health(state="waiting for the API server", ready=False)  # alive: a restart would not help
        if self.ready.is_set():
            state = "ok"
        elif self.elector is not None and self.term is None:
            if self.elector.refused is not None:
                return Health(state=f"kept from the election: {self.elector.refused}", ready=False, stuck=tuple(stuck))
            state = "standby"
        else:
            return Health(state="reading what is there", ready=False, stuck=tuple(stuck))
        return Health(state=state, ready=True, stuck=tuple(stuck))

    async def _take_turns(self, api: Api, stop: asyncio.Event) -> None:
        settings = self._settings
        elector = self.elector = Elector(
            api,
            namespace=settings.operator_namespace,
            name=settings.lease_name,
            identity=f"{settings.pod_name or socket.gethostname()}_{uuid.uuid4()}",
            times=LeaseTimes(settings.lease_duration.total_seconds()),
            owner=settings.owner,
        )
        try:
            while await _unless(stop, elector.acquire()):
                over = asyncio.Event()
                # It renews until the term has ended, also when the process was asked to end.
                keeping = asyncio.create_task(_then_set(over, elector.keep()))
                stopping = asyncio.create_task(_then_set(over, stop.wait()))
                try:
                    await self._lead(over)
                finally:
                    await _cancel(keeping, stopping)
        finally:
            await elector.release(self._hands_over)

    async def _lead(self, over: asyncio.Event) -> None:
        self.term = Term(
            self._settings,
            self._endpoint,
            metrics=self.metrics,
            is_leading=self._is_leading,
            ready=self.ready,
            install_signal_handlers=self._install_signal_handlers,
            grace_seconds=_GRACE_SECONDS,
            handed_over=self.elector.handed_over if self.elector is not None else None,
        )
        try:
            await self.term.run(over)
        finally:
            self._hands_over = self.term.hands_over
            self.term = None
            gc.collect()  # what it knew, before another one reads as much anew

    def _is_leading(self) -> bool:
        if self._settings.leader_election:
            return self.elector is not None and self.elector.is_leading()
        return self.term is not None


async def _check_definitions(endpoint: Endpoint, namespace: str | None) -> None:
    """Wait for an answer of the API server, and make sure that it knows our kinds."""
    async with Api(endpoint, on_no_answer=_say_that_it_does_not_answer, may_write=always) as api:
        try:
            await api.until_answered(api.list_one, RUNS, namespace)
        except NotFound as error:
            raise ConfigurationError(
                f"{endpoint.server} has no WorkflowRun CRD; run hatchet-operator crds | kubectl apply -f -"
            ) from error


def _say_that_it_does_not_answer(error: ApiError) -> None:
    log.warning("API server does not answer, trying again", extra={"error": str(error)})


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work; false: ``stop`` was set before it was done."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return False
        working.result()
        return True
    finally:
        await _cancel(working, stopping)


async def _then_set(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    finally:
        event.set()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
