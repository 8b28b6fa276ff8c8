"""An operator that starts with thousands of runs present."""

from __future__ import annotations

import asyncio
import time

import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.base import Json
from tests.integration.harness import NAMESPACE, Cluster, assert_done_once, make_run

FINISHED_RUNS = 5_000
AT_A_TIME = 50
CHILDREN = 3
READY_SECONDS = 60.0  # about two on an idle machine; the limit is that of one where others work too


async def create_finished(cluster: Cluster, status: Json, numbers: range) -> None:
    for number in numbers:
        run = await cluster.api.create(RUNS, NAMESPACE, make_run(f"old-{number}", "child", {"a": "x"}))
        run["status"] = status
        await cluster.api.replace(RUNS, NAMESPACE, f"old-{number}", run, subresource="status")


@pytest.mark.timeout(300)
async def test_a_restart_with_thousands_of_finished_runs_is_quick_and_writes_to_none(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    await cluster.create_run("template", "child", a="x")
    status = (await cluster.finished("template"))["status"]
    await cluster.crash_operator()
    async with asyncio.TaskGroup() as group:
        for first in range(AT_A_TIME):
            group.create_task(create_finished(cluster, status, range(first, FINISHED_RUNS, AT_A_TIME)))
    before = await cluster.writes()
    began = time.monotonic()
    # A slow machine must not add writes of Running, of counts and of waiting, which come by the clock.
    await cluster.start_operator(running_after=60, children_every=60, waiting_told_after=60)
    took = time.monotonic() - began
    await cluster.create_run("run", children=CHILDREN)
    await assert_done_once(cluster, "run", children=CHILDREN)
    spent = await cluster.writes() - before
    run_writes = sum(count for (_, resource, _), count in spent.items() if resource == "workflowruns")
    own = 2  # the run's status, and the label by which its tree is found
    assert run_writes == CHILDREN * 2 + own, "what is finished is left alone"
    assert took < READY_SECONDS
