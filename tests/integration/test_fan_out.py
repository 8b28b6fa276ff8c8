"""A parent with children, from the WorkflowRun object to its result."""

from __future__ import annotations

from tests.integration.harness import Cluster, fan_out_results, output_of, phase_of


async def test_a_fan_out_of_ten_costs_two_api_writes_a_child(cluster: Cluster) -> None:
    # A slow machine must not add writes of Running, of counts and of waiting, which come by the clock.
    await cluster.start_operator(running_after=60, children_every=60, waiting_told_after=60)
    await cluster.start_worker()
    before = await cluster.writes()
    await cluster.create_run("fan", children=10)
    parent = await cluster.finished("fan")
    assert output_of(parent) == fan_out_results(10)
    assert parent["status"]["children"]["succeeded"] == 10
    runs = await cluster.runs()
    assert len(runs) == 11
    assert all(phase_of(run) == "Succeeded" for run in runs)
    spent = await cluster.writes() - before
    # the patch is for the labels of a root that was made by hand: its tree has one selector
    assert spent == {
        ("create", "workflowruns", ""): 10,
        ("update", "workflowruns", "status"): 11,
        ("patch", "workflowruns", ""): 1,
    }
    tree = await cluster.runs("hatchet-operator.dev/root=fan")
    assert len(tree) == 11
    assert len(cluster.executions()) == 11
