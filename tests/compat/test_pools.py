"""A WorkerPool whose pods run a published SDK: it becomes available, is rolled, and outlives the operator."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import POOLS
from hatchet_operator.resources.base import API_VERSION, Json
from tests.compat.published import PATIENCE_SECONDS, PROGRAMS, PublishedCluster, PublishedSdk
from tests.integration.harness import (
    NAMESPACE,
    POOL,
    Execution,
    fan_out_results,
    output_of,
    phase_of,
)
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLICAS = 2


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(sdk: PublishedSdk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PublishedCluster]:
    """A cluster of its own for each test, with a pool that is ready."""
    async with PublishedCluster(tmp_path_factory.mktemp("cluster"), sdk) as cluster:
        await cluster.start_operator()
        await cluster.start_node()
        await cluster.api.create(POOLS, NAMESPACE, make_pool(cluster))
        await cluster.until_registered()
        await eventually(lambda: is_available(cluster), within_seconds=PATIENCE_SECONDS)
        yield cluster


def make_pool(
    cluster: PublishedCluster,
    *command: str,
    name: str = POOL,
    replicas: int = REPLICAS,
    **environment: str,
) -> Json:
    given = {"HATCHET_TEST_DIRECTORY": str(cluster.directory), "PYTHONPATH": "", **environment}
    container = {
        "name": "worker",
        "image": "local",
        "command": [cluster.sdk.python, "-u", *(command or (str(PROGRAMS / "pooled.py"),))],
        "env": [{"name": name, "value": value} for name, value in given.items()],
    }
    template = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 5}}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"minReplicas": replicas, "slots": 40, "template": template},
    }


async def is_available(cluster: PublishedCluster) -> bool:
    status = (await cluster.api.get(POOLS, NAMESPACE, POOL)).get("status", {})
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    return conditions.get("Available") == "True" and status["readyReplicas"] == status["replicas"] == REPLICAS


async def pod_names(cluster: PublishedCluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in await cluster.pods()}


async def until_written_down(cluster: PublishedCluster, parent: str, children: int) -> list[Execution]:
    """Wait until a fan-out is in the children's steps, and the objects say so."""
    await cluster.until_executing("process", children)

    async def holds() -> bool:
        runs = [await cluster.run(parent), *await cluster.children_of(parent)]
        return all(phase_of(run) == "Running" and all_running(run) for run in runs)

    await eventually(holds)
    return cluster.executions("process")


def all_running(run: dict[str, Any]) -> bool:
    return {step["phase"] for step in run["status"]["steps"].values()} == {"Running"}


async def test_a_changed_template_is_rolled_out(cluster: PublishedCluster) -> None:
    before = await pod_names(cluster)
    changed = make_pool(cluster, CHANGED="yes")
    await cluster.api.patch(POOLS, NAMESPACE, POOL, {"spec": changed["spec"]})

    async def holds() -> bool:
        return not before & await pod_names(cluster) and await is_available(cluster)

    await eventually(holds, within_seconds=PATIENCE_SECONDS)
    await cluster.create_run("after", children=5)
    cluster.open_gate("after")
    assert output_of(await cluster.finished("after")) == fan_out_results(5)


async def test_workers_and_what_they_have_outlive_the_operator(cluster: PublishedCluster) -> None:
    pods = await pod_names(cluster)
    await cluster.create_run("long", children=6)
    calls = await until_written_down(cluster, "long", 6)
    assert len({call.pid for call in calls}) == REPLICAS, "both workers have something to lose"
    await cluster.crash_operator()
    await cluster.create_run("new", children=2)
    cluster.open_gate("new")
    operator = await cluster.start_operator()
    # It was there before the start, so it goes out when the operator knows what else may be out.
    assert output_of(await cluster.finished("new")) == fan_out_results(2)
    cluster.open_gate("long")
    assert output_of(await cluster.finished("long")) == fan_out_results(6)
    tree = {run["metadata"]["uid"] for run in [await cluster.run("long"), *await cluster.children_of("long")]}
    assert Counter(call.run for call in cluster.executions() if call.run in tree) == Counter(tree), "each ran once"
    assert await pod_names(cluster) == pods
    log = operator.log.read_text()
    assert "worker registered" not in log
    assert "worker lost" not in log
    assert "workers did not come back" not in log


async def test_a_worker_that_crashes_is_missed_at_once(cluster: PublishedCluster) -> None:
    await cluster.create_run("crash", children=4)
    calls = await until_written_down(cluster, "crash", 4)
    parent = cluster.executions("spawn")[0].pid
    [victim] = {call.pid for call in calls} - {parent}
    lost = [call for call in calls if call.pid == victim]
    os.kill(victim, signal.SIGKILL)
    await cluster.until_executing("process", 4 + len(lost))  # the deadline is shorter than the 30 s of silence
    cluster.open_gate("crash")
    assert output_of(await cluster.finished("crash")) == fan_out_results(4)


async def test_a_pod_asks_the_rest_api_if_its_template_leaves_the_address_to_its_token(
    cluster: PublishedCluster,
) -> None:
    program = (str(PROGRAMS / "rest.py"), "worker")
    pool = make_pool(cluster, *program, name="asking", replicas=1, HATCHET_CLIENT_HOST_PORT="")
    await cluster.api.create(POOLS, NAMESPACE, pool)

    async def holds() -> bool:
        asking = await cluster.api.get(POOLS, NAMESPACE, "asking")
        return bool(asking.get("status", {}).get("readyReplicas") == 1)

    await eventually(holds)
    before = await pod_names(cluster)
    await cluster.crash_operator()
    operator = await cluster.start_operator()  # which knows nothing of the address that the pod found in its token
    await cluster.create_run("broken", "broken")
    told = (await cluster.finished("broken"))["status"]["steps"]["tell"]
    (failure,) = json.loads(told["output"])["failures"]
    assert failure["step_run_action_name"] == "broken:bad"
    assert await pod_names(cluster) == before
    assert "worker registered" not in operator.log.read_text()
