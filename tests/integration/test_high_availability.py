"""Two operators, of which one leads: whatever happens to it, the other goes on, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from hatchet_operator.cluster.kinds import ENDPOINT_SLICES, LEASES, PODS, POOLS, RUNS, WORKFLOWS
from hatchet_operator.errors import ApiError, NotFound
from tests.integration.harness import (
    NAMESPACE,
    OPERATOR_WRITES,
    PATIENT,
    TOKEN_KEY,
    Cluster,
    Process,
    assert_done_once,
    free_port,
)
from tests.kube.eventually import eventually

CHILDREN = 30
LEASE_SECONDS = 8.0  # a leader stands down after 5 without an answer, which a busy machine should not reach
SERVICE = "hatchet-operator"


@dataclass
class Contender:
    """One operator process."""

    name: str
    process: Process
    probes_port: int
    lost: list[str] = field(default_factory=list)

    async def ask(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            http.get(f"http://127.0.0.1:{self.probes_port}{path}") as response,
        ):
            return response.status, await response.text()

    async def is_in_state(self, state: str) -> bool:
        with suppress(aiohttp.ClientError, TimeoutError):
            return await self.ask("/readyz") == (200, state)
        return False

    async def until(self, state: str, *, within_seconds: float = 45) -> None:
        await eventually(lambda: self.is_in_state(state), within_seconds=within_seconds)

    async def metric(self, name: str) -> float:
        _, text = await self.ask("/metrics")
        line = next(line for line in text.splitlines() if line.startswith(f"hatchet_operator_{name} "))
        return float(line.split()[1])

    async def until_connected(self, workers: int) -> None:
        """Wait until so many workers have come here: one with a silent leader finds that out within 20 s."""

        async def holds() -> bool:
            return await self.metric("workers_connected") == workers

        await eventually(holds)


class HighlyAvailable(Cluster):
    """Operators on ports of their own, and one address that leads to the leader, as the Service does in a cluster.

    As there, only new connections go to a new leader: one to a leader that is frozen stays and is silent.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, leader_election=True, lease_duration=LEASE_SECONDS, grpc_service=SERVICE, **PATIENT)
        self.contenders: list[Contender] = []
        self._target: tuple[str, int] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HighlyAvailable:
        await super().__aenter__()
        self._service = await asyncio.start_server(self._connect, "127.0.0.1", self.grpc_port)
        return self

    async def __aexit__(self, *error: object) -> None:
        for contender in self.contenders:
            if contender.process.is_alive:
                contender.process.signal(signal.SIGCONT)
        await super().__aexit__(*error)
        self._service.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def start_contender(self) -> Contender:
        name = f"operator-{len(self.contenders)}"
        contender_port = free_port()
        given = {
            **self.settings,
            "token_key": TOKEN_KEY,
            "grpc_advertise": self.grpc_address,
            "metrics_port": contender_port,
            "pod_name": name,
        }
        arguments = ["-m", "tests.integration.operator_process", self.url, json.dumps(given)]
        process = self.python(name, [*arguments, str(self.directory / f"{name}-ready")])
        contender = Contender(name, process, contender_port)
        self.contenders.append(contender)
        return contender

    async def start_both(self) -> tuple[Contender, Contender]:
        """Return the leader and the standby."""
        leader = await self.start_contender()
        await leader.until("ok")
        standby = await self.start_contender()
        await standby.until("standby")
        return leader, standby

    async def until_led_by(self, contender: Contender) -> None:
        """Wait until the Service leads to a ready leader."""

        async def holds() -> bool:
            slices, _ = await self.api.list_all(ENDPOINT_SLICES, NAMESPACE)
            named = [endpoint["targetRef"]["name"] for each in slices for endpoint in each["endpoints"]]
            return named == [contender.name] and await contender.is_in_state("ok")

        await eventually(holds)

    async def holder(self) -> str:
        lease = await self.api.get(LEASES, NAMESPACE, "hatchet-operator")
        return str(lease["spec"]["holderIdentity"]).partition("_")[0]

    async def versions(self) -> dict[str, str]:
        """Return the resourceVersion of everything that operators write."""
        found = {}
        for kind in (RUNS, PODS, POOLS, WORKFLOWS, ENDPOINT_SLICES):
            for item in (await self.api.list_all(kind, NAMESPACE))[0]:
                found[f"{kind.plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        return found

    # --- The Service

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._connect_to_leader(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # as a proxy does: both sides are closed
        finally:
            writer.close()
            self._connections.discard(task)

    async def _connect_to_leader(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await self._find_leader()
        if target is None:
            return
        await copy_both_ways(reader, writer, target)

    async def _find_leader(self) -> tuple[str, int] | None:
        try:
            async with asyncio.timeout(1):
                found = await self.api.get(ENDPOINT_SLICES, NAMESPACE, f"{SERVICE}-leader")
        except NotFound:
            return None
        except (ApiError, TimeoutError):
            return self._target  # what kube-proxy knows stays in force
        endpoints = found["endpoints"]
        self._target = (endpoints[0]["addresses"][0], found["ports"][0]["port"]) if endpoints else None
        return self._target


async def copy_both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
    """Pass on what comes on a connection to an address, and what comes back, until one side ends."""
    to_reader, to_writer = await asyncio.open_connection(*target)
    copying = [
        asyncio.ensure_future(_copy(reader, to_writer)),
        asyncio.ensure_future(_copy(to_reader, writer)),
    ]
    try:
        await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
    finally:
        to_writer.close()
        for task in copying:
            task.cancel()
        await asyncio.gather(*copying, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[HighlyAvailable]:
    async with HighlyAvailable(tmp_path) as started:
        yield started


async def until_some_children_are_done(cluster: HighlyAvailable, parent: str) -> None:
    """Return in the middle of a fan-out."""

    async def holds() -> bool:
        return len(cluster.executions("process", parent)) >= CHILDREN // 3

    await eventually(holds)


async def test_the_leader_crashes_in_the_middle_of_a_fan_out(cluster: HighlyAvailable) -> None:
    cluster.settings["lease_duration"] = 60.0  # longer than the rest takes on a busy machine
    leader, standby = await cluster.start_both()
    assert [await each.metric("is_leader") for each in (leader, standby)] == [1, 0]
    await cluster.start_pool(replicas=2)
    await cluster.create_run("run", children=CHILDREN)
    await until_some_children_are_done(cluster, "run")
    crashed_at = time.monotonic()
    leader.process.kill()
    await cluster.until_led_by(standby)
    took = time.monotonic() - crashed_at
    print(f"the standby was ready, and the Service led to it, after {took:.1f} s")
    assert took < 40, "it had to wait for the Lease to end"
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_the_leader_is_asked_to_end(cluster: HighlyAvailable) -> None:
    cluster.settings["lease_duration"] = 30.0  # longer than the rest takes on a busy machine
    leader, standby = await cluster.start_both()
    await cluster.start_pool(replicas=2)
    await cluster.create_run("run", children=CHILDREN)
    await until_some_children_are_done(cluster, "run")
    asked_at = time.monotonic()
    leader.process.signal(signal.SIGTERM)
    await cluster.until_led_by(standby)
    took = time.monotonic() - asked_at
    print(f"the standby was ready, and the Service led to it, after {took:.1f} s")
    assert await leader.process.ended() == 0
    assert took < 20, "it had to wait for the Lease to end"
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_a_leader_that_ends_gives_out_nothing_that_the_next_one_does_not_know_of(
    cluster: HighlyAvailable,
) -> None:
    """Until it has said that it ends it answers calls, and workers whose streams it closed listen again at once."""
    cluster.settings.update(lease_duration=60.0, running_after=60.0)  # which worker has what is written nowhere else
    leader, standby = await cluster.start_both()
    await cluster.start_node()
    await cluster.create_pool(replicas=2, slots=2)
    await cluster.until_pool_is_ready(2)
    await cluster.until_registered()
    for run in ("one", "two"):
        await cluster.create_run(run, children=4, before_spawning=f"spawn-{run}", in_child=run)
    await cluster.until_executing("spawn", 2)  # while there are slots for parents
    for run in ("one", "two"):
        cluster.open_gate(f"spawn-{run}")
        await cluster.until_children(run, 4)
    has = await cluster.until_executing("process", 4)
    saying_so = {"match": {"userAgent": "hatchet-operator/leader-election", "resource": "leases", "verb": "update"}}
    await cluster.inject({**saying_so, "action": "delay", "seconds": 2.0, "times": 2})
    leader.process.signal(signal.SIGTERM)
    assert await cluster.fault_fired(within_seconds=60)
    await asyncio.sleep(0.5)  # workers would be listening again,
    cluster.open_gate("one")
    await asyncio.sleep(0.5)  # and have been given what waits
    os.kill(has[0].pid, signal.SIGSTOP)  # so that the other one is with the next leader before it
    try:
        await cluster.until_led_by(standby)
        await standby.until_connected(1)
        cluster.open_gate("two")
        await cluster.until_executing("process", 4, "two")
        await cluster.until_succeeded("two", 4)
    finally:
        os.kill(has[0].pid, signal.SIGCONT)
    for run in ("one", "two"):
        await assert_done_once(cluster, run, children=4)


async def test_the_last_leader_leads_the_service_nowhere_when_it_ends(cluster: HighlyAvailable) -> None:
    leader = await cluster.start_contender()
    await cluster.until_led_by(leader)
    assert await leader.process.end() == 0
    assert await cluster.holder() == ""
    assert (await cluster.api.get(ENDPOINT_SLICES, NAMESPACE, f"{SERVICE}-leader"))["endpoints"] == []


async def test_a_leader_that_was_frozen_changes_nothing_when_it_wakes(cluster: HighlyAvailable) -> None:
    leader, standby = await cluster.start_both()
    await cluster.start_pool(replicas=2)
    late = {"match": OPERATOR_WRITES | {"resource": "workflowruns"}, "skip": CHILDREN // 3, "times": 3}
    await cluster.inject({**late, "action": "delay", "seconds": LEASE_SECONDS + 5})  # done when another leads
    await cluster.create_run("run", children=CHILDREN, in_child="child")
    assert await cluster.fault_fired(within_seconds=60)
    leader.process.signal(signal.SIGSTOP)
    await cluster.until_led_by(standby)
    await standby.until_connected(2)  # until then, what a worker has to tell it changes runs
    await cluster.until_executing("process", CHILDREN)

    async def is_quiet() -> bool:
        before = await cluster.versions()
        await asyncio.sleep(2)
        return await cluster.versions() == before

    await eventually(is_quiet)
    before = await cluster.versions()
    leader.process.signal(signal.SIGCONT)
    await leader.until("standby")
    assert await leader.metric("is_leader") == 0
    assert await cluster.versions() == before
    assert await cluster.holder() == standby.name

    cluster.open_gate("child")
    await assert_done_once(cluster, "run", children=CHILDREN)
    standby.process.kill()
    await cluster.until_led_by(leader)


async def test_a_leader_without_api_server_stands_down_and_comes_back(cluster: HighlyAvailable) -> None:
    lease_seconds = cluster.settings["lease_duration"] = 10.0  # it stands down after 6
    leader, standby = await cluster.start_both()
    await cluster.start_pool(replicas=2)
    await cluster.create_run("run", children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    cluster.server.signal(signal.SIGSTOP)
    cluster.open_gate("child")
    for contender in (leader, standby):
        await contender.until("standby", within_seconds=lease_seconds)
        assert (await contender.ask("/livez"))[0] == 200
    await asyncio.sleep(lease_seconds)  # so that the Lease is over for everybody
    cluster.server.signal(signal.SIGCONT)
    await assert_done_once(cluster, "run", children=CHILDREN, within_seconds=60)
    assert sorted([await each.metric("is_leader") for each in (leader, standby)]) == [0, 1]


async def test_both_crash_and_one_is_started_again(cluster: HighlyAvailable) -> None:
    leader, standby = await cluster.start_both()
    await cluster.start_pool(replicas=2)
    await cluster.create_run("run", children=CHILDREN)
    await until_some_children_are_done(cluster, "run")
    for contender in (leader, standby):
        contender.process.kill()
    third = await cluster.start_contender()
    await cluster.until_led_by(third)
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_of_two_that_start_at_once_one_leads(cluster: HighlyAvailable) -> None:
    contenders = [await cluster.start_contender() for _ in range(2)]
    states = ("ok", "standby")

    async def decided() -> bool:
        return sorted([await each.is_in_state("ok") for each in contenders]) == [False, True] and sorted(
            [await each.is_in_state("standby") for each in contenders]
        ) == [False, True]

    await eventually(decided)
    assert {(await each.ask("/readyz"))[1] for each in contenders} == set(states)
