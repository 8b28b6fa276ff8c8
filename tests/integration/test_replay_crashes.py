"""The operator is killed in the middle of a replay of a tree: nothing that succeeded runs again, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.base import Json
from tests.integration.harness import FINAL, NAMESPACE, OPERATOR_WRITES, SOON_SECONDS, Cluster, output_of, phase_of
from tests.kube.eventually import eventually

TREE: Json = {"nodes": [{"nodes": [{"sick": True}, {}]}, {}, {"sick": True}]}
SIZE = 6
SICK, WELL = 4, 2
"""Runs that fail at first, with those above them; and the others."""
LEAST_WRITES = (
    3 * SICK
)  # of each that is replayed: that it begins, that its children are ready or it was asked, its end


async def ended_again(cluster: Cluster, name: str, *, within_seconds: float) -> Json:
    run: Json = {}

    async def holds() -> bool:
        nonlocal run
        run = await cluster.run(name)
        return run["status"].get("reruns", 0) == 1 and phase_of(run) in FINAL

    await eventually(holds, within_seconds=within_seconds)
    return run


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"action": "commit-then-hang"}, id="the n-th write is done and never answered"),
        pytest.param({"action": "drop"}, id="the n-th write is dropped before it is done"),
    ],
)
@pytest.mark.timeout(600)
async def test_a_crash_at_any_write_of_a_replay_changes_nothing(cluster: Cluster, action: Json) -> None:
    await cluster.start_operator()
    await cluster.start_pool(replicas=2)
    for n in range(1, 100):
        name = f"tree-{n:02d}"
        await cluster.create_run(name, "node", tree=name, **TREE)
        assert phase_of(await cluster.finished(name)) == "Failed"
        await until_tree_is_over(cluster, name)
        cluster.open_gate(f"{name}-healed")
        fault = {"match": OPERATOR_WRITES | {"resource": "workflowruns"}, "skip": n - 1, "optional": True, **action}
        await cluster.inject(fault)
        await cluster.api.patch(RUNS, NAMESPACE, name, {"spec": {"replay": {"number": 1, "from": "Failed"}}})
        if fired := await fires_before_it_ends(cluster, name):
            await cluster.crash_operator()
            await cluster.clear_faults()
            await cluster.start_operator()
        await assert_replayed_once(cluster, name)
        if not fired:
            break
    assert n > LEAST_WRITES, "the replay has more writes than were hit"


async def until_tree_is_over(cluster: Cluster, name: str) -> None:
    async def holds() -> bool:
        tree = await cluster.runs(f"hatchet-operator.dev/root={name}")
        return len(tree) == SIZE and all(phase_of(run) in FINAL for run in tree)

    await eventually(holds, within_seconds=SOON_SECONDS)


async def fires_before_it_ends(cluster: Cluster, name: str) -> bool:
    fired = False

    async def holds() -> bool:
        nonlocal fired
        run = await cluster.run(name)
        ended = run["status"].get("reruns", 0) == 1 and phase_of(run) in FINAL
        fired = await cluster.fault_fired(within_seconds=0)
        return fired or ended

    await eventually(holds)
    return fired


async def assert_replayed_once(cluster: Cluster, name: str) -> None:
    root = await ended_again(cluster, name, within_seconds=SOON_SECONDS)
    assert output_of(root, "grow") == {"size": SIZE}
    tree = await cluster.runs(f"hatchet-operator.dev/root={name}")
    assert {phase_of(run) for run in tree} == {"Succeeded"}
    assert Counter(run["status"].get("reruns", 0) for run in tree) == {1: SICK, 0: WELL}
    calls = Counter((call.run, call.step) for call in cluster.executions(run=name))
    for run in tree:
        run_name, was_sick = run["metadata"]["name"], run["status"].get("reruns", 0) == 1
        assert calls[run_name, "first"] == 1, "a step that had succeeded ran again"
        assert calls[run_name, "grow"] == 1 + was_sick, f"{run_name} failed once, and succeeded once"
