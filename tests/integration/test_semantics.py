"""What a workflow's author may rely on: order, retries, timeouts, cancelling, deletion, priorities, versions."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_sdk import (
    ClientConfig,
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    Hatchet,
    NonRetryableError,
    RetryAfterError,
    WorkflowRunCancelled,
    WorkflowRunDeleted,
    WorkflowRunFailed,
)
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.inprocess import (
    NAMESPACE,
    SECONDS,
    Instance,
    ScriptedWorker,
    errors_of,
    operator_of,
    outputs_of,
    running_operator,
    running_server,
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


async def test_the_on_failure_step_runs_once_for_each_execution(world: Instance) -> None:
    began: list[tuple[str, int]] = []

    @hatchet.workflow()
    class Etl:
        @hatchet.step(retries=2)
        async def work(self, context: Context) -> None:
            began.append(("work", context.retry_count()))
            raise ValueError("it broke")

        @hatchet.on_failure_step(retries=1)
        async def tidy(self, context: Context) -> dict[str, str]:
            began.append(("tidy", context.retry_count()))
            if context.retry_count() == 0:
                raise ValueError("once")
            return context.step_run_errors()

    await world.work(Etl())
    await world.create_run("r", "etl")
    once = [("work", 0), ("work", 1), ("work", 2), ("tidy", 0), ("tidy", 1)]
    assert (await world.finished("r"))["phase"] == "Failed"
    assert began == once
    await world.patch_run("r", reruns=1)
    status = await world.finished("r", reruns=1)
    assert (status["phase"], step_of(status, "tidy")["phase"]) == ("Failed", "Succeeded")
    assert began == once * 2


class Tidying:
    """A workflow whose last step runs after what it is told; its first one waits until it is cancelled, or ends so."""

    def __init__(self, run_on: Any) -> None:
        self.seen = seen = []  # type: ignore[var-annotated]  # of whatever happens

        @hatchet.workflow()
        class Etl:
            @hatchet.step()
            async def work(self, context: Context) -> dict[str, int]:
                seen.append("work")
                match context.workflow_input()["how"]:
                    case "fail":
                        raise ValueError("it broke")
                    case "wait":
                        await asyncio.sleep(60)
                return {"n": 1}

            @hatchet.on_failure_step(run_on=run_on)
            async def tidy(self, context: Context) -> dict[str, list[str]]:
                seen.append("tidy")
                return {"errors": sorted(context.step_run_errors())}

        self.workflow = Etl()


@pytest.mark.parametrize(
    ("run_on", "want"),
    [
        ("failure", {"fail"}),
        ("cancel", {"wait"}),
        ("failure_or_cancel", {"fail", "wait"}),
        ("always", {"fail", "wait", "end"}),
    ],
)
async def test_the_last_step_runs_after_the_ends_that_it_names(world: Instance, run_on: Any, want: set[str]) -> None:
    tidying = Tidying(run_on)
    await world.work(tidying.workflow)
    phases = {"fail": "Failed", "wait": "Cancelled", "end": "Succeeded"}
    for how, phase in phases.items():
        tidying.seen.clear()
        await world.create_run(how, "etl", {"how": how})
        await world.until(lambda: bool(tidying.seen))
        if how == "wait":
            await world.patch_run(how, cancelled=True)
        status = await world.finished(how)
        assert status["phase"] == phase
        assert tidying.seen == ["work"] + ["tidy"] * (how in want)
        if how in want:
            errors = [] if how == "end" else ["work"]
            assert json.loads(step_of(status, "tidy")["output"]) == {"errors": errors}


async def test_a_run_that_is_cancelled_before_it_began_has_nothing_to_tidy(world: Instance) -> None:
    tidying = Tidying("always")
    await world.work(tidying.workflow)
    await world.patch_workflow("etl", suspended=True)
    await world.create_run("r", "etl", {"how": "end"})
    await world.patch_run("r", cancelled=True)
    assert (await world.finished("r"))["phase"] == "Cancelled"
    assert tidying.seen == []


async def test_a_person_says_when_the_last_step_runs_and_it_outlives_a_restart() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url) as world:
            await world.create_workflow("etl", onFailure={"runOn": "FailureOrCancel"})
            worker = await world.scripted()
            await worker.put_workflow("etl", [{}], on_failure={"readable_id": "tidy"})
            await worker.start()
            await world.create_run("r", "etl")
            action = await worker.next()
            await world.patch_run("r", cancelled=True)
            await worker.until_cancelled(action)
            assert (await worker.next()).task_name == "tidy"
            status = (await world.run("r"))["status"]
            assert (status["phase"], status["message"]) == ("Running", "spec.cancelled was set; its last step runs")
        async with operator_of(server, url, rejoin=0.5) as world:  # the worker from before does not come back
            worker = await world.scripted()
            await worker.put_workflow("etl", [{}], on_failure={"readable_id": "tidy"})
            await worker.start()
            again = await worker.next()
            assert again.task_name == "tidy"
            await worker.complete(again, {"tidied": True})
            status = await world.finished("r")
            assert (status["phase"], step_of(status, "tidy")["phase"]) == ("Cancelled", "Succeeded")


# --- Limits


async def test_runs_of_one_user_go_one_after_the_other_and_those_of_two_beside_each_other(world: Instance) -> None:
    both = asyncio.Barrier(2)
    going: list[str] = []
    most: list[int] = []

    @hatchet.workflow(
        name="Limited", concurrency=ConcurrencyExpression("input.user", 1, ConcurrencyLimitStrategy.QUEUE_NEWEST)
    )
    class Limited:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            user = context.workflow_input()["user"]
            going.append(user)
            most.append(going.count(user))
            await both.wait()  # with the other user's: neither waits for the other
            going.remove(user)

    await world.work(Limited())
    for number in range(3):
        for user in ("ada", "bob"):
            await world.create_run(f"{user}-{number}", "limited", {"user": user})
    for number in range(3):
        for user in ("ada", "bob"):
            assert (await world.finished(f"{user}-{number}"))["phase"] == "Succeeded"
    assert most == [1] * 6


async def test_the_newest_run_of_a_group_takes_the_place_of_the_one_that_runs(world: Instance) -> None:
    cancelled: list[str] = []

    @hatchet.workflow(name="Limited", concurrency=ConcurrencyExpression("'all'"))
    class Limited:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            if not context.workflow_input().get("last"):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(context.workflow_run_id())
                    raise

    await world.work(Limited())
    await world.create_run("old", "limited")
    await world.until(lambda: len(world.engine.runs.attempts) == 1)
    await world.create_run("new", "limited", {"last": True})
    assert (await world.finished("new"))["phase"] == "Succeeded"
    status = await world.finished("old")
    assert (status["phase"], status["reason"]) == ("Cancelled", "ConcurrencyLimit")
    await world.until(lambda: cancelled == ["old"])


# --- Triggers


async def test_events_and_times_start_runs_from_a_program(world: Instance) -> None:
    @hatchet.workflow(name="Welcome", on_events=["user:create"])
    class Welcome:
        @hatchet.step()
        async def greet(self, context: Context) -> dict[str, Any]:
            return {"user": context.workflow_input()["user"], "event": context.triggered_by_event()}

    client = await world.work(Welcome())
    for _ in range(2):  # the second is the same event
        event = await client.event.aio_push("user:create", {"user": "ada"}, {"event_id": "signup-ada"})
        assert event.event_id == "signup-ada"
    many = await client.event.aio_bulk_push([{"key": "user:create", "payload": {"user": "bob"}}, {"key": "no:body"}])
    assert [each.key for each in many] == ["user:create", "no:body"]
    begun_at = datetime.now()
    (ref,) = await client.admin.aio.schedule_workflow("Welcome", [begun_at + timedelta(seconds=1)], {"user": "cyd"})
    assert await ref.result() == {"greet": {"user": "cyd", "event": False}}
    (run,) = await world.runs("hatchet-operator.dev/event=signup-ada,hatchet-operator.dev/workflow=welcome")
    status = await world.finished(run["metadata"]["name"])
    assert json.loads(step_of(status, "greet")["output"]) == {"user": "ada", "event": True}
    assert datetime.now() - begun_at >= timedelta(seconds=1)
    runs, _ = await world.api.list_all(RUNS, NAMESPACE)
    assert sorted(run["spec"]["inputJson"] for run in runs) == [
        '{"user":"ada"}',
        '{"user":"bob"}',
        '{"user":"cyd"}',
    ]


async def test_a_step_that_is_tried_again_finds_the_children_that_it_scheduled(world: Instance) -> None:
    asked_at: list[datetime] = []

    @hatchet.workflow(name="Child")
    class Child:
        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            return {"key": context.child_key(), "at": datetime.now(UTC).isoformat()}

    @hatchet.workflow(name="Parent")
    class Parent:
        @hatchet.step(retries=1)
        async def plan(self, context: Context) -> dict[str, Any]:
            asked_at.append(datetime.now(UTC))
            soon = asked_at[-1] + timedelta(seconds=1)
            refs = await context.aio.schedule_workflow("Child", [soon, soon + timedelta(days=1)], {"a": 1})
            (keyed,) = await context.aio.schedule_workflow("Child", [soon], key="k")
            if context.retry_count() == 0:
                raise RuntimeError("once more")
            results = [await refs[0].result(), await keyed.result()]
            return {"results": results, "far": refs[1].workflow_run_id}

        @hatchet.step(parents=["plan"])
        def more(self, context: Context) -> dict[str, Any]:
            (ref,) = context.schedule_workflow("Child", [datetime.now(UTC)])
            return {"child": ref.sync_result()["work"]["key"]}

    await world.work(Child(), Parent())
    await world.create_run("r", "parent", {})
    status = await world.finished("r")
    assert status["phase"] == "Succeeded", status
    output = json.loads(step_of(status, "plan")["output"])
    assert [result["work"]["key"] for result in output["results"]] == ["", "k"]
    began = [datetime.fromisoformat(result["work"]["at"]) for result in output["results"]]
    assert all(at >= asked_at[0] + timedelta(seconds=1) for at in began)
    children = await world.runs("hatchet-operator.dev/root=r")
    assert len([run for run in children if run["metadata"]["name"] != "r"]) == 4, "each once"
    far = await world.run(output["far"])
    assert far["spec"]["startAt"][:19] == (asked_at[0] + timedelta(days=1, seconds=1)).isoformat()[:19]


@pytest.mark.parametrize("events", [[{"payload": {}}], ["user:create"], [{"key": ""}]])
def test_an_event_without_a_key_is_refused_where_it_is_written(events: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a (mapping with a key|text)"):
        Hatchet(config=ClientConfig(token="t", host_port="nowhere:1", tls_strategy="none")).event.bulk_push(events)


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


async def test_a_list_of_delays_and_an_error_that_names_its_own(world: Instance) -> None:
    began: list[float] = []

    class Busy(RetryAfterError):
        """An error of a user, raised as an HTTP client would."""

    @hatchet.workflow()
    class Etl:
        @hatchet.step(retries=3, backoff_delays=["300ms", "1h"], backoff_jitter=0.1)
        async def work(self, context: Context) -> dict[str, int]:
            began.append(time.monotonic())
            if context.retry_count() == 0:
                raise ValueError("once")
            if context.retry_count() == 1:
                raise Busy("503", retry_after=0.6)  # instead of the hour
            if context.retry_count() == 2:
                raise Busy("503", retry_after=timedelta(milliseconds=100))
            return {"attempts": context.retry_count() + 1}

    await world.work(Etl())
    await world.create_run("r", "etl")
    status = await world.finished("r")
    assert json.loads(step_of(status)["output"]) == {"attempts": 4}
    waits = [after - before for before, after in pairwise(began)]
    assert [wait >= least for wait, least in zip(waits, (0.269, 0.599, 0.099), strict=True)] == [True] * 3, waits


async def test_an_error_that_is_never_tried_again(world: Instance) -> None:
    @hatchet.workflow()
    class Etl:
        @hatchet.step(retries=3)
        async def work(self, context: Context) -> None:
            raise NonRetryableError("no such account")

    await world.work(Etl())
    await world.create_run("r", "etl")
    status = await world.finished("r")
    assert (status["phase"], step_of(status)["attempt"]) == ("Failed", 0)
    assert step_of(status)["error"].startswith("no such account")


async def test_a_backoff_goes_on_over_a_restart_of_the_operator() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url) as world:
            worker = await world.scripted()
            action = await start(world, worker, retries=1)
            await worker.fail(action, "once", retry_after_ms=1500)
            retry_at = datetime.fromisoformat(step_of((await world.run("r"))["status"])["retryAt"])
        # So soon, the last operator may have assigned it to the worker that does not come back.
        async with operator_of(server, url, rejoin=0.5) as world:
            worker = await world.scripted()
            await worker.put_workflow("etl", [{"retries": 1}])
            await worker.start()
            again = await worker.next()
            assert datetime.now().astimezone() >= retry_at
            assert again.retry_count == 1
            await worker.complete(again, {"n": 1})
            assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_persons_backoff_counts(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_workflow("etl", steps={"work": {"retries": 1, "backoffDelays": ["1h"], "backoffJitter": 0.5}})
    await worker.fail(await start(world, worker, backoff_factor=1.0), "once")
    step = step_of((await world.run("r"))["status"])
    wait = datetime.fromisoformat(step["retryAt"]) - datetime.now().astimezone()
    assert timedelta(minutes=29) < wait <= timedelta(hours=1)


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
    action = await start(world, worker, timeout="30s")
    request = wire.RefreshTimeoutRequest(task_run_external_id=action.task_run_external_id, increment_timeout_by="1m")
    await worker.call(worker.dispatcher.RefreshTimeout, request)
    await world.time_passes(60, "r")
    assert worker.cancelled == []
    await worker.complete(action, {"n": 1})
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_steps_learn_of_their_timeout(world: Instance) -> None:
    both = threading.Barrier(3, timeout=SECONDS)
    ended: list[str] = []

    @hatchet.workflow()
    class Slow:
        @hatchet.step(timeout="1m")
        async def coroutine(self, context: Context) -> None:
            await asyncio.to_thread(both.wait)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("coroutine")
                raise

        @hatchet.step(timeout="1m")
        def thread(self, context: Context) -> None:
            both.wait()
            while not context.done():
                time.sleep(0.01)
            ended.append("thread")

    await world.work(Slow())
    await world.create_run("r", "slow")
    await asyncio.to_thread(both.wait)
    await world.time_passes(61, "r")
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
    await world.time_passes(1, "second")  # longer than the timeout
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
    assert errors_of(result) == ["run r was deleted, or never existed"]


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
    with pytest.raises(WorkflowRunDeleted, match=r"^run nobody was deleted, or never existed$"):
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
    await world.time_passes(1, "r")  # longer than the ttl
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
    await world.time_passes(1, "r")  # the ttl is over, the grandchild still runs
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
    for name in ("running", "waiting"):
        await world.time_passes(1, name)
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
