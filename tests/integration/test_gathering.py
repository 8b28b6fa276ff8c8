"""A fan-out that some failures don't end, with the real operator."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_sdk import (
    Context,
    Hatchet,
    TooManyFailures,
    WorkflowRunFailed,
    WorkflowRunRef,
    gather_runs,
    sync_gather_runs,
)
from tests.integration.inprocess import SECONDS, Instance, running_operator, step_of

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


class Family:
    """Parents of ten children, of which those below ``bad`` fail and those from ``slow`` on wait for the gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        gate = self.gate

        @hatchet.workflow()
        class Child:
            @hatchet.step()
            def work(self, context: Context) -> dict[str, int]:
                given = context.workflow_input()
                if given["n"] < given["bad"]:
                    raise ValueError(f"child {given['n']} broke")
                if given["n"] >= given["slow"]:
                    gate.wait(20)
                return {"n": given["n"]}

        @hatchet.workflow()
        class Parent:
            @hatchet.step()
            async def asynchronous(self, context: Context) -> dict[str, Any]:
                refs = await context.aio.spawn_workflows(children(context))
                return told(await gather_runs(refs, max_failed=context.workflow_input()["max_failed"]))

            @hatchet.step(parents=["asynchronous"])
            def synchronous(self, context: Context) -> dict[str, Any]:
                refs = context.spawn_workflows(children(context))
                return told(sync_gather_runs(refs, max_failed=context.workflow_input()["max_failed"]))

        self.workflows = (Child(), Parent())


def children(context: Context) -> Any:
    given = context.workflow_input()
    inputs = [{"n": n, "bad": given["bad"], "slow": given["slow"]} for n in range(10)]
    return [{"workflow_name": "Child", "input": each, "key": f"child{each['n']}"} for each in inputs]


def told(gathered: Any) -> dict[str, Any]:
    return {
        "results": [result["work"]["n"] for result in gathered.results],
        "errors": [failure.errors["work"].splitlines()[0] for failure in gathered.failures],
    }


@pytest.mark.parametrize("max_failed", [3, "30%"])
async def test_a_fan_out_goes_on_while_not_too_many_failed(world: Instance, max_failed: int | str) -> None:
    family = Family()
    await world.work(*family.workflows, slots=1)
    await world.create_run("r", "parent", {"bad": 3, "slow": 10, "max_failed": max_failed})
    status = await world.finished("r")
    for step in ("asynchronous", "synchronous"):
        assert json.loads(step_of(status, step)["output"]) == {
            "results": list(range(3, 10)),
            "errors": [f"child {n} broke" for n in range(3)],
        }


async def test_too_many_failures_end_it_at_once_and_the_others_go_on(world: Instance) -> None:
    family = Family()
    hatchet = await world.work(*family.workflows)
    run = await hatchet.admin.aio.run_workflow("Parent", {"bad": 3, "slow": 5, "max_failed": 2})
    with pytest.raises(WorkflowRunFailed, match="3 of 10 runs failed, and max_failed=2"):
        await asyncio.wait_for(run.result(), SECONDS)  # while five children wait
    phases = sorted([run["status"]["phase"] for run in await world.runs() if run["spec"]["workflow"] == "child"])
    assert phases.count("Failed") == 3
    assert "Cancelled" not in phases
    family.gate.set()


async def test_runs_that_are_deleted_count_as_failures(world: Instance) -> None:
    family = Family()
    hatchet = await world.work(*family.workflows)
    refs: list[WorkflowRunRef] = [
        await hatchet.admin.aio.run_workflow("Child", {"n": n, "bad": 0, "slow": 1}) for n in range(2)
    ]
    gathering = asyncio.create_task(gather_runs(refs))
    await refs[0].result()
    await world.delete_run(str(refs[1]))
    with pytest.raises(TooManyFailures) as raised:
        await gathering
    assert raised.value.results == [{"work": {"n": 0}}]
    assert [failure.phase for failure in raised.value.failures] == ["Deleted"]
    family.gate.set()
