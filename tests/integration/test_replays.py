"""Replays of runs and of trees, as a person or a controller asks for them: by one patch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.errors import ApiError
from hatchet_operator.resources.base import Json
from hatchet_sdk import Context, Hatchet, WorkflowRunFailed
from tests.integration.inprocess import Instance, ScriptedWorker, running_operator
from tests.kube.eventually import eventually

hatchet = Hatchet()


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=0) as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    worker = await world.scripted()
    await worker.put_workflow("parent", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    await worker.put_workflow("child")
    return await worker.start()


async def replay(world: Instance, name: str, number: int = 1, origin: str = "Failed") -> None:
    await world.patch_run(name, replay={"number": number, "from": origin})


async def failed_family(world: Instance, worker: ScriptedWorker) -> tuple[str, str]:
    """Have a parent fail in its second step, since of two children one failed; return the children's names."""
    await world.create_run("r", "parent")
    a = await worker.next()
    await worker.complete(a, {"n": 1})
    b = await worker.next()
    bad = await worker.spawn(b, key="bad")
    await worker.fail(await worker.next(), "it broke")
    good = await worker.spawn(b, key="good")
    await worker.complete(await worker.next(), {"n": 2})
    await world.finished(bad)
    await world.finished(good)
    await worker.fail(b, "a child failed")
    assert (await world.finished("r"))["phase"] == "Failed"
    return bad, good


# --- From what failed


async def test_a_failed_child_is_run_again_first_and_the_step_that_failed_finds_it(
    world: Instance, worker: ScriptedWorker
) -> None:
    bad, good = await failed_family(world, worker)
    await replay(world, "r")
    child = await worker.next()
    assert child.workflow_run_id == bad
    status = (await world.run("r"))["status"]
    assert (status["phase"], status["reason"], status["reruns"]) == ("Pending", "ReplayingChildren", 1)
    assert worker.has_nothing_new
    await worker.complete(child, {"n": 3})
    again = await worker.next()
    assert (again.workflow_run_id, again.task_name) == ("r", "b")
    assert json.loads(again.action_payload)["parents"] == {"a": {"n": 1}}
    assert await worker.spawn(again, key="bad") == bad
    assert await worker.spawn(again, key="good") == good
    await worker.complete(again, {"n": 4})
    status = await world.finished("r", reruns=1)
    assert (status["phase"], status["children"]["summary"]) == ("Succeeded", "2/2")
    assert [json.loads(status["steps"][step]["output"]) for step in "ab"] == [{"n": 1}, {"n": 4}]
    assert (await world.run(good))["status"].get("reruns", 0) == 0


async def test_a_child_that_fails_again_is_what_its_parent_finds_and_may_be_replayed_again(
    world: Instance, worker: ScriptedWorker
) -> None:
    bad, _ = await failed_family(world, worker)
    await replay(world, "r")
    await worker.fail(await worker.next(), "still broken")
    again = await worker.next()
    assert (again.workflow_run_id, again.task_name) == ("r", "b")
    await worker.fail(again, "a child failed")
    assert (await world.finished("r", reruns=1))["phase"] == "Failed"
    await replay(world, "r", 2)
    assert (await worker.next()).workflow_run_id == bad


async def test_a_failure_that_a_step_dealt_with_stays(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "parent")
    a = await worker.next()
    tolerated = await worker.spawn(a, key="tolerated")
    await worker.fail(await worker.next(), "it broke")
    await world.finished(tolerated)
    await worker.complete(a)
    await worker.fail(await worker.next(), "for another reason")
    await world.finished("r")
    await replay(world, "r")
    again = await worker.next()
    assert (again.workflow_run_id, again.task_name) == ("r", "b")
    assert (await world.run(tolerated))["status"]["phase"] == "Failed"


async def test_a_tree_is_replayed_from_its_leaves_up_by_one_patch(world: Instance) -> None:
    healed, calls = asyncio.Event(), []

    @hatchet.workflow()
    class Node:
        @hatchet.step(timeout="1m")
        async def work(self, context: Context) -> dict[str, Any]:
            depth = context.workflow_input()["depth"]
            calls.append(context.workflow_run_id())
            if depth:
                refs = [await context.aio.spawn_workflow("Node", {"depth": depth - 1}, key=str(n)) for n in range(2)]
                return {"leaves": sum([(await ref.result())["work"]["leaves"] for ref in refs])}
            if context.child_key() == "1" and not healed.is_set():
                raise RuntimeError("it is sick")
            return {"leaves": 1}

    await world.work(Node())
    await world.create_run("r", "node", {"depth": 3})
    assert (await world.finished("r"))["phase"] == "Failed"

    async def is_over() -> bool:
        return all(run["status"]["phase"] in ("Failed", "Succeeded") for run in await world.runs())

    await eventually(is_over)  # the root ends with the first child that fails
    before = list(calls)
    healed.set()
    await replay(world, "r")
    status = await world.finished("r", reruns=1)
    assert json.loads(status["steps"]["work"]["output"]) == {"leaves": 8}
    depths = {run["metadata"]["name"]: depth_of(run) for run in await world.runs()}
    replayed = [depths[run] for run in calls[len(before) :] if run in before]
    assert (replayed[0], replayed[-1]) == (0, 3)
    assert replayed.count(3) == 1


def depth_of(run: Json) -> int:
    spec = run["spec"]
    return int((spec["input"] if "input" in spec else json.loads(spec["inputJson"]))["depth"])


# --- From the start


async def test_a_replay_from_the_start_has_new_children(world: Instance, worker: ScriptedWorker) -> None:
    bad, good = await failed_family(world, worker)
    before = {name: (await world.run(name))["metadata"]["uid"] for name in (bad, good)}
    await replay(world, "r", origin="Start")
    a = await worker.next()
    assert a.task_name == "a"
    assert not await world.exists(bad)
    assert not await world.exists(good)
    await worker.complete(a)
    b = await worker.next()
    assert await worker.spawn(b, key="good") == good
    assert (await world.run(good))["metadata"]["uid"] != before[good]
    await worker.complete(await worker.next())
    await worker.complete(b)
    status = await world.finished("r", reruns=1)
    assert (status["phase"], status["children"]["total"]) == ("Succeeded", 1)


async def test_a_run_that_succeeded_can_be_replayed_from_the_start_and_has_nothing_that_failed(
    world: Instance, worker: ScriptedWorker
) -> None:
    await world.create_run("r", "child")
    await worker.complete(await worker.next(), {"n": 1})
    await world.finished("r")
    await replay(world, "r")
    status = await world.finished("r", reruns=1)
    assert (status["phase"], json.loads(status["steps"]["work"]["output"])) == ("Succeeded", {"n": 1})
    assert worker.has_nothing_new
    await replay(world, "r", 2, "Start")
    await worker.complete(await worker.next(), {"n": 2})
    status = await world.finished("r", reruns=2)
    assert json.loads(status["steps"]["work"]["output"]) == {"n": 2}


# --- At which moments


async def test_a_replay_of_a_running_run_waits_for_its_end(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "child")
    first = await worker.next()
    await replay(world, "r")
    await world.time_passes(1, "r")
    assert worker.has_nothing_new
    await worker.fail(first, "it broke")
    second = await worker.next()
    assert second.task_run_external_id != first.task_run_external_id
    await worker.complete(second)
    assert (await world.finished("r", reruns=1))["phase"] == "Succeeded"


async def test_a_cancelled_run_is_not_run_again(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "child")
    await worker.next()
    await world.patch_run("r", cancelled=True)
    await world.finished("r")
    for change in ({"reruns": 1}, {"replay": {"number": 1, "from": "Failed"}}):
        with pytest.raises(ApiError, match="a cancelled run stays cancelled, so it can't be run again"):
            await world.patch_run("r", **change)


async def test_a_child_of_a_cancelled_parent_is_cancelled_again(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "child")
    parent = await worker.next()
    child = await worker.spawn(parent, key="a")
    await worker.fail(await worker.next(), "it broke")
    await world.finished(child)
    await world.patch_run("r", cancelled=True)
    await world.finished("r")
    await replay(world, child)
    status = await world.finished(child, reruns=1)
    assert (status["phase"], status["reason"]) == ("Cancelled", "ParentCancelled")


async def test_a_child_is_replayed_while_its_parent_runs(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "child")
    parent = await worker.next()
    child = await worker.spawn(parent, key="a")
    await worker.fail(await worker.next(), "it broke")
    await world.finished(child)
    await replay(world, child)
    again = await worker.next()
    assert again.workflow_run_id == child
    assert await worker.spawn(parent, key="a") == child
    await worker.complete(again, {"n": 1})
    await world.finished(child, reruns=1)
    await worker.complete(parent)
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_suspended_replay_waits_before_it_asks_its_children(world: Instance, worker: ScriptedWorker) -> None:
    bad, _ = await failed_family(world, worker)
    await world.patch_run("r", suspended=True, replay={"number": 1, "from": "Failed"})

    async def says_so() -> bool:
        return bool((await world.run("r"))["status"].get("reason") == "Suspended")

    await eventually(says_so)
    assert worker.has_nothing_new
    assert (await world.run(bad))["spec"].get("replay") is None
    await world.patch_run("r", suspended=False)
    assert (await worker.next()).workflow_run_id == bad


async def test_whoever_awaits_a_replayed_run_gets_the_new_result(world: Instance) -> None:
    healed = asyncio.Event()

    @hatchet.workflow()
    class Task:
        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            if not healed.is_set():
                raise RuntimeError("it is sick")
            return {"n": 1}

    client = await world.work(Task())
    ref = await client.admin.aio.run_workflow("Task", {})
    with pytest.raises(WorkflowRunFailed):
        await ref.result()
    healed.set()
    await replay(world, ref.workflow_run_id)
    assert await client.admin.get_workflow_run(ref.workflow_run_id).result() == {"work": {"n": 1}}


# --- What it costs


async def test_a_replay_of_a_run_without_children_costs_one_write_more(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "child")
    await worker.fail(await worker.next(), "it broke")
    await world.finished("r")
    before = writes(world)
    await replay(world, "r")
    action = await worker.next()
    await world.until_phase("r", "Running")  # otherwise one write may say both
    await worker.complete(action)
    await world.finished("r", reruns=1)
    assert writes(world) - before == 3, "that it began, that it runs, and its end"


def writes(world: Instance) -> int:
    """Return how many statuses of runs the operator has written."""
    return sum(
        count
        for (verb, _, plural, below, _, agent), count in world.server.requests.items()
        if (verb, plural, below, agent) == ("update", "workflowruns", "status", "hatchet-operator")
    )
