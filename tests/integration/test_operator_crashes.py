"""The operator is killed at any moment; what was answered stays true, and nothing is done twice."""

from __future__ import annotations

from collections import Counter

import pytest

from hatchet_operator.cluster.api import Json
from tests.integration.harness import (
    FINAL,
    OPERATOR_WRITES,
    Cluster,
    fan_out_results,
    output_of,
    phase_of,
)
from tests.kube.eventually import eventually

CHILDREN = 5
LEAST_WRITES = CHILDREN * 2 + 1


@pytest.fixture
async def pool(cluster: Cluster) -> Cluster:
    """An operator with two worker pods, which an operator that is started again knows from their annotations."""
    await cluster.start_operator()
    await cluster.start_pool(replicas=2)
    return cluster


async def assert_done_once(cluster: Cluster, name: str, *, children: int = CHILDREN) -> None:
    """The run has its result, each child was created once, and each function called once."""
    parent = await cluster.finished(name, within_seconds=15)
    assert output_of(parent) == fan_out_results(children)
    found = await cluster.children_of(name)
    assert len(found) == children
    assert {phase_of(child) for child in found} == {"Succeeded"}
    assert [child["status"]["steps"]["process"].get("losses", 0) for child in found] == [0] * children
    calls = Counter((call.run, call.step) for call in cluster.executions(run=name))
    assert len(calls) == children + 1
    assert set(calls.values()) == {1}, f"called more than once: {[call for call, n in calls.items() if n > 1]}"


# --- After every API write


async def fires_before_it_ends(cluster: Cluster, name: str) -> bool:
    fired = False

    async def holds() -> bool:
        nonlocal fired
        ended = phase_of(await cluster.run(name)) in FINAL
        fired = await cluster.fault_fired(within_seconds=0)
        return fired or ended

    await eventually(holds)
    return fired


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"action": "commit-then-hang"}, id="the n-th write is done and never answered"),
        pytest.param({"action": "drop"}, id="the n-th write is dropped before it is done"),
        pytest.param({"action": "delay", "seconds": 1.5}, id="the n-th write is done when its operator is dead"),
    ],
)
@pytest.mark.timeout(240)
async def test_a_crash_at_any_write_of_a_run_changes_nothing(pool: Cluster, action: Json) -> None:
    for n in range(1, 100):
        name = f"run-{n:02d}"
        fault = {"match": OPERATOR_WRITES | {"resource": "workflowruns"}, "skip": n - 1, **action}
        await pool.inject(fault)
        await pool.create_run(name, children=CHILDREN)
        if not await fires_before_it_ends(pool, name):
            break
        await pool.crash_operator()
        await pool.clear_faults()
        await pool.start_operator()
        await assert_done_once(pool, name)
        await pool.until_pool_is_ready(2)
    await assert_done_once(pool, name)
    assert n > LEAST_WRITES, "the run has more writes than were hit"
