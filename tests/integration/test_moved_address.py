"""The operator comes back at another address: workers that can follow do, others are ended, and nothing else waits."""

from __future__ import annotations

import os
from collections import Counter

from hatchet_operator.cluster.kinds import EVENTS
from tests.integration.harness import (
    NAMESPACE,
    Cluster,
    assert_done_once,
    fan_out_results,
    free_port,
    output_of,
    phase_of,
)
from tests.kube.eventually import eventually

CHILDREN = 6


async def move(cluster: Cluster) -> None:
    """End the operator in order, and have another one serve elsewhere."""
    assert cluster.operator is not None
    assert await cluster.operator.end() == 0
    cluster.grpc_port = free_port()
    await cluster.start_operator(rejoin=2.0)


async def test_a_worker_that_is_told_the_new_address_goes_on_with_what_it_has(cluster: Cluster) -> None:
    file = cluster.directory / "address"
    file.write_text(cluster.grpc_address)
    os.environ["HATCHET_CLIENT_HOST_PORT_FILE"] = str(file)
    try:
        await cluster.start_operator()
        await cluster.start_worker()
    finally:
        del os.environ["HATCHET_CLIENT_HOST_PORT_FILE"]
    await cluster.create_run("run", children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    assert cluster.operator is not None
    assert await cluster.operator.end() == 0
    cluster.grpc_port = free_port()
    await cluster.start_operator()
    file.write_text(cluster.grpc_address)
    cluster.open_gate("child")
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_pods_that_can_not_follow_are_ended_before_others_get_their_steps(cluster: Cluster) -> None:
    """Pods of the local node have their address from their environment only."""
    await cluster.start_operator()
    await cluster.start_pool(replicas=1)
    (old,) = await cluster.pods()
    await cluster.create_run("run", children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)

    async def is_persisted() -> bool:
        return [phase_of(child) for child in await cluster.children_of("run")] == ["Running"] * CHILDREN

    await eventually(is_persisted)
    await move(cluster)
    await cluster.create_run("new", children=0)  # nobody from before can have it
    await cluster.finished("new")

    async def is_gone() -> bool:
        return old["metadata"]["uid"] not in [pod["metadata"]["uid"] for pod in await cluster.pods()]

    await eventually(is_gone)
    cluster.open_gate("child")
    run = await cluster.finished("run")
    assert output_of(run) == fan_out_results(CHILDREN)
    calls = Counter(call.run for call in cluster.executions("process", "run"))
    assert set(calls.values()) == {2}, "once by the pod that was ended, and once more"
    for child in await cluster.children_of("run"):
        step = child["status"]["steps"]["process"]
        assert (step.get("losses", 0), step["dispatch"]) == (0, 1)
    events = await cluster.api.list_all(EVENTS, NAMESPACE)
    ended = [event["message"] for event in events[0] if event["reason"] == "PodEnded"]
    assert any("no longer leads to the operator" in message for message in ended)
