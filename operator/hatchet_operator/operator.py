"""One operator process: probes from its start to its end, and terms of leadership in between.

    the API server answers, and has our CRDs ─► standby or, without leader election, term

    standby ─ the Lease is ours ─► term ─ lost ─► standby …
                                     └─ asked to end: the term ends first, then the Lease is released

Without leader election there is one term, from start to end. With shards there is a term for each that this process
leads, and `shard_election` says which these are.
"""

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any

from hatchet_operator import garbage
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.definitions import HOW_TO_MEND, readable_namespaces, until_readable
from hatchet_operator.cluster.election import Elector
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.leader_sight import LeaderSight, Presence
from hatchet_operator.cluster.leases import LeaseTimes
from hatchet_operator.definition_watch import DefinitionWatch, log_no_answer
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.leadership import Leadership, cancelled, unless
from hatchet_operator.pace import Pace
from hatchet_operator.probes import Health, Probes
from hatchet_operator.settings import NOWHERE, Settings
from hatchet_operator.shard_election import ShardElection
from hatchet_operator.term import Announce, Term
from hatchet_operator.tracing import find_tracer

log = logging.getLogger(__name__)

_LAG_SECONDS = 1.0
_READY_LOOKS_SECONDS = 0.1


class Operator:
    """One operator process.

    Args:
        settings: What is configured.
        endpoint: The API server.
        install_signal_handlers: Called after each start of kopf, which puts its own in their place.
        clock: Tells the time; None: the machine's.
        pace: How long it waits for what.
        open_api: Opens the session of a term with the API server.
    """

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        *,
        install_signal_handlers: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        pace: Pace | None = None,
        open_api: Callable[..., Api] = Api,
    ) -> None:
        self._clock = clock or Clock()
        self._pace = pace or Pace()
        self._open_api = open_api
        self._settings = settings
        self._endpoint = endpoint
        self._install_signal_handlers = install_signal_handlers
        self._definitions = DefinitionWatch(
            endpoint,
            settings,
            pace=self._pace,
            tell=self._tell_what_is_missing,
            is_watching=lambda: self.term is not None,
        )
        self.metrics = Metrics()
        self.tracer = find_tracer(self.metrics) if settings.tracing else None
        self.ready = asyncio.Event()
        """Set while this operator leads and workers are let in."""
        self.probes_port: int | None = None
        self.elector: Elector | None = None
        self.shard_election: ShardElection | None = None
        self._leaderships: list[Leadership] = []
        self._writing = asyncio.Semaphore(settings.max_writes)
        self._hands_over: str | None = None

    @property
    def terms(self) -> list[Term]:
        """The terms of this process: one at most, or one for each shard that it leads."""
        return [each.term for each in self._leaderships if each.term is not None]

    @property
    def term(self) -> Term | None:
        """The first of them."""
        return next(iter(self.terms), None)

    @property
    def engine(self) -> Engine | None:
        return self.term.engine if self.term else None

    @property
    def grpc_address(self) -> str:
        return self.term.grpc_address if self.term else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; what is in flight then is recovered from the objects."""
        garbage.freeze()  # modules, models and such
        self.metrics.is_leader.set_function(lambda: float(self._is_leading()))
        self.metrics.shards.set(self._settings.shards)
        self.metrics.shards_led.set_function(self._shards_led)
        probes = Probes(self.metrics.scrape, self.health)
        if self._settings.metrics_port is not None:
            self.probes_port = await probes.start(self._settings.grpc_host, self._settings.metrics_port)
        try:
            async with Api(self._endpoint, on_no_answer=log_no_answer, may_write=always) as api:
                named = self._settings.namespaces
                if not await unless(stop, self._begin(api)):
                    return
                unread = frozenset(named).difference(self._settings.namespaces)
                await _while_going_on(self._watch_over(api, unread, stop), self._serve(stop))
        finally:
            await probes.stop()
            if self.tracer is not None:
                await self.tracer.close()

    async def _serve(self, stop: asyncio.Event) -> None:
        if self._settings.leader_election:
            async with Api(self._endpoint, user_agent="hatchet-operator/leader-election", may_write=always) as api:
                await (self._take_turns(api, stop) if self._settings.shards == 1 else self._share(api, stop))
        else:
            await self._lead(stop)

    async def _begin(self, api: Api) -> None:
        """Find out which of the namespaces that were named can be served, and wait until it can be done."""
        named = self._settings.namespaces
        readable = await api.until_answered(readable_namespaces, api, named)
        if len(readable) < len(named):
            # one that was deleted, or has no Role yet, must not keep the others waiting
            unread = [name for name in named if name not in readable]
            log.error("namespaces may not be read, serving the others", extra={"namespaces": unread})
            self._settings = replace(self._settings, namespaces=readable)
            self._definitions.namespaces = readable
        await self._definitions.until_complete(api)

    def _tell_what_is_missing(self, what: str | None) -> None:
        for term in self.terms:
            term.lack(what)

    async def _watch_over(self, api: Api, unread: Collection[str], stop: asyncio.Event) -> None:
        """Watch the CRDs, how late the loop is, and what piles up for the collector, forever."""
        async with asyncio.TaskGroup() as group:
            if unread:
                group.create_task(self._stop_when_readable(api, unread, stop))
            group.create_task(self._definitions.keep_looking(api))
            group.create_task(self._measure_lag())
            group.create_task(garbage.collect_at_rest())

    async def _stop_when_readable(self, api: Api, unread: Collection[str], stop: asyncio.Event) -> None:
        """End, to be started again, when a namespace can be read: its runs are to be known before work is given out."""
        readable = await until_readable(api, unread, look_again_seconds=self._pace.unread_looks)
        log.warning("namespaces may be read now, ending to start with them", extra={"namespaces": readable})
        stop.set()

    async def _measure_lag(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            asked_for = clock() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.metrics.loop_lag.observe(max(clock() - asked_for, 0.0))

    def health(self) -> Health:
        stuck = [watch for term in self.terms for watch in term.silent_watches(self._pace.stuck)]
        elector = self.elector or self.shard_election
        if elector is not None and (silent := elector.silent_for()) > self._pace.stuck:
            stuck.append(f"no look at the Lease for {silent:.0f}s")
        if not self._definitions.answered:
            return Health(state="waiting for the API server", ready=False)  # alive: a restart would not help
        if self._definitions.missing:
            return Health(state=f"{'; '.join(self._definitions.missing)}: {HOW_TO_MEND}", ready=False)  # likewise
        if self.shard_election is not None and self.terms and all(each.ready.is_set() for each in self._leaderships):
            led = self.shard_election.led()
            state = f"leads {len(led)} of {self._settings.shards} shards: {', '.join(map(str, led))}"
        elif self.ready.is_set() and self.shard_election is None:
            state = "ok"
        elif elector is not None and not self.terms:
            if elector.refused is not None:
                return Health(state=f"kept from the election: {elector.refused}", ready=False, stuck=tuple(stuck))
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
            clock=self._clock.boot_time,
        )
        try:
            while await unless(stop, elector.acquire()):
                over = asyncio.Event()
                # It renews until the term has ended, even if the process was asked to end.
                keeping = asyncio.create_task(_then_set(over, elector.keep()))
                stopping = asyncio.create_task(_then_set(over, stop.wait()))
                try:
                    await self._lead(over)
                finally:
                    await cancelled(keeping, stopping)
        finally:
            elector.close()
            await elector.release(self._hands_over)

    async def _lead(self, over: asyncio.Event) -> None:
        handed_over = self.elector.handed_over if self.elector is not None else None
        self._hands_over = await self._lead_with(
            self._settings,
            over,
            is_leading=self._is_leading,
            announce=self._announce,
            handed_over=handed_over,
            ready=self.ready,
        )

    async def _lead_with(
        self,
        settings: Settings,
        over: asyncio.Event,
        *,
        is_leading: Callable[[], bool],
        announce: Announce,
        handed_over: str | None,
        ready: asyncio.Event,
    ) -> str | None:
        def make_term() -> Term:
            return Term(
                settings,
                self._endpoint,
                metrics=self.metrics,
                is_leading=is_leading,
                on_absence=self._definitions.suspect,
                ready=ready,
                install_signal_handlers=self._install_signal_handlers,
                clock=self._clock,
                pace=self._pace,
                open_api=self._open_api,
                announce=announce,
                handed_over=handed_over,
                writing=self._writing,
                tracer=self.tracer,
            )

        leadership = Leadership(
            make_term,
            ready=ready,
            is_defined=self._definitions.is_complete,
            until_defined=self._definitions.until_complete,
            others_lead=lambda: len(self._leaderships) > 1,
        )
        self._leaderships.append(leadership)
        try:
            await leadership.run(over)
        finally:
            self._leaderships.remove(leadership)
        return leadership.hands_over

    # --- Shards

    async def _share(self, api: Api, stop: asyncio.Event) -> None:
        """Lead our share of the shards."""
        settings = self._settings
        presence = Presence()
        port = await presence.start(settings.grpc_host, settings.grpc_port)
        host = settings.pod_ip or settings.grpc_host
        election = self.shard_election = ShardElection(
            api,
            namespace=settings.operator_namespace,
            name=settings.lease_name,
            shards=settings.shards,
            process=settings.pod_name or socket.gethostname(),
            lead=self._lead_shard,
            times=LeaseTimes(settings.lease_duration.total_seconds()),
            owner=settings.owner,
            address=None if host in NOWHERE else _address(host, port),
            clock=self._clock.boot_time,
        )
        watching = asyncio.create_task(self._say_when_ready(election))
        try:
            await election.run(stop)
        finally:
            presence.stop()
            await cancelled(watching)

    async def _lead_shard(self, shard: int, over: asyncio.Event, handed_over: str | None) -> str | None:
        election = self.shard_election
        assert election is not None, "it asks us"
        return await self._lead_with(
            self._settings.of_shard(shard),
            over,
            is_leading=lambda: election.is_leading(shard),
            announce=_tell_nobody,  # others see by our presence whether we are there
            handed_over=handed_over,
            ready=asyncio.Event(),
        )

    async def _say_when_ready(self, election: ShardElection) -> None:
        """Set `ready` while all shards that are to be ours are led."""
        while True:
            if election.settled and all(each.ready.is_set() for each in self._leaderships):
                self.ready.set()
            else:
                self.ready.clear()
            await asyncio.sleep(_READY_LOOKS_SECONDS)

    async def _announce(self, address: str | None) -> None:
        if self.elector is not None:
            await self.elector.announce(address)

    def _shards_led(self) -> float:
        return float(len(self.shard_election.led()) if self.shard_election is not None else self._is_leading())

    def _is_leading(self) -> bool:
        if self.shard_election is not None:
            return bool(self.shard_election.led())
        if self._settings.leader_election:
            return self.elector is not None and self.elector.is_leading()
        return self.term is not None


async def _while_going_on(endless: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Do some work alongside something that never ends; an error of either ends both."""
    beside, working = asyncio.create_task(endless), asyncio.create_task(work)
    try:
        await asyncio.wait((beside, working), return_when=asyncio.FIRST_COMPLETED)
        (beside if beside.done() else working).result()
    finally:
        await cancelled(beside, working)


async def _then_set(event: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    finally:
        event.set()


async def _tell_nobody(address: str | None) -> None:
    return


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
