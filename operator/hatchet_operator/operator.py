"""One operator process: probes from its start to its end, and between them terms of leadership.

    the API server answers, and has our CRDs ─► standby or, without leader election, term

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
from hatchet_operator.cluster.definitions import HOW_TO_MEND, definition_problems
from hatchet_operator.cluster.election import Elector, LeaseTimes
from hatchet_operator.cluster.events import warn_on_pod
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import ApiError, NotFound
from hatchet_operator.probes import Health, Probes
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.settings import Settings
from hatchet_operator.term import Term

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.5
_STUCK_SECONDS = 120.0
_LOOK_AGAIN_SECONDS = 2.0


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
        self._lacking: tuple[str, ...] = ()  # what is missing of our CRDs
        self._suspected = asyncio.Event()  # that something of them is
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
        """Serve until ``stop`` is set; what is in flight then is found again in the objects."""
        self.metrics.is_leader.set_function(lambda: float(self._is_leading()))
        probes = Probes(self.metrics.registry, self.health)
        if self._settings.metrics_port is not None:
            self.probes_port = await probes.start(self._settings.grpc_host, self._settings.metrics_port)
        try:
            async with Api(self._endpoint, on_no_answer=_say_that_it_does_not_answer, may_write=always) as api:
                if not await _unless(stop, self._until_defined(api)):
                    return
                looking = asyncio.create_task(self._look_when_suspected(api))
                try:
                    await self._serve(stop)
                finally:
                    await _cancel(looking)
        finally:
            await probes.stop()

    async def _serve(self, stop: asyncio.Event) -> None:
        if self._settings.leader_election:
            async with Api(self._endpoint, user_agent="hatchet-operator/leader-election", may_write=always) as api:
                await self._take_turns(api, stop)
        else:
            await self._lead(stop)

    async def _until_defined(self, api: Api) -> None:
        """Wait until the API server has all that we need of our CRDs; say what is missing, once."""
        told: tuple[str, ...] = ()
        while problems := await api.until_answered(definition_problems, api, self._settings.namespace):
            self._answered = True
            self._lacking = problems
            if problems != told:
                told = problems
                await self._tell_what_is_missing(api, problems)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        self._answered = True
        if self._lacking:
            self._lacking = ()
            log.info("all CRDs are there, going on")
            if self.term is not None:
                self.term.lack(None)

    async def _tell_what_is_missing(self, api: Api, problems: tuple[str, ...]) -> None:
        message = f"{'; '.join(problems)}: {HOW_TO_MEND}"
        log.error("CRDs are missing, waiting for them", extra={"problem": message})
        if self.term is not None:
            self.term.lack(message)
        settings = self._settings
        if settings.pod_name is not None:
            pod = ObjectMeta(name=settings.pod_name, namespace=settings.operator_namespace, uid=settings.pod_uid or "")
            await warn_on_pod(api, pod, Reason.DEFINITION_MISSING, message)

    async def _look_when_suspected(self, api: Api) -> None:
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            await self._until_defined(api)

    def health(self) -> Health:
        stuck = self.term.silent_watches(_STUCK_SECONDS) if self.term else []
        if self.elector is not None and (silent := self.elector.silent_for()) > _STUCK_SECONDS:
            stuck.append(f"no look at the Lease for {silent:.0f}s")
        if not self._answered:
            return Health(state="waiting for the API server", ready=False)  # alive: a restart would not help
        if self._lacking:
            return Health(state=f"{'; '.join(self._lacking)}: {HOW_TO_MEND}", ready=False)  # likewise
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
            sight=LeaderSight(),
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
            elector.close()
            await elector.release(self._hands_over)

    async def _lead(self, over: asyncio.Event) -> None:
        while True:
            try:
                return await self._lead_once(over)
            except NotFound:  # of one of our kinds, while a term begins
                async with Api(self._endpoint, on_no_answer=_say_that_it_does_not_answer, may_write=always) as api:
                    if not await api.until_answered(definition_problems, api, self._settings.namespace):
                        raise
                    if not await _unless(over, self._until_defined(api)):
                        return None

    async def _lead_once(self, over: asyncio.Event) -> None:
        self.term = Term(
            self._settings,
            self._endpoint,
            metrics=self.metrics,
            is_leading=self._is_leading,
            on_absence=self._suspected.set,
            ready=self.ready,
            install_signal_handlers=self._install_signal_handlers,
            grace_seconds=_GRACE_SECONDS,
            announce=self._announce,
            handed_over=self.elector.handed_over if self.elector is not None else None,
        )
        try:
            await self.term.run(over)
        finally:
            self._hands_over = self.term.hands_over
            self.term = None
            gc.collect()  # what it knew, before another one reads as much anew

    async def _announce(self, address: str | None) -> None:
        if self.elector is not None:
            await self.elector.announce(address)

    def _is_leading(self) -> bool:
        if self._settings.leader_election:
            return self.elector is not None and self.elector.is_leading()
        return self.term is not None


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
