"""Who leads which shard, in virtual time: Leases in memory; operators that come, go, die, freeze and lose their way."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.election import Elector
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.cluster.leases import LeaseTimes
from hatchet_operator.errors import AlreadyExists, Conflict, NotFound, Transient
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.shard_election import ShardElection
from tests.kube.virtual_time import VirtualTimeLoop

TIMES = LeaseTimes(10)
NAME = "lease"


class Leases:
    """What the API server has."""

    def __init__(self) -> None:
        self.by_name: dict[str, Json] = {}
        self.version = 0

    def put(self, lease: Json, uid: str) -> Json:
        self.version += 1
        kept = copy.deepcopy(lease)
        kept["metadata"] |= {"uid": uid, "resourceVersion": str(self.version)}
        self.by_name[kept["metadata"]["name"]] = kept
        return copy.deepcopy(kept)

    def holder(self, name: str) -> str:
        return str(self.by_name[name]["spec"].get("holderIdentity"))


class LeasesApi(Api):
    """One operator's way to them. ``way`` is taken before and after each request, and may fail, or take its time."""

    def __init__(self, leases: Leases) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.leases = leases
        self.way: Callable[[], Awaitable[None]] = free
        self.requests: Counter[str] = Counter()

    async def _ask(self, verb: str, request: Callable[[], Any]) -> Any:
        self.requests[verb] += 1
        await self.way()
        answer = request()
        await self.way()
        return answer

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        def read() -> Json:
            if name not in self.leases.by_name:
                raise NotFound("no lease", status=404)
            return copy.deepcopy(self.leases.by_name[name])

        answer: Json = await self._ask("get", read)
        return answer

    async def list_all(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[list[Json], str]:
        key, _, value = (label_selector or "").partition("=")

        def read() -> list[Json]:
            there = self.leases.by_name.values()
            return [copy.deepcopy(each) for each in there if each["metadata"].get("labels", {}).get(key) == value]

        return await self._ask("list", read), str(self.leases.version)

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        def create() -> Json:
            if body["metadata"]["name"] in self.leases.by_name:
                raise AlreadyExists("there is one", status=409)
            return self.leases.put(body, uid=f"uid-{self.leases.version}")

        answer: Json = await self._ask("create", create)
        return answer

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Json, *, subresource: str | None = None
    ) -> Json:
        sent = copy.deepcopy(body)

        def replace() -> Json:
            there = self.leases.by_name.get(name)
            if there is None:
                raise NotFound("no lease", status=404)
            if there["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"]:
                raise Conflict("it changed", status=409)
            return self.leases.put(sent, uid=there["metadata"]["uid"])

        answer: Json = await self._ask("replace", replace)
        return answer

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
    ) -> None:
        def delete() -> None:
            there = self.leases.by_name.get(name)
            if there is None:
                raise NotFound("no lease", status=404)
            if resource_version not in (None, there["metadata"]["resourceVersion"]):
                raise Conflict("it changed", status=409)
            del self.leases.by_name[name]

        await self._ask("delete", delete)


async def free() -> None:
    await asyncio.sleep(0.001)


async def cut() -> None:
    await asyncio.sleep(0.001)
    raise Transient("no way")


class Replica:
    """One operator, whose clock stands wherever it likes."""

    def __init__(self, leases: Leases, name: str, *, shards: int, behind: float = 0.0) -> None:
        self.name = name
        self.api = LeasesApi(leases)
        loop = asyncio.get_running_loop()
        self.shards = shards
        self.found: list[tuple[int, str | None]] = []
        self.leading: set[int] = set()
        self.election = ShardElection(
            self.api,
            namespace="ops",
            name=NAME,
            shards=shards,
            process=name,
            lead=lambda *given: self.lead(*given),
            times=TIMES,
            # in steps that floats have exactly: a timer for less than a rounding error would be set again and again
            clock=lambda: floor((loop.time() - behind) * 2**20) / 2**20,
        )
        self.stop = asyncio.Event()
        self.running = asyncio.create_task(self.election.run(self.stop))

    async def lead(self, shard: int, over: asyncio.Event, handed_over: str | None) -> str | None:
        assert shard not in self.leading, "its last term has not ended"
        self.leading.add(shard)
        self.found.append((shard, handed_over))
        await over.wait()
        await asyncio.sleep(0.3)
        self.leading.discard(shard)
        return f"from {self.name}"

    @property
    def led(self) -> list[int]:
        return self.election.led()

    async def end(self) -> None:
        self.stop.set()
        await self.running

    def cut_off(self) -> None:
        self.api.way = cut

    def connect(self) -> None:
        self.api.way = free


class World:
    """Replicas, of which it is checked all the time that no two lead the same."""

    def __init__(self) -> None:
        self.leases = Leases()
        self.replicas: list[Replica] = []
        self.one: Elector | None = None
        self._checking = asyncio.create_task(self._check())

    def start(self, name: str, *, shards: int = 6, behind: float = 0.0) -> Replica:
        replica = Replica(self.leases, name, shards=shards, behind=behind)
        self.replicas.append(replica)
        return replica

    async def _check(self) -> None:
        while True:
            leading = [(each.shards, shard) for each in self.replicas for shard in each.led]
            twice = [shard for shard, count in Counter(leading).items() if count > 1]
            assert not twice, f"led by two: {twice}"
            counts = {shards for shards, _ in leading}
            if self.one is not None and self.one.is_leading():
                counts.add(1)
            assert len(counts) <= 1, f"numbers of shards in force at once: {counts}"
            await asyncio.sleep(0.05)

    async def pass_by(self, seconds: float) -> None:
        await asyncio.wait([self._checking], timeout=seconds)
        if self._checking.done():
            self._checking.result()
        for replica in self.replicas:
            if replica.running.done():
                replica.running.result()

    async def end(self) -> None:
        for replica in self.replicas:
            replica.connect()
        await asyncio.gather(*(replica.end() for replica in self.replicas))
        self._checking.cancel()


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in virtual time."""

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


@virtual
async def test_one_that_is_alone_leads_all_at_once() -> None:
    world = World()
    a = world.start("a")
    await world.pass_by(0.5)
    assert a.led == [0, 1, 2, 3, 4, 5]
    assert world.leases.holder(NAME) == "6 shards"
    await world.end()


@virtual
async def test_one_that_joins_gets_its_share_handed_over_within_three_seconds() -> None:
    world = World()
    a = world.start("a")
    await world.pass_by(5)
    b = world.start("b", behind=1_000)
    await world.pass_by(3)
    assert (a.led, b.led) == ([0, 1, 2], [3, 4, 5])
    assert sorted(b.found) == [(3, "from a"), (4, "from a"), (5, "from a")]
    c = world.start("c", behind=-1_000)
    await world.pass_by(3)
    assert sorted(map(len, (a.led, b.led, c.led))) == [2, 2, 2]
    await world.end()


@virtual
async def test_what_one_leads_that_ends_is_led_by_the_others_within_two_seconds() -> None:
    world = World()
    a, b = world.start("a"), world.start("b")
    await world.pass_by(5)
    await a.end()
    await world.pass_by(2)
    assert b.led == [0, 1, 2, 3, 4, 5]
    assert Counter(text for _, text in b.found)["from a"] == 3
    await world.end()


@virtual
async def test_one_that_is_cut_off_stops_before_others_take_over_and_comes_back_as_another() -> None:
    world = World()
    a, b = world.start("a"), world.start("b")
    await world.pass_by(5)
    before = a.election.identity
    a.cut_off()
    await world.pass_by(7)
    assert (a.led, len(b.led)) == ([], 3)
    await world.pass_by(6)
    assert len(b.led) == 6
    assert not [text for _, text in b.found[3:] if text], "what it had is not known"
    a.connect()
    await world.pass_by(5)
    assert (len(a.led), len(b.led)) == (3, 3)
    assert a.election.identity != before
    await world.end()


@virtual
async def test_without_the_api_server_nobody_leads_and_afterwards_all_is_led_again() -> None:
    world = World()
    replicas = [world.start(name) for name in "abc"]
    await world.pass_by(8)
    for replica in replicas:
        replica.cut_off()
    await world.pass_by(30)
    assert [replica.led for replica in replicas] == [[], [], []]
    for replica in replicas:
        replica.connect()
    await world.pass_by(16)
    assert sorted(len(replica.led) for replica in replicas) == [2, 2, 2]
    await world.end()


@virtual
async def test_an_operator_renews_its_own_lease_and_no_other_however_many_shards_there_are() -> None:
    world = World()
    replicas = [world.start(name, shards=64) for name in "abc"]
    await world.pass_by(20)
    for replica in replicas:
        replica.api.requests.clear()
    await world.pass_by(60)
    requests = sum((replica.api.requests for replica in replicas), Counter[str]())
    assert set(requests) == {"list", "replace"}
    assert requests["list"] <= 3 * 60 * 1.3
    assert requests["replace"] <= (3 + 1) * 60 * 1.3, "three members, and what they hold together"
    await world.end()


@virtual
async def test_a_lease_that_a_person_deletes_ends_the_term_and_the_shard_is_led_again() -> None:
    world = World()
    a = world.start("a")
    await world.pass_by(3)
    del world.leases.by_name[f"{NAME}-shard-2"]
    await world.pass_by(4)
    assert a.led == [0, 1, 2, 3, 4, 5]
    assert a.found[6:] == [(2, None)]
    await world.end()


@virtual
async def test_a_release_without_an_answer_is_repeated() -> None:
    world = World()
    a = world.start("a")
    await world.pass_by(3)
    replace, failures = a.api.replace, 2

    async def lossy(resource: Resource, namespace: str | None, name: str, body: Json, **rest: Any) -> Json:
        nonlocal failures
        if "-shard-" in name and not body["spec"].get("holderIdentity") and failures:
            failures -= 1
            raise Transient("lost on the way")
        return await replace(resource, namespace, name, body, **rest)

    a.api.replace = lossy  # type: ignore[method-assign]
    b = world.start("b")
    await world.pass_by(6)
    assert (len(a.led), len(b.led), failures) == (3, 3, 0)
    await world.end()


@virtual
async def test_an_error_of_what_leads_ends_the_operator_with_all_that_it_leads() -> None:
    world = World()
    a = world.start("a")

    async def broken(shard: int, over: asyncio.Event, handed_over: str | None) -> str | None:
        await asyncio.sleep(2)
        if shard == 3:
            raise RuntimeError("broken")
        await over.wait()
        return None

    a.lead = broken  # type: ignore[method-assign]  # before it leads any
    with pytest.raises(RuntimeError, match="broken"):
        await a.running
    assert not [name for name in world.leases.by_name if "member" in name]
    assert world.leases.holder(NAME) == ""


# --- Another number of shards


def one_of_one(world: World) -> Elector:
    """Make an operator without shards."""
    loop = asyncio.get_running_loop()
    elector = world.one = Elector(
        LeasesApi(world.leases), namespace="ops", name=NAME, identity="one", times=TIMES, clock=loop.time
    )
    return elector


@virtual
async def test_operators_with_shards_wait_until_the_one_without_is_gone() -> None:
    world = World()
    one = one_of_one(world)
    await one.acquire()
    await one.announce("10.0.0.1:7070")
    keeping = asyncio.create_task(one.keep())
    a = world.start("a")
    await world.pass_by(30)
    assert (a.led, one.is_leading()) == ([], True)
    keeping.cancel()
    await one.release("what it gave out")
    await world.pass_by(3)
    assert len(a.led) == 6
    assert labels.LEADS_AT not in world.leases.by_name[NAME]["metadata"]["annotations"]
    await world.end()


@virtual
async def test_an_operator_without_shards_waits_until_those_with_shards_are_gone() -> None:
    world = World()
    a, b = world.start("a"), world.start("b")
    await world.pass_by(5)
    one = one_of_one(world)
    acquiring = asyncio.create_task(one.acquire())
    await world.pass_by(30)
    await a.end()
    await world.pass_by(30)
    assert not acquiring.done()
    assert len(b.led) == 6
    await b.end()
    await asyncio.wait_for(acquiring, 2)
    await world.end()


@virtual
async def test_what_was_handed_over_under_another_number_of_shards_is_not_believed() -> None:
    """Meanwhile somebody else gave out work in these namespaces."""
    world = World()
    a = world.start("a", shards=6)
    await world.pass_by(3)
    await a.end()
    b = world.start("b", shards=4)
    await world.pass_by(3)
    assert world.leases.holder(NAME) == "4 shards"
    assert {text for _, text in b.found} == {None}
    await b.end()
    c = world.start("c", shards=6)
    await world.pass_by(3)
    assert sorted(c.found) == [(shard, None) for shard in range(6)]
    await c.end()
    d = world.start("d", shards=6)
    await world.pass_by(3)
    assert sorted(d.found) == [(shard, "from c") for shard in range(6)], "nobody else was there"
    await world.end()


@virtual
async def test_the_last_of_one_number_makes_room_for_another() -> None:
    world = World()
    a, b = world.start("a", shards=6), world.start("b", shards=6)
    await world.pass_by(5)
    c = world.start("c", shards=4)
    await world.pass_by(5)
    assert c.led == []
    await a.end()
    await world.pass_by(3)
    assert (len(b.led), c.led) == (6, [])
    await b.end()
    await world.pass_by(3)
    assert c.led == [0, 1, 2, 3]
    await world.end()


# --- Whatever happens


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_no_two_ever_lead_the_same_and_in_the_end_all_is_led_evenly(seed: int) -> None:
    chance = random.Random(seed)  # no secret

    async def play() -> None:
        world = World()

        async def slow() -> None:
            await asyncio.sleep(chance.expovariate(2))
            if chance.random() < 0.1:
                raise Transient("lost on the way")

        for number in range(25):
            alive = [each for each in world.replicas if not each.stop.is_set()]
            match chance.choice(("start", "end", "cut", "slow", "connect", "wait")):
                case "start" if len(alive) < 4:
                    shards = chance.choice((5, 5, 5, 3))
                    world.start(f"r{number}", shards=shards, behind=chance.uniform(-100, 100))
                case "end" if alive:
                    chance.choice(alive).stop.set()
                case "cut" if alive:
                    chance.choice(alive).cut_off()
                case "slow" if alive:
                    chance.choice(alive).api.way = slow
                case "connect" if alive:
                    chance.choice(alive).connect()
            await world.pass_by(chance.uniform(0, 8))
        for replica in world.replicas:
            replica.connect()
        for replica in world.replicas:
            if replica.shards != 5:
                replica.stop.set()
        last = [each for each in world.replicas if not each.stop.is_set()] or [world.start("last", shards=5)]
        await world.pass_by(40)
        shares = [len(replica.led) for replica in last]
        assert sum(shares) == 5
        assert max(shares) - min(shares) <= 1
        await world.end()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())
