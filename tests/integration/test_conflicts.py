"""Others write to the same objects all the time, and the API server says 409 again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.errors import NotFound
from tests.integration.harness import NAMESPACE, OPERATOR_WRITES, Cluster, assert_done_once, phase_of
from tests.kube.eventually import eventually

CHILDREN = 8


@pytest.fixture
async def working(cluster: Cluster) -> Cluster:
    await cluster.start_operator()
    await cluster.start_worker()
    return cluster


async def test_a_storm_of_conflicts_delays_results_and_loses_none(working: Cluster) -> None:
    await working.inject({"match": {**OPERATOR_WRITES, "verb": "update"}, "times": 60, "action": "status", "code": 409})
    await working.create_run("run", children=CHILDREN)
    # after each conflict a run pauses, in the end for 5 s
    await assert_done_once(working, "run", children=CHILDREN, within_seconds=60)
    assert await working.fired_count() == 60


@asynccontextmanager
async def busy_people(cluster: Cluster) -> AsyncIterator[list[int]]:
    """Everybody's runs get new labels and annotations for as long as the block lasts."""
    edits = [0]

    async def edit() -> None:
        while True:
            for run in await cluster.runs():
                patch = {"metadata": {"labels": {"edit": str(edits[0])}, "annotations": {"edit": str(edits[0])}}}
                try:
                    await cluster.api.patch(RUNS, NAMESPACE, run["metadata"]["name"], patch)
                except NotFound:
                    continue
                edits[0] += 1

    editing = [asyncio.create_task(edit()) for _ in range(2)]
    try:
        yield edits
    finally:
        for task in editing:
            task.cancel()
        for result in await asyncio.gather(*editing, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


async def test_runs_that_people_edit_all_the_time_end_as_others_do(working: Cluster) -> None:
    async with busy_people(working) as edits:
        await working.create_run("run", children=CHILDREN, in_child="child")
        await working.until_executing("process", CHILDREN)
        enough = edits[0] + 5 * (CHILDREN + 1)

        async def everything_was_edited() -> bool:
            return edits[0] > enough

        await eventually(everything_was_edited)
        working.open_gate("child")
        await assert_done_once(working, "run", children=CHILDREN, within_seconds=60)
    for run in await working.runs():
        assert run["metadata"]["labels"]["edit"], "nobody's label was overwritten by a status"


async def test_cancelling_amid_edits_cancels_the_whole_tree(working: Cluster) -> None:
    async with busy_people(working):
        await working.create_run("run", children=CHILDREN, in_child="never")
        await working.until_executing("process", CHILDREN)
        await working.api.patch(RUNS, NAMESPACE, "run", {"spec": {"cancelled": True}})
        assert phase_of(await working.finished("run")) == "Cancelled"
        for child in await working.children_of("run"):
            assert phase_of(await working.finished(child["metadata"]["name"])) == "Cancelled"
    assert len(working.executions("process")) == CHILDREN


async def test_a_single_child_that_is_cancelled_leaves_its_siblings(working: Cluster) -> None:
    async with busy_people(working):
        await working.create_run("run", children=3, in_child="child")
        await working.until_executing("process", 3)
        cancelled, *others = sorted(child["metadata"]["name"] for child in await working.children_of("run"))
        await working.api.patch(RUNS, NAMESPACE, cancelled, {"spec": {"cancelled": True}})
        assert phase_of(await working.finished(cancelled)) == "Cancelled"
        working.open_gate("child")
        assert phase_of(await working.finished("run")) == "Succeeded"
        for name in others:
            assert phase_of(await working.finished(name)) == "Succeeded"
