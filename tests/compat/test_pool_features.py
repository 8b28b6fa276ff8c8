"""What workflows of published SDKs ask for, in the pods of a WorkerPool: one of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import POOLS, RATE_LIMITS, RUNS, WORKFLOWS
from hatchet_operator.resources.base import API_VERSION, Json
from tests.compat.published import PATIENCE_SECONDS, PROGRAMS, PublishedCluster, PublishedSdk
from tests.compat.test_pools import REPLICAS, is_available, make_pool
from tests.integration.harness import NAMESPACE, POOL, make_run, output_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(sdk: PublishedSdk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PublishedCluster]:
    """A cluster whose pool runs the program of this test in two pods."""
    async with PublishedCluster(tmp_path_factory.mktemp("cluster"), sdk) as cluster:
        await cluster.start_operator()
        await cluster.start_node()
        body = make_pool(cluster)
        body["spec"]["slots"] = SLOTS
        (container,) = body["spec"]["template"]["spec"]["containers"]
        container["command"][-1] = str(PROGRAMS / "pool_features.py")
        await cluster.api.create(POOLS, NAMESPACE, body)
        await cluster.until_registered(("grouped", "telling"))
        await eventually(lambda: is_available(cluster), within_seconds=PATIENCE_SECONDS)
        yield cluster


def noted(cluster: PublishedCluster, file: str) -> list[tuple[float, str]]:
    path = cluster.directory / file
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(at), text) for at, text in (line.split() for line in lines)]


async def is_queued(cluster: PublishedCluster, count: int) -> bool:
    status = (await cluster.api.get(POOLS, NAMESPACE, POOL)).get("status", {})
    return bool(status.get("queued") == count)


async def create_with_priority(cluster: PublishedCluster, name: str, priority: int) -> None:
    run: Json = make_run(name, "urgent", {"name": name})
    run["spec"]["priority"] = priority
    await cluster.api.create(RUNS, NAMESPACE, run)


@pytest.mark.parametrize(("workflow", "file"), [("grouped", "grouped"), ("byexpression", "expression")])
async def test_runs_of_a_group_take_turns(pool: PublishedCluster, workflow: str, file: str) -> None:
    if workflow == "byexpression" and not pool.sdk.spawns_in_bulk:
        pytest.skip("before 0.47 methods alone name groups")
    for number in range(3):
        await pool.create_run(f"{workflow}-{number}", workflow, user="ada")
    for number in range(3):
        await pool.finished(f"{workflow}-{number}")
    assert [text for _, text in noted(pool, file)] == ["begin", "end"] * 3


async def test_steps_wait_for_units(pool: PublishedCluster) -> None:
    body: Json = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "calls"}}
    await pool.api.create(RATE_LIMITS, NAMESPACE, body | {"spec": {"limit": 2, "window": "2s"}})
    for number in range(3):
        await pool.create_run(f"limited-{number}", "limited")
    for number in range(3):
        await pool.finished(f"limited-{number}")
    first, _, third = (at for at, _ in noted(pool, "limited"))
    assert third - first > 1


async def test_the_higher_priority_goes_first(pool: PublishedCluster) -> None:
    names = [f"filling-{number}" for number in range(SLOTS * REPLICAS)]
    for name in names:
        await pool.create_run(name, "filling", gate="one" if name == names[0] else "others")

    async def are_full() -> bool:
        return len(noted(pool, "filling")) == len(names)

    await eventually(are_full)
    for name, priority in (("low", 1), ("middle", 2), ("high", 3)):
        await create_with_priority(pool, name, priority)
    await eventually(lambda: is_queued(pool, 3))
    (pool.directory / "gate-one").touch()  # one slot, which all of them get, one after the other
    for name in ("low", "middle", "high"):
        await pool.finished(name)
    (pool.directory / "gate-others").touch()
    assert [text for _, text in noted(pool, "urgent")][:3] == ["high", "middle", "low"]


async def test_children_stick_to_their_parents_worker(pool: PublishedCluster) -> None:
    for number in range(3):
        await pool.create_run(f"parents-{number}", "parents")
    for number in range(3):
        said = output_of(await pool.finished(f"parents-{number}"), "spawn")
        assert said["children"] == [said["own"]] * 3


async def test_a_step_goes_to_the_pod_whose_worker_has_the_label(pool: PublishedCluster) -> None:
    for number in range(4):
        await pool.create_run(f"labelled-{number}", "labelled")
    said = [output_of(await pool.finished(f"labelled-{number}"), "work") for number in range(4)]
    assert {each["labels"]["role"] for each in said} == {"large"}
    assert len({each["pid"] for each in said}) == 1


async def test_an_event_and_a_scheduled_run_from_within_a_pod_and_a_cron(pool: PublishedCluster) -> None:
    crons = (await pool.api.get(WORKFLOWS, NAMESPACE, "ticking"))["status"]["crons"]
    assert [cron["schedule"] for cron in crons] == ["30 6 * * MON-FRI"]
    await pool.create_run("telling", "telling")
    at = output_of(await pool.finished("telling"), "work")["at"]
    for cause, workflow in (("event", "told"), ("schedule", "urgent")):
        selector = f"hatchet-operator.dev/triggered-by={cause},hatchet-operator.dev/workflow={workflow}"
        (run,) = await pool.runs(selector)
        finished = await pool.finished(run["metadata"]["name"])
        if cause == "event":
            assert output_of(finished, "work") == {"got": "hello"}
    began = {text: began for began, text in noted(pool, "urgent")}["scheduled"]
    assert began >= at - 0.1
