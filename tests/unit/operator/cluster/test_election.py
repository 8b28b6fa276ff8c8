"""The election, in virtual time: one Lease in memory, requests that fail, hang, come late or lose their answer."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.election import Elector
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import LEASES, Resource
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.leases import LeaseTimes
from hatchet_operator.errors import AlreadyExists, Conflict, NotFound, Transient
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.apiserver import ApiServer
from tests.kube.virtual_time import VirtualTimeLoop

TIMES = LeaseTimes(10)
LOOK = 1.2 * TIMES.retry
"""A standby looks again after so many seconds at most: its pauses differ by a fifth, so that two do not keep step."""


class LeaseServer:
    """What the API server has: the Lease, if there is one."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0

    def put(self, lease: Json) -> Json:
        self.version += 1
        metadata = {**lease["metadata"], "uid": "1", "resourceVersion": str(self.version)}
        self.lease = {**copy.deepcopy(lease), "metadata": metadata}
        return copy.deepcopy(self.lease)

    @property
    def spec(self) -> Json:
        assert self.lease is not None
        spec: Json = self.lease["spec"]
        return spec

    @property
    def holder(self) -> str:
        return str(self.spec["holderIdentity"])


class LeaseApi(Api):
    """One operator's way to the server. ``fault`` is called before and after each request, and may fail or wait."""

    def __init__(self, server: LeaseServer) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.server = server
        self.fault: Callable[[str], Awaitable[None]] = self._none
        self.requests: list[str] = []

    async def _none(self, when: str) -> None:
        return

    async def _ask(self, verb: str, request: Callable[[], Json]) -> Json:
        self.requests.append(verb)
        await self.fault(f"before {verb}")
        answer = request()
        await self.fault(f"after {verb}")
        return answer

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        def read() -> Json:
            if self.server.lease is None:
                raise NotFound("no lease", status=404)
            return copy.deepcopy(self.server.lease)

        return await self._ask("get", read)

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        def create() -> Json:
            if self.server.lease is not None:
                raise AlreadyExists("there is one", status=409)
            return self.server.put(body)

        return await self._ask("create", create)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Json, *, subresource: str | None = None
    ) -> Json:
        sent = copy.deepcopy(body)

        def replace() -> Json:
            lease = self.server.lease
            if lease is None or lease["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"]:
                raise Conflict("it changed", status=409)
            return self.server.put(sent)

        return await self._ask("replace", replace)


def make_elector(
    server: LeaseServer, identity: str, *, behind: float = 0.0, sight: LeaderSight | None = None
) -> tuple[Elector, LeaseApi]:
    """Make an elector whose clock stands wherever it likes, as that of another machine does."""
    api = LeaseApi(server)
    loop = asyncio.get_running_loop()
    elector = Elector(
        api,
        namespace="ops",
        name="lease",
        identity=identity,
        times=TIMES,
        sight=sight,
        clock=lambda: loop.time() - behind,
    )
    return elector, api


def in_virtual_time(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test)


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in virtual time."""

    def run() -> None:
        in_virtual_time(test())

    run.__name__ = test.__name__
    return run


def now() -> float:
    return asyncio.get_running_loop().time()


async def hang(when: str) -> None:
    await asyncio.Event().wait()


async def fail(when: str) -> None:
    raise Transient("unreachable")


def on(which: str, fault: Callable[[str], Awaitable[None]], *, times: int = 1) -> Callable[[str], Awaitable[None]]:
    """Apply a fault to the first requests of a kind only."""
    left = times

    async def maybe(when: str) -> None:
        nonlocal left
        if when == which and left > 0:
            left -= 1
            await fault(when)

    return maybe


@contextmanager
def background(work: Any) -> Iterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()


# --- Taking it


@virtual
async def test_the_first_one_makes_the_lease() -> None:
    server = LeaseServer()
    elector, _ = make_elector(server, "a")
    assert not elector.is_leading()
    await elector.acquire()
    assert elector.is_leading()
    assert (server.holder, server.spec["leaseDurationSeconds"], server.spec["leaseTransitions"]) == ("a", 10, 0)


@virtual
async def test_of_two_creates_at_once_one_wins() -> None:
    server = LeaseServer()
    electors = [make_elector(server, name) for name in "ab"]
    both_found_none = asyncio.Barrier(2)

    async def meet(when: str) -> None:
        await both_found_none.wait()

    for _, api in electors:
        api.fault = on("before create", meet)
    tasks = [asyncio.ensure_future(elector.acquire()) for elector, _ in electors]
    await asyncio.sleep(5)
    assert [elector.is_leading() for elector, _ in electors].count(True) == 1
    for task in tasks:
        task.cancel()


@virtual
async def test_an_empty_lease_made_by_a_person_is_taken() -> None:
    server = LeaseServer()
    server.put({"metadata": {"name": "lease"}})
    elector, _ = make_elector(server, "a")
    await elector.acquire()
    assert server.holder == "a"


@virtual
async def test_a_renewed_lease_is_never_taken() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b")
    await leader.acquire()
    with background(leader.keep()) as keeping, background(standby.acquire()) as acquiring:
        await asyncio.sleep(3600)
        assert leader.is_leading()
        assert not keeping.done()
        assert not acquiring.done()


@virtual
async def test_a_standby_takes_over_when_the_holder_dies() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b")
    await leader.acquire()
    with background(leader.keep()) as keeping, background(standby.acquire()) as acquiring:
        await asyncio.sleep(30)
        keeping.cancel()  # it is dead
        died_at = now()
        await acquiring
        assert TIMES.duration - TIMES.retry <= now() - died_at <= TIMES.duration + 2 * LOOK
        assert server.spec["leaseTransitions"] == 1


@virtual
async def test_after_an_outage_the_leader_from_before_leads_again() -> None:
    server = LeaseServer()
    leader, leaders_api = make_elector(server, "a")
    standby, standbys_api = make_elector(server, "b")
    await leader.acquire()
    with background(leader.keep()) as keeping, background(standby.acquire()) as acquiring:
        await asyncio.sleep(5)
        leaders_api.fault = standbys_api.fault = fail
        await keeping
        await asyncio.sleep(30)
        leaders_api.fault = standbys_api.fault = on("nothing", fail)
        await asyncio.sleep(2 * TIMES.retry)  # the standby looks before it
        await leader.acquire()
        assert not acquiring.done()
        assert server.holder == "a"


@virtual
async def test_after_an_outage_a_standby_takes_over_from_a_leader_that_did_not_come_back() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, api = make_elector(server, "b")
    await leader.acquire()
    with background(standby.acquire()) as acquiring:
        await asyncio.sleep(5)
        api.fault = fail
        await asyncio.sleep(30)
        api.fault = on("nothing", fail)
        back_at = now()
        await acquiring
        assert now() - back_at <= TIMES.duration + 2 * LOOK


@virtual
async def test_a_look_that_fails_now_and_then_delays_no_standby() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, api = make_elector(server, "b")
    await leader.acquire()
    begun_at = now()
    api.fault = on("before get", fail, times=4)
    await standby.acquire()
    assert now() - begun_at <= TIMES.duration + 5 * LOOK


@virtual
async def test_a_standby_takes_over_at_once_after_a_release() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b")
    await leader.acquire()
    with background(standby.acquire()) as acquiring:
        await asyncio.sleep(3)
        await leader.release()
        assert not leader.is_leading()
        released_at = now()
        await acquiring
        assert now() - released_at <= TIMES.retry * 1.2
        assert server.holder == "b"


@virtual
async def test_what_a_leader_leaves_behind_is_for_the_next_one_and_no_other() -> None:
    server = LeaseServer()
    first, second, third = (make_elector(server, name)[0] for name in "abc")
    await first.acquire()
    assert first.handed_over is None
    await first.release("what was given")
    await second.acquire()
    assert second.handed_over == "what was given"
    with background(third.acquire()) as acquiring:  # the second one dies: it can't say what it gave
        await acquiring
    assert third.handed_over is None


class Sight(LeaderSight):
    """Sees what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.seen: list[tuple[str, str | None]] = []

    def look_at(self, leader: str, address: str | None) -> bool:
        self.seen.append((leader, address))
        return self.gone and address is not None

    def forget(self) -> None:
        self.gone = False


@virtual
async def test_a_leader_whose_process_is_gone_is_not_waited_for() -> None:
    server, sight = LeaseServer(), Sight()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b", sight=sight)
    await leader.acquire()
    with background(leader.keep()) as keeping, background(standby.acquire()) as acquiring:
        await leader.announce("10.0.0.1:7070")
        await asyncio.sleep(30)
        assert sight.seen[-1] == ("a", "10.0.0.1:7070")
        keeping.cancel()
        died_at, sight.gone = now(), True
        sight.changed.set()
        await acquiring
        assert now() - died_at <= 3 * TIMES.retry
        assert server.lease is not None
        assert not server.lease["metadata"]["annotations"]


@virtual
async def test_a_leader_that_renews_is_there_whatever_its_address_refuses() -> None:
    server, sight = LeaseServer(), Sight()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b", sight=sight)
    await leader.acquire()
    with background(leader.keep()), background(standby.acquire()) as acquiring:
        await leader.announce("10.0.0.1:7070")
        await asyncio.sleep(5)
        sight.gone = True
        await asyncio.sleep(3600)
        assert not acquiring.done()
        assert leader.is_leading()


@virtual
async def test_a_leader_that_is_about_to_stop_listening_is_not_taken_for_dead() -> None:
    server, sight = LeaseServer(), Sight()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b", sight=sight)
    await leader.acquire()
    with background(standby.acquire()) as acquiring:
        await leader.announce("10.0.0.1:7070")
        await asyncio.sleep(2)
        await leader.announce(None)
        sight.gone = True
        await asyncio.sleep(TIMES.duration - 2 * TIMES.retry)
        assert not acquiring.done()


@virtual
async def test_what_was_seen_in_an_outage_means_nothing() -> None:
    """The leader stops to listen when it can't renew, and is the first to lead again."""
    server, sight = LeaseServer(), Sight()
    leader, _ = make_elector(server, "a")
    standby, api = make_elector(server, "b", sight=sight)
    await leader.acquire()
    with background(standby.acquire()) as acquiring:
        await leader.announce("10.0.0.1:7070")
        await asyncio.sleep(2)
        sight.gone = True
        api.fault = on("before get", fail)
        await asyncio.sleep(4 * TIMES.retry)
        assert not acquiring.done()
        assert not sight.gone


@virtual
async def test_only_the_holder_releases() -> None:
    server = LeaseServer()
    deposed, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b")
    await deposed.acquire()
    await standby.acquire()
    await deposed.release()
    assert server.holder == "b"


@virtual
async def test_what_a_clock_of_another_machine_says_means_nothing() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a", behind=-1e6)
    standby, _ = make_elector(server, "b", behind=1e6)
    await leader.acquire()
    for year in ("1970", "2999"):
        server.put({**(server.lease or {}), "spec": {**server.spec, "renewTime": f"{year}-01-01T00:00:00.000000Z"}})
        begun_at = now()
        with background(standby.acquire()) as acquiring:
            await asyncio.sleep(TIMES.duration - 2 * TIMES.retry)
            assert not acquiring.done()
        assert now() - begun_at < TIMES.duration


@virtual
async def test_the_duration_that_the_holder_wrote_counts() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, _ = make_elector(server, "b")
    await leader.acquire()
    server.put({**(server.lease or {}), "spec": {**server.spec, "leaseDurationSeconds": 60}})
    begun_at = now()
    await standby.acquire()
    assert 60 <= now() - begun_at <= 60 + 2 * TIMES.retry


@virtual
async def test_a_request_that_hangs_delays_a_standby_by_seconds_only() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    standby, api = make_elector(server, "b")
    await leader.acquire()
    await leader.release()
    api.fault = on("before get", hang)
    await standby.acquire()
    assert TIMES.answer * 2 <= now() <= TIMES.answer * 2 + TIMES.retry * 1.2


# --- Losing it


@pytest.mark.parametrize("fault", [pytest.param(fail, id="requests fail"), pytest.param(hang, id="requests hang")])
def test_a_partitioned_leader_stops_before_another_begins(fault: Callable[[str], Awaitable[None]]) -> None:
    async def test() -> None:
        server = LeaseServer()
        leader, api = make_elector(server, "a")
        standby, _ = make_elector(server, "b")
        await leader.acquire()
        with background(leader.keep()) as keeping, background(standby.acquire()) as acquiring:
            await asyncio.sleep(20)
            api.fault = fault
            await keeping
            lost_at = now()
            assert not leader.is_leading()
            await acquiring
            assert now() - lost_at >= TIMES.duration - TIMES.renew_deadline - TIMES.retry

    in_virtual_time(test())


@virtual
async def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    """Others may have seen it long before its answer was here."""
    server = LeaseServer()
    leader, api = make_elector(server, "a")
    await leader.acquire()

    async def answer_late(when: str) -> None:
        await asyncio.sleep(TIMES.answer * 0.9)
        api.fault = hang

    api.fault = on("after replace", answer_late)
    await leader.keep()
    assert now() == pytest.approx(TIMES.retry + TIMES.renew_deadline)


@virtual
async def test_a_paused_leader_knows_when_it_wakes() -> None:
    """The clock goes on while a process is stopped; nothing else of it does."""
    server = LeaseServer()
    asleep = 0.0
    loop = asyncio.get_running_loop()
    leader = Elector(
        LeaseApi(server), namespace="ops", name="lease", identity="a", times=TIMES, clock=lambda: loop.time() + asleep
    )
    await leader.acquire()
    with background(leader.keep()) as keeping:
        await asyncio.sleep(TIMES.retry / 2)
        asleep = 60.0
        assert not leader.is_leading()
        await keeping
        assert now() <= TIMES.retry


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("fault", [pytest.param(fail, id="fail"), pytest.param(hang, id="hang")])
@pytest.mark.parametrize("which", ["before replace", "after replace"])
def test_a_leader_survives_a_few_bad_renewals(
    which: str, fault: Callable[[str], Awaitable[None]], failures: int
) -> None:
    """Before: the request is lost. After: it is done, and its answer lost."""

    async def test() -> None:
        server = LeaseServer()
        leader, api = make_elector(server, "a")
        await leader.acquire()
        with background(leader.keep()) as keeping:
            for _ in range(5):
                api.fault = on(which, fault, times=failures)
                await asyncio.sleep(30)
                assert leader.is_leading()
            assert not keeping.done()

    in_virtual_time(test())


@virtual
async def test_a_slow_server_is_no_reason_to_stop() -> None:
    server = LeaseServer()
    leader, api = make_elector(server, "a")

    async def slowly(when: str) -> None:
        await asyncio.sleep(TIMES.answer * 0.45)

    api.fault = slowly
    await leader.acquire()
    with background(leader.keep()) as keeping:
        await asyncio.sleep(600)
        assert leader.is_leading()
        assert not keeping.done()


@virtual
async def test_a_label_put_on_the_lease_is_no_reason_to_stop() -> None:
    server = LeaseServer()
    leader, _ = make_elector(server, "a")
    await leader.acquire()
    with background(leader.keep()) as keeping:
        await asyncio.sleep(1.5)
        assert server.lease is not None
        server.put({**server.lease, "metadata": {**server.lease["metadata"], "labels": {"seen": "yes"}}})
        await asyncio.sleep(30)
        assert leader.is_leading()
        assert not keeping.done()
        assert server.lease["metadata"]["labels"] == {"seen": "yes"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: setattr(s, "lease", None), id="deleted"),
        pytest.param(lambda s: s.put({**s.lease, "spec": {**s.spec, "holderIdentity": "b"}}), id="given to another"),
        pytest.param(lambda s: s.put({**s.lease, "spec": {**s.spec, "holderIdentity": ""}}), id="given to nobody"),
    ],
)
def test_a_leader_stops_when_the_lease_is_not_its_own(change: Callable[[LeaseServer], Any]) -> None:
    async def test() -> None:
        server = LeaseServer()
        leader, _ = make_elector(server, "a")
        await leader.acquire()
        with background(leader.keep()) as keeping:
            await asyncio.sleep(5)
            change(server)
            changed_at = now()
            await keeping
            assert now() - changed_at <= TIMES.retry
            assert not leader.is_leading()

    in_virtual_time(test())


@virtual
async def test_who_lost_can_lead_again() -> None:
    server = LeaseServer()
    elector, api = make_elector(server, "a")
    await elector.acquire()
    api.fault = fail
    await elector.keep()
    api.fault = on("", fail)
    await elector.acquire()
    assert elector.is_leading()


@virtual
async def test_a_release_whose_last_renewal_was_not_answered() -> None:
    server = LeaseServer()
    leader, api = make_elector(server, "a")
    await leader.acquire()
    with background(leader.keep()):
        api.fault = on("after replace", hang)
        await asyncio.sleep(TIMES.retry * 1.5)  # the renewal is done, and its answer under way for ever
    await leader.release()
    assert server.holder == ""


# --- All of it at once


@pytest.mark.parametrize("seed", range(25))
def test_there_are_never_two_leaders(seed: int) -> None:
    """Three electors, ten virtual minutes of requests that come late, fail or lose their answer, and of deaths."""
    chance = random.Random(seed)

    async def trouble(when: str) -> None:
        await asyncio.sleep(chance.choice((0.0, 0.01, 0.3, 1.5, 4.0, 12.0)) * chance.random() * weather)
        if chance.random() < 0.15 * weather:
            raise Transient("no answer")

    terms = 0
    leading: set[str] = set()

    async def one(elector: Elector) -> None:
        nonlocal terms
        while True:
            await elector.acquire()
            if not elector.is_leading():
                continue  # the answer came so late that it is over
            terms += 1
            leading.add(elector.identity)
            assert len(leading) == 1, leading
            keeping = asyncio.ensure_future(elector.keep())
            await asyncio.wait([keeping], timeout=chance.choice((1.0, 30.0, 1000.0)))
            leading.remove(elector.identity)  # either lost, or …
            if not keeping.done():
                keeping.cancel()  # … it ends, in order or not
                if chance.random() < 0.5:
                    await elector.release()
                await asyncio.sleep(chance.random() * 5)

    weather = 1.0

    async def test() -> None:
        nonlocal weather
        server = LeaseServer()
        tasks = []
        for name in "abc":
            elector, api = make_elector(server, name, behind=chance.random() * 1e5)
            api.fault = trouble
            tasks.append(asyncio.ensure_future(one(elector)))
        for _ in range(20):
            weather = chance.choice((0.0, 0.3, 1.0))
            await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_virtual_time(test())
    assert terms > 3


# --- Against an API server, in real time


class PatientClock:
    """Goes on in small steps of the loop: what this process sleeps because the machine is busy is not counted."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.now += 0.02


async def test_two_electors_and_a_server() -> None:
    server = ApiServer()
    url = await server.start()
    times, clock = LeaseTimes(2), PatientClock()
    async with (
        Api(Endpoint(server=url), may_write=always) as first_api,
        Api(Endpoint(server=url), may_write=always) as second_api,
    ):
        first = Elector(first_api, namespace="default", name="lease", identity="a", times=times, clock=clock)
        second = Elector(second_api, namespace="default", name="lease", identity="b", times=times, clock=clock)
        acquiring = {elector: asyncio.ensure_future(elector.acquire()) for elector in (first, second)}
        await asyncio.wait(acquiring.values(), return_when=asyncio.FIRST_COMPLETED)
        leader, standby = (first, second) if acquiring[first].done() else (second, first)
        with background(clock.run()), background(leader.keep()):
            while clock.now < times.duration * 1.5:  # noqa: ASYNC110  # the time is what is waited for
                await asyncio.sleep(0.02)
            assert leader.is_leading()
            assert not standby.is_leading()
            await leader.release()
            released_at = clock.now
            await asyncio.wait_for(acquiring[standby], 60)
            assert standby.is_leading()
            assert clock.now - released_at < times.duration / 2, "it did not wait for the Lease to expire"
        lease = await first_api.get(LEASES, "default", "lease")
        assert lease["spec"]["holderIdentity"] == standby.identity
        assert lease["spec"]["leaseTransitions"] == 1
    await server.stop()
