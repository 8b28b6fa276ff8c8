"""Light children with real workers and processes: what they cost, and a killed operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchet_operator.cluster.kinds import WORKFLOWS
from tests.integration.harness import (
    NAMESPACE,
    PATIENT,
    Cluster,
    fan_out_results,
    output_of,
    phase_of,
    write_light_crds,
)
from tests.kube.eventually import eventually

CHILDREN = 10
QUIET = {"light_runs": True, "running_after": 60, "children_every": 60, "waiting_told_after": 60}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, crds=write_light_crds(tmp_path / "crds"), **PATIENT, **QUIET) as started:
        yield started


async def is_observed(cluster: Cluster, workflow: str) -> bool:
    found = await cluster.api.get(WORKFLOWS, NAMESPACE, workflow)
    return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])


@pytest.mark.parametrize("by", ["the spawn", "the workflow"])
async def test_a_fan_out_of_ten_costs_one_api_write_a_child(cluster: Cluster, by: str) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    if by == "the workflow":
        await cluster.api.patch(WORKFLOWS, NAMESPACE, "child", {"spec": {"record": "Result"}})
        await eventually(lambda: is_observed(cluster, "child"))
    before = await cluster.writes()
    await cluster.create_run("fan", children=CHILDREN, **({"record": "result"} if by == "the spawn" else {}))
    parent = await cluster.finished("fan")
    assert output_of(parent) == fan_out_results(CHILDREN)
    assert parent["status"]["children"]["succeeded"] == CHILDREN
    spent = await cluster.writes() - before
    assert spent == {
        ("create", "workflowruns", ""): CHILDREN,
        ("update", "workflowruns", "status"): 1,
        ("patch", "workflowruns", ""): 1,
    }
    tree = await cluster.runs("hatchet-operator.dev/root=fan")
    assert len(tree) == CHILDREN + 1
    assert all(phase_of(run) == "Succeeded" for run in tree)
    assert {run["apiVersion"] for run in tree} == {"hatchet-operator.dev/v1alpha1"}


async def test_light_children_of_a_killed_operator_run_again_and_their_parent_goes_on(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_pool(replicas=1)
    await cluster.create_run("fan", children=CHILDREN, record="result", in_child="open")
    begun = await cluster.until_executing("process", CHILDREN)
    assert await cluster.children_of("fan") == []
    await cluster.crash_operator()
    await cluster.start_operator()
    cluster.open_gate("open")
    parent = await cluster.finished("fan")
    assert output_of(parent) == fan_out_results(CHILDREN)
    assert len(cluster.executions("spawn")) == 1  # it was not retried: its worker spawned them again
    children = await cluster.children_of("fan")
    assert {child["metadata"]["name"] for child in children} == {each.run for each in begun}
    assert {phase_of(child) for child in children} == {"Succeeded"}


async def test_light_children_are_found_by_a_parent_that_is_retried(cluster: Cluster) -> None:
    """Those that were recorded before both died do not run again."""
    await cluster.start_operator()
    worker = await cluster.start_worker()
    await cluster.create_run("fan", children=CHILDREN, record="result", after_results="open")
    await cluster.until_succeeded("fan", CHILDREN)
    worker.kill()
    await cluster.crash_operator()
    cluster.open_gate("open")
    await cluster.start_operator(worker_silent=6, rejoin=6)
    await cluster.start_worker("second")
    parent = await cluster.finished("fan", within_seconds=60)
    assert output_of(parent) == fan_out_results(CHILDREN)
    assert len(cluster.executions("process")) == CHILDREN
    assert len(cluster.executions("spawn")) == 2
