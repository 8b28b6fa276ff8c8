"""From a WorkerPool object to workers that are registered, with an operator that dies on the way."""

from __future__ import annotations

import pytest

from hatchet_operator.cluster.kinds import PODS, POOLS, REVISIONS, SECRETS, WORKFLOWS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from tests.integration.harness import NAMESPACE, OPERATOR_WRITES, POOL, Cluster, assert_done_once
from tests.integration.inprocess import running_operator
from tests.kube.eventually import eventually

REGISTERING: Json = {
    **OPERATOR_WRITES,
    "resource": ["secrets", "pods", "controllerrevisions", "workflows"],
}
LEAST_WRITES = 9  # token, pod, two definitions, two workflows with a status each, the registration on the pod


async def remove_everything(cluster: Cluster) -> None:
    """Delete the pool, with it its pods and token, and what its workers registered."""
    await cluster.api.delete(POOLS, NAMESPACE, POOL)
    for kind in (WORKFLOWS, REVISIONS):
        for obj in (await cluster.api.list_all(kind, NAMESPACE))[0]:
            await cluster.api.delete(kind, NAMESPACE, obj["metadata"]["name"])

    async def is_gone() -> bool:
        if await cluster.pods():
            return False
        try:
            await cluster.api.get(SECRETS, NAMESPACE, f"{POOL}-token")
        except NotFound:
            return True
        return False

    await eventually(is_gone)


@pytest.mark.timeout(480)
async def test_a_crash_at_any_write_leads_to_a_pool_that_works(cluster: Cluster) -> None:
    await cluster.start_node()
    await cluster.start_operator()
    for n in range(1, 100):
        await cluster.inject({"match": REGISTERING, "skip": n - 1, "action": "commit-then-hang", "optional": True})
        await cluster.create_pool(replicas=1)
        fired = await fires_before_the_pool_is_ready(cluster)
        if fired:
            await cluster.crash_operator()
            await cluster.clear_faults()
            await cluster.start_operator()
        await cluster.until_registered()
        await cluster.until_pool_is_ready(1)
        assert len(await cluster.pods()) == 1
        await cluster.create_run(f"run-{n:02d}", children=1)
        await assert_done_once(cluster, f"run-{n:02d}", children=1)
        if not fired:
            break
        await remove_everything(cluster)
    assert n > LEAST_WRITES, "there are more writes than were hit"


async def fires_before_the_pool_is_ready(cluster: Cluster) -> bool:
    fired = False

    async def holds() -> bool:
        nonlocal fired
        fired = await cluster.fault_fired(within_seconds=0)
        return fired or await cluster.is_ready(1)

    await eventually(holds)
    return fired


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"action": "drop", "times": 2}, id="is dropped"),
        pytest.param({"action": "commit-then-drop"}, id="is done and not answered"),
        pytest.param({"action": "status", "code": 503, "times": 2}, id="is answered with 503"),
        pytest.param({"action": "status", "code": 429, "retryAfter": 1}, id="is answered with 429"),
    ],
)
async def test_a_pool_has_its_pods_when_making_one(cluster: Cluster, fault: Json) -> None:
    await cluster.start_operator()
    await cluster.start_node()
    await cluster.inject({"match": {**OPERATOR_WRITES, "verb": "create", "resource": "pods"}, **fault})
    await cluster.create_pool(replicas=1)
    await cluster.until_pool_is_ready(1)
    assert await cluster.fired_count() == fault.get("times", 1)
    assert len((await cluster.api.list_all(PODS, NAMESPACE))[0]) == 1


async def test_one_more_worker_of_the_same_code_writes_nothing() -> None:
    async with running_operator() as world:
        first, second, third = [await world.scripted() for _ in range(3)]
        revision = await first.put_workflow("etl")
        before = (await world.workflow("etl"))["metadata"]["resourceVersion"], await world.revisions()
        assert await second.put_workflow("etl") == revision
        assert ((await world.workflow("etl"))["metadata"]["resourceVersion"], await world.revisions()) == before
        assert world.writes(resource="controllerrevisions") == 1
        assert await third.put_workflow("etl", [{"retries": 2}]) != revision
        assert world.writes(resource="controllerrevisions") == 2
