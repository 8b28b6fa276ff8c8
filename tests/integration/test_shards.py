"""Several operators, each of which leads its share of the shards: whatever happens to one, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.kinds import ENDPOINT_SLICES, LEASES, NAMESPACES, RUNS, WORKFLOWS
from hatchet_operator.decisions.shards import shard_of
from hatchet_operator.errors import NotFound
from tests.integration.harness import (
    NAMESPACE,
    PATIENT,
    POOL,
    TOKEN_KEY,
    Cluster,
    free_port,
    make_run,
    output_of,
    phase_of,
)
from tests.integration.test_high_availability import SERVICE, Contender, copy_both_ways
from tests.kube.eventually import eventually

SHARDS = 6
CHILDREN = 12


def namespaces() -> list[str]:
    """Name twelve namespaces, two in each shard."""
    found: dict[int, list[str]] = {shard: [] for shard in range(SHARDS)}
    number = 0
    while any(len(names) < 2 for names in found.values()):
        name = f"team-{number}"
        if len(names := found[shard_of(name, SHARDS)]) < 2:
            names.append(name)
        number += 1
    return sorted(name for names in found.values() for name in names)


class Sharded(Cluster):
    """Operators on ports of their own, and an address for each shard, as its Service is in a cluster."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, leader_election=True, lease_duration=30.0, shards=SHARDS, grpc_service=SERVICE, **PATIENT
        )
        self.contenders: list[Contender] = []
        self.ports = [free_port() for _ in range(SHARDS)]
        self._services: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Sharded:
        await super().__aenter__()
        for shard, port in enumerate(self.ports):
            self._services.append(await asyncio.start_server(self._connect_to(shard), "127.0.0.1", port))
        for name in namespaces():
            await self.api.create(
                NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        for service in self._services:
            service.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def start_contender(self, **settings: object) -> Contender:
        name = f"operator-{len(self.contenders)}"
        port = free_port()
        given = {**self.settings, "token_key": TOKEN_KEY, "metrics_port": port, "pod_name": name, **settings}
        arguments = ["-m", "tests.integration.operator_process", self.url, json.dumps(given)]
        process = self.python(name, [*arguments, str(self.directory / f"{name}-ready")])
        contender = Contender(name, process, port)
        self.contenders.append(contender)
        return contender

    async def holders(self) -> list[str]:
        """Return which operator's name each shard's Lease has."""
        leases = {lease["metadata"]["name"]: lease for lease in (await self.api.list_all(LEASES, NAMESPACE))[0]}
        found = [leases.get(f"hatchet-operator-shard-{shard}", {}) for shard in range(SHARDS)]
        return [str(lease.get("spec", {}).get("holderIdentity")).partition("_")[0] for lease in found]

    async def until_shared_by(self, *contenders: Contender) -> None:
        """Wait until these lead all shards in even shares, and let workers in."""
        share = SHARDS // len(contenders)

        async def holds() -> bool:
            if Counter(await self.holders()) != {each.name: share for each in contenders}:
                return False
            states = [(await each.ask("/readyz"))[1] for each in contenders]
            slices = (await self.api.list_all(ENDPOINT_SLICES, NAMESPACE))[0]
            led = [each["endpoints"][0]["targetRef"]["name"] for each in slices if each["endpoints"]]
            return all(state.startswith(f"leads {share} of") for state in states) and Counter(led) == Counter(
                {each.name: share for each in contenders}
            )

        await eventually(holds)

    # --- Work

    async def start_workers(self) -> None:
        """Start a worker in each namespace, and wait until its workflows are known."""
        for name in namespaces():
            self.python(
                f"worker-{name}",
                ["-u", "tests/integration/worker.py", "40"],
                HATCHET_CLIENT_TOKEN=mint_token(Caller(namespace=name, pool=POOL), key=TOKEN_KEY, grpc_address="a:1"),
                HATCHET_CLIENT_HOST_PORT=f"127.0.0.1:{self.ports[shard_of(name, SHARDS)]}",
                HATCHET_CLIENT_TLS_STRATEGY="none",
            )

        async def all_registered() -> bool:
            workflows = (await self.api.list_all(WORKFLOWS))[0]
            known = Counter(
                each["metadata"]["namespace"] for each in workflows if each.get("status", {}).get("definition")
            )
            leases = (await self.api.list_all(LEASES))[0]
            workers = {lease["metadata"]["namespace"] for lease in leases}
            return all(known[name] == 6 for name in namespaces()) and workers >= set(namespaces())

        await eventually(all_registered, within_seconds=180)

    async def start_fan_outs(self, what: str) -> None:
        for name in namespaces():
            run = make_run(f"{what}-{name}", "parent", {"children": CHILDREN})
            await self.api.create(RUNS, name, {**run, "metadata": {"name": f"{what}-{name}", "namespace": name}})

    async def until_in_the_middle(self, what: str) -> None:
        async def holds() -> bool:
            return len(self.executions("process", what)) >= CHILDREN * 12 // 3

        await eventually(holds)

    async def assert_all_done_once(self, what: str) -> None:
        async def are_final() -> bool:
            runs = [await self.api.get(RUNS, name, f"{what}-{name}") for name in namespaces()]
            return all(phase_of(run) not in ("Pending", "Running") for run in runs)

        await eventually(are_final, within_seconds=120)
        for name in namespaces():
            root = await self.api.get(RUNS, name, f"{what}-{name}")
            assert len(output_of(root)["results"]) == CHILDREN
        runs = [run for run in (await self.api.list_all(RUNS))[0] if run["metadata"]["name"].startswith(what)]
        assert Counter(map(phase_of, runs)) == {"Succeeded": 12 * (CHILDREN + 1)}
        calls = Counter((call.run, call.step) for call in self.executions(run=what))
        assert len(calls) == 12 * (CHILDREN + 1)
        assert set(calls.values()) == {1}, f"called more than once: {[call for call, n in calls.items() if n > 1]}"

    # --- The Services

    def _connect_to(self, shard: int):  # type: ignore[no-untyped-def]  # a callback of asyncio's
        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                if (target := await self._find(shard)) is not None:
                    await copy_both_ways(reader, writer, target)
            except (OSError, asyncio.CancelledError):
                pass  # as a proxy does: both sides are closed
            finally:
                writer.close()
                self._connections.discard(task)

        return connect

    async def _find(self, shard: int) -> tuple[str, int] | None:
        with suppress(NotFound):
            found = await self.api.get(ENDPOINT_SLICES, NAMESPACE, f"{SERVICE}-shard-{shard}-leader")
            if found["endpoints"]:
                return found["endpoints"][0]["addresses"][0], found["ports"][0]["port"]
        return None


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Sharded]:
    async with Sharded(tmp_path) as started:
        yield started


async def test_one_dies_and_another_joins_in_fan_outs_of_twelve_namespaces(cluster: Sharded) -> None:
    """Nothing runs twice and nothing is lost: when one of three is killed, when one joins, and when one is to end."""
    operators = [await cluster.start_contender() for _ in range(3)]
    await cluster.until_shared_by(*operators)
    await cluster.start_workers()
    await cluster.start_fan_outs("killed")
    await cluster.until_in_the_middle("killed")
    killed_at = time.monotonic()
    operators[0].process.kill()
    await cluster.until_shared_by(*operators[1:])
    print(f"its shards were led again after {time.monotonic() - killed_at:.1f} s")
    await cluster.assert_all_done_once("killed")

    await cluster.start_fan_outs("joined")
    await cluster.until_in_the_middle("joined")
    fourth = await cluster.start_contender(namespaces=namespaces())  # all that there are, but watched by name
    await cluster.until_shared_by(*operators[1:], fourth)
    await cluster.assert_all_done_once("joined")

    await cluster.start_fan_outs("ended")
    await cluster.until_in_the_middle("ended")
    operators[1].process.signal(signal.SIGTERM)
    await cluster.until_shared_by(operators[2], fourth)
    assert await operators[1].process.ended() == 0
    await cluster.assert_all_done_once("ended")


async def test_another_number_of_shards_waits_until_the_old_ones_are_gone(cluster: Sharded) -> None:
    before = await cluster.start_contender(shards=1, grpc_advertise=cluster.grpc_address)
    await before.until("ok")
    after = await cluster.start_contender()
    await after.until("standby")
    await asyncio.sleep(3)  # in which it looks three times
    assert set(await cluster.holders()) == {"None"}
    assert await before.process.end() == 0
    await cluster.until_shared_by(after)
    back = await cluster.start_contender(shards=1, grpc_advertise=cluster.grpc_address)
    await back.until("standby")
    assert await after.process.end() == 0
    await back.until("ok")
