"""Pools whose pods are replaced, end, or may not be made; the test plays kubelet and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.api import Json
from hatchet_operator.cluster.kinds import PODS, POOLS
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from tests.integration.inprocess import NAMESPACE, POOL, Instance, ScriptedWorker, running_operator
from tests.kube.eventually import eventually


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=60) as instance:
        yield instance


def template(image: str = "etl:1") -> Json:
    return {"spec": {"containers": [{"name": "worker", "image": image}]}}


async def create_pool(world: Instance, name: str = POOL, **spec: Any) -> Json:
    body = {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {"template": template(), **spec},
    }
    return await world.api.create(POOLS, NAMESPACE, body)


async def pods_of(world: Instance, pool: str = POOL) -> list[Json]:
    items, _ = await world.api.list_all(PODS, NAMESPACE, label_selector=f"{labels.POOL}={pool}")
    return sorted(items, key=lambda pod: int(pod["metadata"]["resourceVersion"]))


async def pod_with(world: Instance, image: str) -> Json:
    """Wait for a pod that was made from a template with this image."""
    found: list[Json] = []

    async def is_there() -> bool:
        nonlocal found
        found = [pod for pod in await pods_of(world) if pod["spec"]["containers"][0]["image"] == image]
        return bool(found) and world.engine.registry.find_pod(found[0]["metadata"]["uid"]) is not None

    await eventually(is_there)
    return found[0]


# --- Which definition is the current one


async def retries_in_effect(world: Instance) -> int:
    definition = (await world.workflow("etl"))["status"]["definition"]
    return int(definition["steps"][0].get("retries", 0))


async def roll_out(world: Instance) -> tuple[ScriptedWorker, ScriptedWorker]:
    """Change a pool's template while its pod works; return workers in the old pod and in the new one."""
    await create_pool(world)
    old = await world.scripted(pod=await pod_with(world, "etl:1"))
    await old.put_workflow("etl", [{"retries": 1}])
    await old.start()
    await world.api.patch(POOLS, NAMESPACE, POOL, {"spec": {"template": template("etl:2")}})
    return old, await world.scripted(pod=await pod_with(world, "etl:2"))


async def test_an_old_pod_that_starts_again_does_not_put_its_definition_back(world: Instance) -> None:
    old, new = await roll_out(world)
    revision = await new.put_workflow("etl", [{"retries": 2}])
    await old.put_workflow("etl", [{"retries": 1}])
    assert await retries_in_effect(world) == 2
    assert (await world.workflow("etl"))["status"]["revision"] == revision


async def test_an_old_pod_counts_until_a_new_one_registers(world: Instance) -> None:
    old, new = await roll_out(world)
    await old.put_workflow("etl", [{"retries": 3}])
    assert await retries_in_effect(world) == 3
    await new.put_workflow("etl", [{"retries": 2}])
    assert await retries_in_effect(world) == 2


async def test_a_new_pod_with_the_same_definition_takes_it_over(world: Instance) -> None:
    old, new = await roll_out(world)
    await new.put_workflow("etl", [{"retries": 1}])
    await old.put_workflow("etl", [{"retries": 3}])
    assert await retries_in_effect(world) == 1


async def test_a_workflow_that_only_the_old_pod_has_stays_its_own(world: Instance) -> None:
    old, new = await roll_out(world)
    await new.put_workflow("other")
    await old.put_workflow("etl", [{"retries": 4}])
    assert await retries_in_effect(world) == 4


async def test_of_workers_that_no_pool_makes_the_last_one_counts(world: Instance) -> None:
    _, new = await roll_out(world)
    await new.put_workflow("etl", [{"retries": 2}])
    await (await world.scripted()).put_workflow("etl", [{"retries": 5}])
    assert await retries_in_effect(world) == 5
    await new.put_workflow("etl", [{"retries": 2}])
    assert await retries_in_effect(world) == 2


async def test_runs_of_the_old_definition_go_on_when_an_old_pod_starts_again(world: Instance) -> None:
    old, new = await roll_out(world)
    await world.create_run("r", "etl")
    action = await old.next()
    await new.put_workflow("etl", [{"retries": 0}])
    await old.put_workflow("etl", [{"retries": 1}])
    await old.fail(action)
    again = await old.next()
    await old.complete(again)
    assert (await world.finished("r"))["phase"] == "Succeeded"
