"""What a workflow's author may rely on: order, retries, timeouts, cancelling, deletion, priorities, versions."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_sdk import (
    Context,
    Hatchet,
    WorkflowRunCancelled,
    WorkflowRunDeleted,
    WorkflowRunFailed,
)
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.inprocess import (
    NAMESPACE,
    Instance,
    ScriptedWorker,
    errors_of,
    outputs_of,
    running_operator,
    step_of,
)

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(cancel_grace=0.4, running_after=0.2) as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    """A worker that registered nothing yet."""
    return await world.scripted()


async def start(world: Instance, worker: ScriptedWorker, **step: Any) -> wire.AssignedAction:
    """Register workflow "etl" of one step, run it as "r" and return its attempt."""
    await worker.put_workflow("etl", [step])
    await worker.start()
    await world.create_run("r", "etl")
    return await worker.next()


# --- Steps and their order


async def test_a_diamond(world: Instance) -> None:
    both = threading.Barrier(2, timeout=60)

    @hatchet.workflow()
    class Diamond:
        @hatchet.step()
        async def top(self, context: Context) -> dict[str, Any]:
            return {"n": context.workflow_input()["n"]}

        @hatchet.step(parents=["top"])
        def left(self, context: Context) -> dict[str, Any]:
            both.wait()  # the branches run beside each other
            return {"n": context.step_output("top")["n"] + 1}

        @hatchet.step(parents=["top"])
        def right(self, context: Context) -> dict[str, Any]:
            both.wait()
            return {"n": context.step_output("top")["n"] * 10}

        @hatchet.step(parents=["left", "right"])
        async def bottom(self, context: Context) -> dict[str, Any]:
            return {name: context.step_output(name)["n"] for name in ("left", "right")}

    await world.work(Diamond())
    await world.create_run("r", "diamond", {"n": 4})
    status = await world.finished("r")
    assert json.loads(step_of(status, "bottom")["output"]) == {"left": 5, "right": 40}
    times = {name: (step["startedAt"], step["finishedAt"]) for name, step in status["steps"].items()}
    assert times["top"][1] <= times["left"][0]
    assert max(times["left"][1], times["right"][1]) <= times["bottom"][0]


async def test_a_failing_branch_does_not_stop_the_other(world: Instance, worker: ScriptedWorker) -> None:
    steps: list[dict[str, Any]] = [
        {"readable_id": "bad"},
        {"readable_id": "good"},
        {"readable_id": "after", "parents": ["bad"]},
    ]
    await worker.put_workflow("etl", steps)
    await worker.start()
    await world.create_run("r", "etl")
    actions = {(action := await worker.next()).task_name: action for _ in range(2)}
    await worker.fail(actions["bad"], "it broke")
    await worker.complete(actions["good"], {"n": 1})
    status = await world.finished("r")
    assert status["phase"] == "Failed"
    assert {name: step["phase"] for name, step in status["steps"].items()} == {
        "bad": "Failed",
        "good": "Succeeded",
        "after": "Cancelled",
    }
    result = await worker.result("r")
    assert errors_of(result) == ["it broke", "this step run was cancelled due to PREVIOUS_STEP_FAILED"]
    assert outputs_of(result) == {"good": {"n": 1}}


async def test_the_on_failure_step_learns_why(world: Instance) -> None:
    told: list[dict[str, str]] = []

    @hatchet.workflow()
    class Etl:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            raise ValueError("it broke")

        @hatchet.on_failure_step()
        async def tidy(self, context: Context) -> dict[str, str]:
            told.append(context.step_run_errors())
            return {"tidied": "yes"}

    await world.work(Etl())
    await world.create_run("r", "etl")
    status = await world.finished("r")
    assert (status["phase"], step_of(status, "tidy")["phase"]) == ("Failed", "Succeeded")
    assert told[0]["work"].startswith("it broke\nTraceback")


# --- Retries


async def test_the_next_attempt_waits_its_backoff(world: Instance, worker: ScriptedWorker) -> None:
    action = await start(world, worker, retries=2, backoff_factor=1.0)
    await worker.fail(action, "once")
    step = step_of((await world.run("r"))["status"])
    assert (step["phase"], step["attempt"], step["error"]) == ("Pending", 1, "once")
    second = await worker.next()
    assert datetime.now().astimezone() >= datetime.fromisoformat(step["retryAt"])
    assert second.retry_count == 1
    assert second.task_run_external_id != action.task_run_external_id
    await worker.fail(second, "twice", retry_after_ms=100)
    third = await worker.next()
    await worker.complete(third, {"n": 3})
    status = await world.finished("r")
    assert (status["phase"], step_of(status)["attempt"]) == ("Succeeded", 2)


async def test_a_step_that_may_not_be_retried_fails_at_once(world: Instance, worker: ScriptedWorker) -> None:
    await worker.fail(await start(world, worker, retries=5), should_not_retry=True)
    assert (await world.finished("r"))["phase"] == "Failed"
    assert worker.has_nothing_new


async def test_words_of_an_attempt_that_is_over_are_ignored(world: Instance, worker: ScriptedWorker) -> None:
    first = await start(world, worker, retries=1)
    await worker.fail(first)
    second = await worker.next()
    await worker.complete(first, {"n": "late"})
    await worker.fail(first, "late")
    assert (await world.run("r"))["status"]["phase"] != "Succeeded"
    await worker.complete(second, {"n": 2})
    await worker.complete(second, {"n": "twice"})
    assert json.loads(step_of(await world.finished("r"))["output"]) == {"n": 2}


# --- Timeouts


async def test_a_timeout_without_retries_is_final(world: Instance, worker: ScriptedWorker) -> None:
    action = await start(world, worker, timeout="300ms")
    status = await world.finished("r")
    await worker.until_cancelled(action)
    await worker.complete(action, {"n": "late"})
    assert (status["phase"], status["reason"], step_of(status)["error"]) == (
        "Failed",
        "TimedOut",
        "TIMED_OUT: timeout 300ms of step work",
    )
    assert errors_of(await worker.result("r")) == ["TIMED_OUT"]


async def test_a_timeout_with_retries_is_told_and_then_retried_once(world: Instance, worker: ScriptedWorker) -> None:
    began = time.monotonic()  # before it is given out: how long that takes to arrive is nobody's promise
    first = await start(world, worker, timeout="300ms", retries=1)
    await worker.until_cancelled(first)
    second = await worker.next()
    assert time.monotonic() - began > 0.69  # 0.3 s and the grace of 0.4 s, by the operator's clock
    assert second.retry_count == 1
    await worker.until_cancelled(second)
    status = await world.finished("r")
    assert (status["phase"], step_of(status)["attempt"]) == ("Failed", 1)
    assert worker.has_nothing_new


async def test_a_completion_within_the_grace_counts() -> None:
    async with running_operator(cancel_grace=3600) as world:
        worker = await world.scripted()
        action = await start(world, worker, timeout="300ms", retries=1)
        await worker.until_cancelled(action)
        await worker.complete(action)
        status = await world.finished("r")
        assert (status["phase"], step_of(status)["attempt"]) == ("Succeeded", 0)
        assert "output" not in step_of(status)
        assert worker.has_nothing_new


async def test_a_timeout_can_be_refreshed(world: Instance, worker: ScriptedWorker) -> None:
    action = await start(world, worker, timeout="4s")  # in which the call has to arrive
    request = wire.RefreshTimeoutRequest(task_run_external_id=action.task_run_external_id, increment_timeout_by="1m")
    await worker.call(worker.dispatcher.RefreshTimeout, request)
    await asyncio.sleep(4.3)  # what is tested is that nothing happens
    assert worker.cancelled == []
    await worker.complete(action, {"n": 1})
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_steps_learn_of_their_timeout(world: Instance) -> None:
    ended: list[str] = []

    @hatchet.workflow()
    class Slow:
        @hatchet.step(timeout="4s")  # in which both have to begin
        async def coroutine(self, context: Context) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("coroutine")
                raise

        @hatchet.step(timeout="4s")
        def thread(self, context: Context) -> None:
            while not context.done():
                time.sleep(0.01)
            ended.append("thread")

    await world.work(Slow())
    await world.create_run("r", "slow")
    assert (await world.finished("r"))["reason"] == "TimedOut"
    await world.until(lambda: sorted(ended) == ["coroutine", "thread"])


# --- The schedule timeout


async def test_a_workflow_without_a_worker_fails_and_says_whose_is_missing(
    world: Instance, worker: ScriptedWorker
) -> None:
    await worker.put_workflow("etl", schedule_timeout="300ms")
    await world.create_run("r", "etl")
    status = await world.finished("r")
    assert (status["phase"], status["reason"]) == ("Failed", "SchedulingTimedOut")
    want = 'no worker of pool "main" that offers "etl:work" was connected for 300ms'
    assert want in status["message"]
    assert want in errors_of(await worker.result("r"))[0]


async def test_a_long_healthy_queue_is_not_an_error(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl", schedule_timeout="200ms")
    await worker.start(slots=1)
    await world.until(lambda: world.connected() == 1)
    await world.create_run("first", "etl")
    busy = await worker.next()
    await world.create_run("second", "etl")
    await asyncio.sleep(0.5)  # longer than the timeout; what is tested is that nothing happens
    assert await world.phase("second") == "Pending"
    await worker.complete(busy)
    await worker.complete(await worker.next())
    assert (await world.finished("second"))["phase"] == "Succeeded"


async def test_a_queue_can_be_an_error_if_a_person_wants_it(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_workflow("etl", scheduleTimeoutCounts="Queue", scheduleTimeout="200ms")
    await worker.put_workflow("etl")
    await worker.start(slots=1)
    await world.until(lambda: world.connected() == 1)
    await world.create_run("first", "etl")
    await worker.next()
    await world.create_run("second", "etl")
    status = await world.finished("second")
    assert status["reason"] == "SchedulingTimedOut"
    assert 'it was in the queue of pool "main" for 200ms' in status["message"]


# --- Cancelling and deleting


async def test_cancelling_reaches_the_worker_and_whoever_awaits(world: Instance, worker: ScriptedWorker) -> None:
    action = await start(world, worker)
    awaiting = asyncio.create_task(worker.result("r"))
    await world.patch_run("r", cancelled=True)
    await worker.until_cancelled(action)
    result = await awaiting
    assert (result.phase, errors_of(result)) == (
        "Cancelled",
        ["this step run was cancelled due to JOB_RUN_CANCELLED"],
    )
    await worker.complete(action, {"n": "late"})
    status = await world.finished("r")
    assert (status["phase"], status["reason"]) == ("Cancelled", "CancelRequested")


async def test_no_child_that_waits_is_given_out_while_its_tree_is_cancelled(
    world: Instance, worker: ScriptedWorker
) -> None:
    await worker.put_workflow("etl")
    await worker.start(slots=3)
    await world.create_run("r", "etl")
    root = await worker.next()
    children = [await worker.spawn(root, "etl", key=str(number)) for number in range(20)]
    begun = [await worker.next() for _ in range(2)]  # the root has the third slot
    await world.patch_run("r", cancelled=True)
    for child in children:
        assert (await world.finished(child))["reason"] == "ParentCancelled"
    for action in (root, *begun):
        await worker.until_cancelled(action)
    assert worker.has_nothing_new


async def test_who_waits_below_a_finished_child_goes_on_when_the_root_is_cancelled() -> None:
    async with running_operator(waiting_told_after=timedelta(hours=1)) as world:  # a timer would find it otherwise
        worker = await world.scripted()
        for name in ("root", "child", "grandchild", "blocker"):
            await worker.put_workflow(name, [{}])
        await worker.start(slots=2)
        root = await worker.trigger("root")
        root_attempt = await worker.next()
        child = await worker.spawn(root_attempt, "child")
        child_attempt = await worker.next()
        blocker = await worker.trigger("blocker")
        grandchild = await worker.spawn(child_attempt, "grandchild")
        await worker.complete(child_attempt, {})
        blocker_attempt = await worker.next()
        assert blocker_attempt.workflow_run_id == blocker
        await world.finished(child)
        await world.patch_run(root, cancelled=True)
        await world.finished(root)
        await worker.complete(blocker_attempt, {})
        assert (await worker.next()).workflow_run_id == grandchild


async def test_children_that_are_left_behind_go_on(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.start(slots=2)
    await world.create_run("r", "etl")
    root = await worker.next()
    child = await worker.spawn(root, "etl", key="c")
    in_child = await worker.next()
    waits = await worker.spawn(root, "etl", key="w")
    await world.api.delete(RUNS, NAMESPACE, "r", propagation="Orphan")
    await world.until_gone("r")
    await worker.complete(in_child)
    await worker.complete(await worker.next())
    for name in (child, waits):
        assert (await world.finished(name))["phase"] == "Succeeded"


async def test_deleting_a_run_removes_its_tree_and_tells_everybody(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl")
    root = await worker.next()
    middle = await worker.spawn(root, "etl", key="m")
    in_middle = await worker.next()
    leaf = await worker.spawn(in_middle, "etl", key="l")
    in_leaf = await worker.next()
    awaiting = [asyncio.create_task(worker.result(name)) for name in ("r", leaf)]
    await asyncio.wait(awaiting, timeout=0.2)
    await world.delete_run("r")
    for name in ("r", middle, leaf):
        await world.until_gone(name)
    for action in (root, in_middle, in_leaf):
        await worker.until_cancelled(action)
    for name, result in zip(("r", leaf), await asyncio.gather(*awaiting), strict=True):
        assert result.phase == "Deleted"
        assert errors_of(result)[0].startswith(f"run {name} was deleted")
    result = await worker.result("r")
    assert errors_of(result) == ["run r was deleted, or there never was one"]


async def test_ends_of_runs_as_exceptions(world: Instance) -> None:
    @hatchet.workflow()
    class Etl:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            if context.workflow_input()["then"] == "fail":
                raise ValueError("it broke")
            await asyncio.sleep(60)

    admin = (await world.work(Etl())).admin
    failing = await admin.aio.run_workflow("Etl", {"then": "fail"})
    with pytest.raises(WorkflowRunFailed, match=r"Workflow Errors: \['it broke") as caught:
        await failing.result()
    assert caught.value.errors["work"].endswith("ValueError: it broke\n")
    cancelled, deleted = [await admin.aio.run_workflow("Etl", {"then": "hang"}) for _ in range(2)]
    await world.patch_run(str(cancelled), cancelled=True)
    with pytest.raises(WorkflowRunCancelled):
        await cancelled.result()
    ends = asyncio.create_task(deleted.result())
    await asyncio.wait([ends], timeout=0.2)
    await world.delete_run(str(deleted))
    with pytest.raises(WorkflowRunDeleted, match=f"^run {deleted} was deleted"):
        await ends
    with pytest.raises(WorkflowRunDeleted, match=r"^run nobody was deleted, or there never was one$"):
        await admin.get_workflow_run("nobody").result()


async def test_finished_runs_are_deleted_after_their_ttl_when_the_whole_tree_is_final(
    world: Instance, worker: ScriptedWorker
) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl", ttl="300ms")
    await world.create_run("kept", "etl")
    root, kept = await worker.next(), await worker.next()
    if root.workflow_run_id != "r":
        root, kept = kept, root
    child = await worker.spawn(root, "etl", key="c")
    in_child = await worker.next()
    grandchild = await worker.spawn(in_child, "etl", key="g")
    in_grandchild = await worker.next()
    await worker.complete(kept)
    await worker.complete(in_child)
    await worker.complete(root)
    await world.finished("r")
    await asyncio.sleep(0.6)  # longer than the ttl; what is tested is that nothing happens
    assert await world.exists("r")
    await worker.complete(in_grandchild)
    for name in ("r", child, grandchild):
        await world.until_gone(name)
    assert await world.exists("kept")


async def test_a_deleted_grandchild_does_not_keep_a_tree_for_ever(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl", ttl="100ms")
    root = await worker.next()
    await worker.spawn(root, "etl", key="c")
    in_child = await worker.next()
    grandchild = await worker.spawn(in_child, "etl", key="g")
    await worker.complete(in_child)
    await worker.complete(root)
    await world.finished("r")
    await asyncio.sleep(0.3)  # the ttl is over, the grandchild still runs
    await world.delete_run(grandchild)
    await world.until_gone("r")


# --- What a person sets


async def test_a_suspended_workflow_starts_nothing(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    await worker.start()
    await world.create_run("running", "etl")
    a = await worker.next()
    await world.patch_workflow("etl", suspended=True)
    await world.create_run("waiting", "etl")
    await worker.complete(a)
    await asyncio.sleep(0.3)  # what is tested is that nothing happens
    assert worker.has_nothing_new
    assert (await world.phase("running"), await world.phase("waiting")) == ("Running", "Pending")
    await world.patch_workflow("etl", suspended=False)
    started = {(action.workflow_run_id, action.task_name) for action in [await worker.next(), await worker.next()]}
    assert started == {("running", "b"), ("waiting", "a")}


async def test_overrides_of_a_person_count(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_workflow("etl", steps={"work": {"timeout": "300ms", "retries": 1}})
    first = await start(world, worker, timeout="1h")
    await worker.until_cancelled(first)
    second = await worker.next()
    assert second.retry_count == 1
    await world.finished("r")
    workflow = await world.workflow("etl")
    assert workflow["spec"] == {"steps": {"work": {"timeout": "300ms", "retries": 1}}} | {
        name: workflow["spec"][name] for name in workflow["spec"] if name != "steps"
    }
    assert workflow["status"]["definition"]["steps"][0]["timeout"] == "1h"


async def test_the_higher_priority_goes_first(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.put_workflow("urgent", default_priority=3)
    await worker.start(slots=1)
    await world.create_run("blocking", "etl")
    blocking = await worker.next()
    await world.create_run("low", "etl")
    await world.create_run("high", "etl", priority=3)
    await world.create_run("middle", "etl", priority=2)
    await world.create_run("urgent", "urgent")
    await world.create_run("late", "urgent", priority=1)
    await world.until(lambda: sum(world.engine.runs.attempts.queue.depth().values()) == 5)
    await worker.complete(blocking)
    order = []
    for _ in range(5):
        action = await worker.next()
        order.append(action.workflow_run_id)
        await worker.complete(action)
    assert order == ["high", "urgent", "middle", "low", "late"]


async def test_a_finished_run_is_executed_again_when_a_person_asks(world: Instance, worker: ScriptedWorker) -> None:
    first = await start(world, worker)
    await worker.fail(first, "the first time")
    assert (await world.finished("r"))["phase"] == "Failed"
    await world.patch_run("r", reruns=1)
    second = await worker.next()
    assert (second.retry_count, second.task_run_external_id == first.task_run_external_id) == (0, False)
    await worker.complete(first, {"n": "late"})
    await worker.complete(second, {"n": 2})
    status = await world.finished("r", reruns=1)
    assert (status["phase"], status["reruns"], step_of(status)["output"]) == ("Succeeded", 1, '{"n": 2}')


# --- Slots


async def test_one_slot_is_enough_for_three_levels(world: Instance) -> None:
    @hatchet.workflow()
    class Node:
        @hatchet.step()
        async def work(self, context: Context) -> dict[str, int]:
            depth = context.workflow_input()["depth"]
            if depth == 0:
                return {"leaves": 1}
            refs = [await context.aio.spawn_workflow("Node", {"depth": depth - 1}, key=str(n)) for n in range(2)]
            results = await asyncio.gather(*(ref.result() for ref in refs))
            return {"leaves": sum(result["work"]["leaves"] for result in results)}

    await world.work(Node(), slots=1)
    await world.create_run("r", "node", {"depth": 3})
    assert json.loads(step_of(await world.finished("r"))["output"]) == {"leaves": 8}


async def test_one_slot_is_enough_for_sync_parents(world: Instance) -> None:
    @hatchet.workflow()
    class Node:
        @hatchet.step()
        def work(self, context: Context) -> dict[str, int]:
            depth = context.workflow_input()["depth"]
            if depth == 0:
                return {"leaves": 1}
            refs = [context.spawn_workflow("Node", {"depth": depth - 1}, key=str(n)) for n in range(2)]
            return {"leaves": sum(ref.sync_result()["work"]["leaves"] for ref in refs)}

    await world.work(Node(), slots=1)
    await world.create_run("r", "node", {"depth": 2})
    assert json.loads(step_of(await world.finished("r"))["output"]) == {"leaves": 4}


async def test_a_retried_parent_that_awaits_again_does_not_starve_its_child(world: Instance) -> None:
    """The first attempt timed out while it awaited; the second awaits the same child, which needs the only slot."""

    @hatchet.workflow()
    class Parent:
        @hatchet.step(timeout="3s", retries=1)
        async def spawn(self, context: Context) -> dict[str, Any]:
            if context.retry_count() > 0:
                await context.aio.refresh_timeout("1m")
            child = await context.aio.spawn_workflow("Child", {}, key="c")
            return await child.result()

    @hatchet.workflow()
    class Child:
        @hatchet.step(retries=1, backoff_factor=5)
        async def work(self, context: Context) -> dict[str, Any]:
            if context.retry_count() == 0:
                raise RuntimeError("once more, after the parent timed out")
            return {"n": 1}

    await world.work(Parent(), Child(), slots=1)
    await world.create_run("r", "parent")
    status = await world.finished("r")
    assert (status["phase"], step_of(status, "spawn")["attempt"]) == ("Succeeded", 1)


# --- Versions of a workflow


async def test_a_run_finishes_with_the_definition_it_began_with(world: Instance, worker: ScriptedWorker) -> None:
    old = await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "c", "parents": ["a"]}])
    await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    await worker.start()
    await world.create_run("old", "etl")
    a = await worker.next()
    await world.until_phase("old", "Running")
    new = await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "c", "parents": ["a"]}])
    await worker.complete(a)
    b = await worker.next()
    assert b.task_name == "b"
    await world.create_run("new", "etl")
    await worker.complete(await worker.next())
    c = await worker.next()
    assert c.task_name == "c"
    await worker.complete(b)
    await worker.complete(c)
    assert (await world.finished("old"))["definition"] == old
    assert (await world.finished("new"))["definition"] == new
    assert old != new


async def test_unfinished_runs_of_a_deleted_workflow_go_on(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    await worker.start()
    await world.create_run("r", "etl")
    a = await worker.next()
    await world.api.delete(WORKFLOWS, NAMESPACE, "etl")
    await world.until(lambda: not world.engine.workflows.known())
    await worker.complete(a)
    await worker.complete(await worker.next(), {"n": 1})
    assert (await world.finished("r"))["phase"] == "Succeeded"


# --- The SDK from outside of a step


async def test_running_workflows_from_outside(world: Instance) -> None:
    @hatchet.workflow()
    class Etl:
        @hatchet.step()
        def work(self, context: Context) -> dict[str, Any]:
            return {"n": context.workflow_input()["n"], "team": context.additional_metadata().get("team")}

    admin = (await world.work(Etl())).admin

    def outside() -> list[Any]:
        one = admin.run_workflow("Etl", {"n": 0}, {"additional_metadata": {"team": "data"}})
        many = admin.run_workflows([{"workflow_name": "Etl", "input": {"n": n}} for n in (1, 2)])
        found = [admin.get_workflow_run(str(ref)) for ref in (one, *many)]
        return [ref.sync_result(timeout=60)["work"] for ref in found]

    want = [{"n": 0, "team": "data"}, {"n": 1, "team": None}, {"n": 2, "team": None}]
    assert await asyncio.to_thread(outside) == want


async def test_many_children_at_once(world: Instance) -> None:
    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> dict[str, Any]:
            spawns = (context.aio.spawn_workflow("Child", {"n": n}, key=f"c{n}") for n in range(100))
            refs = await asyncio.gather(*spawns)
            results = await asyncio.gather(*(ref.result() for ref in refs))
            return {"sum": sum(result["work"]["n"] for result in results)}

    @hatchet.workflow()
    class Child:
        @hatchet.step()
        def work(self, context: Context) -> dict[str, Any]:
            return {"n": context.workflow_input()["n"]}

    await world.work(Parent(), Child())
    await world.create_run("r", "parent")
    status = await world.finished("r")
    assert json.loads(step_of(status, "spawn")["output"]) == {"sum": 4950}
    assert status["children"]["summary"] == "100/100"
    assert len(await world.runs()) == 101


async def test_failed_root_runs_have_a_ttl_of_their_own() -> None:
    async with running_operator(run_ttl=0.1, failed_run_ttl=3600) as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await worker.start()
        for name in ("good", "bad", "cancelled"):
            await world.create_run(name, "etl")
            action = await worker.next()
            if name == "good":
                await worker.complete(action)
            elif name == "bad":
                await worker.fail(action)
            else:
                await world.patch_run(name, cancelled=True)
        for name in ("good", "cancelled"):
            await world.until_gone(name)
        assert (await world.finished("bad"))["phase"] == "Failed"
