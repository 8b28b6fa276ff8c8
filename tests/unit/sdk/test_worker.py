"""A worker's life: registration, attempts, outcomes, cancelling, lost operators."""

import asyncio
import dataclasses
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from pydantic import BaseModel

from hatchet_sdk import AccessDenied, ClientConfig, Context, Hatchet, NonRetryableError, NotConfigured
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._runner import session
from hatchet_sdk.contracts import dispatcher_pb2 as dispatcher
from hatchet_sdk.contracts import workflows_pb2 as workflows
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, Run, eventually

Working = Callable[..., None]
declare = Hatchet()


def make_workflow(function: Callable[[Context], Any], **options: Any) -> object:
    """Make a workflow "W" with one step "s" that calls ``function``."""
    if asyncio.iscoroutinefunction(function):

        @declare.step("s", **options)
        async def step(self: object, context: Context) -> Any:
            return await function(context)

    else:

        @declare.step("s", **options)
        def step(self: object, context: Context) -> Any:
            return function(context)

    made: object = declare.workflow("W")(type("W", (), {"s": step}))()
    return made


def test_actions_that_come_in_one_message_are_all_executed(working: Working, operator: FakeOperator) -> None:
    working(make_workflow(lambda context: context.workflow_input()))
    eventually(lambda: operator.streams)
    runs: list[str] = []

    def start_together() -> None:
        streams = dict(operator.streams)
        operator.streams.clear()  # so that they are queued
        requests = [workflows.TriggerWorkflowRequest(name="W", input=f'{{"n":{n}}}') for n in range(3)]
        runs.extend(operator.make_run(request).id for request in requests)
        operator.streams.update(streams)
        first, *others = operator.queue
        first.more.extend(others)
        operator.queue.clear()
        next(iter(streams.values())).actions.put_nowait(first)

    operator.do(start_together)
    assert [operator.finished(run).outputs for run in runs] == [{"s": f'{{"n":{n}}}'} for n in range(3)]


def finish(operator: FakeOperator, **input: object) -> Run:
    return operator.finished(operator.run("W", **input))


# Registration


def test_a_worker_that_is_asked_to_describes_what_it_registers_and_connects_to_nothing(
    working: Working, operator: FakeOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = make_workflow(lambda context: None, retries=2)
    working(workflow, max_runs=7)
    (registered,) = operator.workers.values()
    (put,) = operator.workflows.values()

    monkeypatch.setenv("HATCHET_DESCRIPTIONS_FILE", str(tmp_path / "descriptions"))
    for name in ("tester", "another"):
        worker = Hatchet().worker(name, max_runs=7)  # knows no operator
        worker.register_workflow(workflow)
        worker.start()

    lines = [json.loads(line) for line in (tmp_path / "descriptions").read_text().splitlines()]
    workers = [ParseDict(line["worker"], dispatcher.WorkerRegisterRequest()) for line in lines]
    assert [worker.worker_name for worker in workers] == ["tester", "another"]
    assert (workers[0].slots, list(workers[0].actions)) == (registered.slots, list(registered.actions))
    assert ParseDict(lines[0]["workflows"][0], workflows.PutWorkflowRequest()).opts == put
    assert len(operator.workers) == 1


def test_registration_names_workflows_actions_labels_and_pod(
    working: Working, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATCHET_POD_NAME", "pod-1")
    monkeypatch.setenv("HATCHET_POD_UID", "uid-1")
    working(make_workflow(lambda context: None), max_runs=7, labels={"zone": "a", "cores": 4})
    (registered,) = operator.workers.values()
    assert registered.worker_name == "tester"
    assert list(registered.actions) == ["w:s"]
    assert list(registered.services) == ["default"]
    assert registered.slots == 7
    assert registered.labels["zone"].str_value == "a"
    assert registered.labels["cores"].int_value == 4
    assert (registered.pod_name, registered.pod_uid) == ("pod-1", "uid-1")
    assert list(registered.workflow_version_ids) == ["version-of-W"]
    assert uuid.UUID(registered.worker_id)  # chosen here: a Register that is repeated is the same one
    (listening,) = operator.requests("ListenV2")
    assert listening.reports_held
    assert not listening.held


def test_a_worker_waits_for_an_operator_that_is_not_there(
    operator: FakeOperator, hatchet: Hatchet, caplog: pytest.LogCaptureFixture
) -> None:
    operator.stop()
    worker = hatchet.worker("early")
    worker.register_workflow(make_workflow(lambda context: None))
    thread = threading.Thread(target=worker.start, daemon=True)
    with caplog.at_level(logging.INFO, "hatchet_sdk"):
        thread.start()
        eventually(lambda: f"hatchet-operator at {operator.address} does not answer, trying again" in caplog.text)
        operator.start()
        eventually(lambda: operator.streams)
    worker.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_worker_that_waits_for_the_operator_can_be_stopped(operator: FakeOperator, hatchet: Hatchet) -> None:
    operator.stop()
    worker = hatchet.worker("early")
    worker.register_workflow(make_workflow(lambda context: None))
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    worker.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    operator.start()


def test_a_refused_registration_and_a_missing_address_end_the_start(
    operator: FakeOperator, hatchet: Hatchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.faults["PutWorkflow"] = [grpc.StatusCode.PERMISSION_DENIED]
    worker = hatchet.worker("refused")
    worker.register_workflow(make_workflow(lambda context: None))
    with pytest.raises(AccessDenied, match="PutWorkflow fails as told"):
        worker.start()
    for name in ("HATCHET_CLIENT_TOKEN", "HATCHET_CLIENT_HOST_PORT"):
        monkeypatch.delenv(name, raising=False)
    lost = Hatchet(config=ClientConfig()).worker("lost")
    lost.register_workflow(make_workflow(lambda context: None))
    with pytest.raises(NotConfigured):
        lost.start()


# What a step sees, and what becomes of what it returns or raises


def test_a_step_sees_its_run(working: Working, operator: FakeOperator) -> None:
    seen: dict[str, object] = {}

    async def look(context: Context) -> None:
        seen.update(
            input=context.workflow_input(),
            run=context.workflow_run_id(),
            retry=context.retry_count(),
            metadata=context.additional_metadata(),
            parent=context.parent_workflow_run_id(),
            key=context.child_key(),
            index=context.child_index(),
            errors=context.step_run_errors(),
            done=context.done(),
        )
        with pytest.raises(ValueError, match=r'step "s" has no output of step "other" \(there are: none\)'):
            context.step_output("other")

    working(make_workflow(look))
    run = finish(operator, a=1)
    assert seen == {
        "input": {"a": 1},
        "run": run.id,
        "retry": 0,
        "metadata": {},
        "parent": "",
        "key": "",
        "index": 0,
        "errors": {},
        "done": False,
    }


class Model(BaseModel):
    n: int


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param(None, "", id="nothing"),
        pytest.param({"a": 1}, '{"a":1}', id="a mapping"),
        pytest.param(Model(n=2), '{"n":2}', id="a model"),
        pytest.param(Point(3), '{"x":3}', id="a dataclass"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_outputs(value: object, want: str, is_async: bool, working: Working, operator: FakeOperator) -> None:
    async def answer(context: Context) -> object:
        return value

    working(make_workflow(answer if is_async else lambda context: value))
    assert finish(operator).outputs == {"s": want}


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param([1], 'what step "s" returned is a list (expected a mapping, or None for no output)', id="a list"),
        pytest.param("text", "returned is a str (expected a mapping", id="a text"),
        pytest.param(
            {"a": [1j]}, 'what step "s" returned["a"][0] is a complex, which has no JSON form', id="no JSON form"
        ),
        pytest.param({"a": float("nan")}, 'returned["a"] is nan', id="not a number"),
        pytest.param({"a": "x" * 300_000}, "more than the limit of 262144 bytes", id="too large"),
    ],
)
def test_outputs_that_fail_the_step(value: object, want: str, working: Working, operator: FakeOperator) -> None:
    working(make_workflow(lambda context: value))
    run = finish(operator)
    assert run.phase == "Failed"
    assert want in run.errors["s"]


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "want"),
    [
        pytest.param(ValueError("it's bad"), "it's bad\nTraceback", id="an exception"),
        pytest.param(SystemExit(3), "3\nTraceback", id="an exit"),
        pytest.param(KeyError(), "KeyError\nTraceback", id="no message"),
        pytest.param(_Unprintable(), "_Unprintable\nTraceback", id="an exception that cannot be printed"),
        pytest.param(ValueError("\ud800"), "\\ud800\nTraceback", id="a message that is no unicode"),
        pytest.param(ValueError("x" * 100_000), "bytes cut …", id="an endless message"),
        pytest.param(asyncio.CancelledError(), "CancelledError\nTraceback", id="a cancellation of its own making"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_what_a_step_raises_is_its_error(
    error: BaseException, want: str, is_async: bool, working: Working, operator: FakeOperator
) -> None:
    def fail(context: Context) -> None:
        raise error

    async def fail_async(context: Context) -> None:
        raise error

    working(make_workflow(fail_async if is_async else fail))
    run = finish(operator)
    assert run.phase == "Failed"
    assert want in run.errors["s"]
    assert "in fail" in run.errors["s"]
    assert "hatchet_sdk" not in run.errors["s"]
    assert len(run.errors["s"].encode()) <= 16 * 1024


def test_retries_count_and_can_be_refused(working: Working, operator: FakeOperator) -> None:
    counts: list[int] = []

    def fail(context: Context) -> None:
        counts.append(context.retry_count())
        raise NonRetryableError("enough") if context.retry_count() == 1 else ValueError("again")

    working(make_workflow(fail, retries=5))
    run = finish(operator)
    assert counts == [0, 1]
    assert run.errors["s"].startswith("enough\n")


def test_a_step_may_cancel_itself(working: Working, operator: FakeOperator) -> None:
    def cancel(context: Context) -> dict[str, int]:
        context.cancel()
        assert context.exit_flag
        return {"ignored": 1}

    working(make_workflow(cancel))
    assert finish(operator).phase == "Cancelled"


def test_calls_of_a_running_step(working: Working, operator: FakeOperator) -> None:
    async def call(context: Context) -> None:
        await context.aio.refresh_timeout("10s")
        await context.aio.release_slot()
        context.refresh_timeout("5s")  # blocks this loop and nothing else
        context.release_slot()
        context.log("half \ud800 way")

    operator.faults["PutLog"] = [grpc.StatusCode.INTERNAL]
    working(make_workflow(call))
    run = finish(operator)
    assert [request.increment_timeout_by for request in operator.requests("RefreshTimeout")] == ["10s", "5s"]
    assert {request.task_run_external_id for request in operator.requests("ReleaseSlot")} == {f"{run.id}.s/0"}
    eventually(lambda: [line.message for line in operator.requests("PutLog")] == ["half \\ud800 way"])
    assert run.phase == "Succeeded"


def test_blocking_calls_in_async_steps(working: Working, operator: FakeOperator) -> None:
    async def spawn(context: Context) -> dict[str, Any]:
        if context.parent_workflow_run_id():
            return {"child": True}
        ref = context.spawn_workflow("W", {})
        with pytest.raises(RuntimeError, match=r"sync_result\(\) in an async step would block every async step"):
            ref.sync_result()
        return await ref.result()

    working(make_workflow(spawn))
    assert json.loads(finish(operator).outputs["s"]) == {"s": {"child": True}}


def test_many_sync_steps_that_wait_for_their_children_run_side_by_side(
    working: Working, operator: FakeOperator
) -> None:
    def spawn(context: Context) -> dict[str, Any]:
        depth = context.workflow_input()["depth"]
        return context.spawn_workflow("W", {"depth": depth - 1}).sync_result() if depth else {"done": True}

    working(make_workflow(spawn))
    runs = [operator.run("W", depth=3) for _ in range(40)]
    for run in runs:
        assert operator.finished(run).phase == "Succeeded"


# Results are never lost, functions never run twice


def test_a_result_is_repeated_until_acknowledged(working: Working, operator: FakeOperator) -> None:
    operator.faults["SendStepActionEvent"] = [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INTERNAL,
    ]
    working(make_workflow(lambda context: {"n": 1}))
    assert finish(operator).outputs == {"s": '{"n":1}'}
    assert len(operator.requests("SendStepActionEvent")) == 5


def test_a_report_of_what_is_another_workers_by_now_is_not_repeated(
    working: Working, operator: FakeOperator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.faults["SendStepActionEvent"] = [grpc.StatusCode.PERMISSION_DENIED]
    working(make_workflow(lambda context: None))
    operator.run("W")
    eventually(lambda: "the report of step s of run run-0 was refused" in caplog.text)
    assert len(operator.requests("SendStepActionEvent")) == 1


def test_an_output_that_the_operator_refuses_fails_the_step(working: Working, operator: FakeOperator) -> None:
    operator.faults["SendStepActionEvent"] = [grpc.StatusCode.INVALID_ARGUMENT]
    working(make_workflow(lambda context: {"n": 1}))
    want = "the operator refused the output: SendStepActionEvent fails as told"
    assert finish(operator).errors == {"s": want}


def test_results_of_one_moment_travel_together(working: Working, operator: FakeOperator) -> None:
    gate: list[asyncio.Event] = []

    async def wait(context: Context) -> dict[str, str]:
        if not gate:
            gate.append(asyncio.Event())
        if context.workflow_input()["n"] == 19:
            gate[0].set()
        await gate[0].wait()
        return {"id": context.workflow_run_id()}

    working(make_workflow(wait))
    runs = [operator.run("W", n=n) for n in range(20)]
    for id_ in runs:
        assert json.loads(operator.finished(id_).outputs["s"]) == {"id": id_}
    calls = len(operator.requests("SendStepActionEvent")) + len(operator.requests("SendBatchActionEvent"))
    assert 0 < calls < 10
    assert operator.requests("SendBatchActionEvent")


def test_a_refused_batch_is_sent_one_by_one(working: Working, operator: FakeOperator) -> None:
    operator.faults["SendBatchActionEvent"] = [grpc.StatusCode.INVALID_ARGUMENT] * 100
    barrier = threading.Barrier(10)

    def wait(context: Context) -> None:
        barrier.wait(PATIENCE_SECONDS)

    working(make_workflow(wait))
    for id_ in [operator.run("W") for _ in range(10)]:
        assert operator.finished(id_).phase == "Succeeded"


def test_an_operator_that_restarts_hears_what_is_held_and_gets_the_result(
    working: Working, operator: FakeOperator
) -> None:
    gate = threading.Event()
    starts: list[str] = []

    def wait(context: Context) -> dict[str, int]:
        starts.append(context.step_run_id)
        gate.wait(PATIENCE_SECONDS)
        return {"n": 1}

    working(make_workflow(wait))
    running, ended = operator.run("W"), operator.run("W")
    eventually(lambda: len(starts) == 2)
    operator.stop()
    operator.faults["SendStepActionEvent"] = [grpc.StatusCode.UNAVAILABLE] * 3
    operator.start()
    eventually(lambda: operator.streams)
    listening = operator.requests("ListenV2")[-1]
    assert {held.task_run_external_id for held in listening.held} == set(starts)
    assert {held.workflow_run_id for held in listening.held} == {running, ended}
    assert all(held.task_name == "s" and held.started_at.seconds for held in listening.held)
    assert len(operator.requests("Register")) == 1
    gate.set()
    assert operator.finished(running).phase == operator.finished(ended).phase == "Succeeded"
    assert len(starts) == 2


def test_a_result_waits_for_an_operator_that_is_away(working: Working, operator: FakeOperator) -> None:
    gate, started = threading.Event(), threading.Event()

    def wait(context: Context) -> dict[str, int]:
        started.set()
        gate.wait(PATIENCE_SECONDS)
        return {"n": 1}

    working(make_workflow(wait))
    run = operator.run("W")
    assert started.wait(PATIENCE_SECONDS)
    operator.stop()
    gate.set()
    operator.start()
    assert operator.finished(run).outputs == {"s": '{"n":1}'}


def test_a_forgotten_worker_registers_again_under_its_id(working: Working, operator: FakeOperator) -> None:
    working(make_workflow(lambda context: {"n": 1}))
    (id_,) = operator.workers
    operator.stop()
    operator.workers.clear()
    operator.faults["Register"] = [grpc.StatusCode.PERMISSION_DENIED]  # after its first time no refusal is final
    operator.start()
    eventually(lambda: operator.streams)
    assert list(operator.workers) == [id_]
    assert operator.workers[id_].worker_id == id_
    assert len(operator.requests("PutWorkflow")) >= 2
    assert finish(operator).phase == "Succeeded"


@pytest.mark.parametrize("pace", [Pace(heartbeat=0.02)], ids=["many heartbeats"])
def test_a_heartbeat_tells_that_the_worker_was_forgotten(working: Working, operator: FakeOperator) -> None:
    working(make_workflow(lambda context: None))
    eventually(lambda: operator.requests("Heartbeat"))
    operator.do(operator.workers.clear)
    eventually(lambda: operator.workers)
    assert len(operator.requests("Register")) == 2
    eventually(lambda: len(operator.requests("ListenV2")) >= 2)
    listened = len(operator.requests("ListenV2"))
    operator.faults["Heartbeat"] = [grpc.StatusCode.UNAVAILABLE] * session.LOST_HEARTBEATS
    eventually(lambda: len(operator.requests("ListenV2")) > listened)
    assert finish(operator).phase == "Succeeded"


def test_an_assignment_that_comes_twice_runs_once(working: Working, operator: FakeOperator) -> None:
    gate = threading.Event()
    starts: list[str] = []

    def wait(context: Context) -> dict[str, int]:
        starts.append(context.step_run_id)
        gate.wait(PATIENCE_SECONDS)
        return {"n": len(starts)}

    working(make_workflow(wait))
    run = operator.run("W")
    eventually(lambda: starts)
    again = dispatcher.AssignedAction(
        workflow_run_id=run, task_run_external_id=starts[0], action_id="w:s", task_name="s", action_payload="{}"
    )
    operator.send(again)
    gate.set()
    operator.finished(run)
    operator.send(again)
    eventually(lambda: len(operator.requests("SendStepActionEvent")) == 2)
    first, second = operator.requests("SendStepActionEvent")
    assert first.event_payload == second.event_payload == '{"n":1}'
    assert len(starts) == 1


# Cancelling


@pytest.mark.parametrize("pace", [Pace(cancel_grace=PATIENCE_SECONDS)], ids=["long"])
def test_a_cancelled_async_step_may_finish_within_its_grace(working: Working, operator: FakeOperator) -> None:
    async def watch(context: Context) -> dict[str, bool]:
        while not context.exit_flag:  # noqa: ASYNC110 - what users write
            await asyncio.sleep(0.01)
        return {"stopped": True}

    working(make_workflow(watch))
    run = operator.run("W")
    eventually(lambda: run in {run.id for run, _ in operator.attempts.values()})
    operator.cancel(run)
    assert operator.finished(run).outputs == {"s": '{"stopped":true}'}


def test_a_cancelled_step_that_goes_on_is_ended_and_says_nothing(working: Working, operator: FakeOperator) -> None:
    ended: list[str] = []

    async def sleep(context: Context) -> dict[str, bool] | None:
        if context.workflow_input().get("quick"):
            return None
        ended.append("started")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
        return {"too": True, "late": True}

    working(make_workflow(sleep))
    run = operator.run("W")
    eventually(lambda: ended)
    cancelled_at = time.monotonic()
    operator.cancel(run)
    eventually(lambda: "cancelled" in ended)
    assert 0.9 < time.monotonic() - cancelled_at < 30, "the step would take twice as long"
    next_run = finish(operator, quick=True)  # whose report would follow that of the first
    assert [each.task_run_external_id for each in operator.requests("SendStepActionEvent")] == [f"{next_run.id}.s/0"]


def test_a_cancelled_sync_step_is_told_and_the_worker_does_not_wait_for_it(
    operator: FakeOperator, hatchet: Hatchet
) -> None:
    gate = threading.Event()
    told: list[Context] = []

    def ignore(context: Context) -> None:
        told.append(context)
        gate.wait(PATIENCE_SECONDS)

    worker = hatchet.worker("w")
    worker.register_workflow(make_workflow(ignore))
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    eventually(lambda: operator.streams)
    run = operator.run("W")
    eventually(lambda: told)
    operator.cancel(run)
    eventually(lambda: told[0].exit_flag)
    worker.stop()
    thread.join(PATIENCE_SECONDS)
    gate.set()
    assert not thread.is_alive()
