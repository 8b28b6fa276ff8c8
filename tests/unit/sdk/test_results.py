"""How a run's end reaches whoever waits for it, across lost streams."""

import asyncio
import json
import subprocess
import sys

import grpc
import pytest

from hatchet_sdk import AccessDenied, Hatchet, WorkflowRunCancelled, WorkflowRunDeleted, WorkflowRunFailed
from hatchet_sdk._client.connection import Connection
from hatchet_sdk._client.results import Questions
from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, Run, eventually


def make_run(id_: str, **fields: object) -> Run:
    return Run(id_, None, **fields)  # type: ignore[arg-type]


async def test_the_result_is_each_steps_output(hatchet: Hatchet, operator: FakeOperator) -> None:
    outputs = {"a": '{"n":1}', "quiet": "", "b": '{"t":"é"}'}
    operator.runs["r"] = make_run("r", phase="Succeeded", outputs=outputs)
    ref = hatchet.admin.get_workflow_run("r")
    assert await ref.result() == {"a": {"n": 1}, "b": {"t": "é"}}
    assert await asyncio.to_thread(ref.sync_result) == {"a": {"n": 1}, "b": {"t": "é"}}
    assert repr(ref) == "WorkflowRunRef('r')"


@pytest.mark.parametrize(
    ("phase", "errors", "kind", "want"),
    [
        pytest.param("Failed", {"a": "TIMED_OUT"}, WorkflowRunFailed, "Workflow Errors: ['TIMED_OUT']", id="failed"),
        pytest.param(
            "Failed",
            {"a": "it's\nbad", "b": "x"},
            WorkflowRunFailed,
            """Workflow Errors: ["it's\\nbad", 'x']""",
            id="two steps failed",
        ),
        pytest.param("", {"a": "x"}, WorkflowRunFailed, "Workflow Errors: ['x']", id="an operator without phases"),
        pytest.param(
            "Failed", {}, WorkflowRunFailed, "Workflow Errors: ['run r ended as Failed']", id="failed without a word"
        ),
        pytest.param("Cancelled", {"a": "c"}, WorkflowRunCancelled, "Workflow Errors: ['c']", id="cancelled"),
        pytest.param("Deleted", {}, WorkflowRunDeleted, "run r was deleted", id="deleted"),
    ],
)
async def test_every_other_end_is_raised(
    phase: str,
    errors: dict[str, str],
    kind: type[WorkflowRunFailed],
    want: str,
    hatchet: Hatchet,
    operator: FakeOperator,
) -> None:
    operator.runs["r"] = make_run("r", phase=phase or "Succeeded", errors=errors)
    with pytest.raises(WorkflowRunFailed) as failed:
        await hatchet.admin.get_workflow_run("r").result()
    assert type(failed.value) is kind
    assert str(failed.value) == want
    assert failed.value.workflow_run_id == "r"
    assert failed.value.errors == errors


async def test_many_waiters_share_one_stream(hatchet: Hatchet, operator: FakeOperator) -> None:
    for id_ in ("r", "s"):
        operator.runs[id_] = make_run(id_)
    waiting = [
        asyncio.ensure_future(hatchet.admin.get_workflow_run(id_).result()) for id_ in ("r", "s") for _ in range(5)
    ]
    await asyncio.to_thread(eventually, lambda: set(operator.requests("subscribed")) == {"r", "s"})
    await asyncio.to_thread(operator.end, "r", "s")
    await asyncio.gather(*waiting)
    assert len(operator.requests("SubscribeToWorkflowRuns")) == 1


async def test_who_asks_again_is_heard_by_the_operator(hatchet: Hatchet, operator: FakeOperator) -> None:
    """A retried step waits for a child that its first attempt asked for: the operator must know that it waits."""
    operator.runs["r"] = make_run("r")
    first = asyncio.ensure_future(hatchet.admin.get_workflow_run("r").result())
    await asyncio.to_thread(eventually, lambda: operator.requests("subscribed") == ["r"])
    first.cancel()
    second = asyncio.ensure_future(hatchet.admin.get_workflow_run("r").result())
    await asyncio.to_thread(eventually, lambda: operator.requests("subscribed") == ["r", "r"])
    await asyncio.to_thread(operator.end, "r")
    await second
    assert len(operator.requests("SubscribeToWorkflowRuns")) == 1


async def test_waiting_outlives_restarts_and_asks_again_for_what_is_open(
    hatchet: Hatchet, operator: FakeOperator
) -> None:
    for id_ in ("r", "s", "gone"):
        operator.runs[id_] = make_run(id_)
    refs = {id_: asyncio.ensure_future(hatchet.admin.get_workflow_run(id_).result()) for id_ in operator.runs}
    await asyncio.to_thread(eventually, lambda: len(operator.requests("subscribed")) == 3)
    await asyncio.to_thread(operator.end, "r")
    await refs["r"]
    refs["gone"].cancel()
    await asyncio.to_thread(operator.stop)
    operator.calls.clear()
    operator.faults["SubscribeToWorkflowRuns"] = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN]
    await asyncio.to_thread(operator.start)
    await asyncio.to_thread(eventually, lambda: operator.requests("subscribed"))
    await asyncio.to_thread(operator.end, "s")
    await refs["s"]
    assert operator.requests("subscribed") == ["s"]


async def test_ends_that_come_in_one_message_reach_all_who_wait(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.takes_many = True
    for id_ in ("r", "s", "t"):
        operator.runs[id_] = make_run(id_, outputs={"a": json.dumps({"of": id_})})
    waiting = [asyncio.ensure_future(hatchet.admin.get_workflow_run(id_).result()) for id_ in ("r", "s", "t")]
    await asyncio.to_thread(eventually, lambda: set(operator.requests("subscribed")) == {"r", "s", "t"})
    await asyncio.to_thread(operator.end, "r", "s", "t")
    assert await asyncio.gather(*waiting) == [{"a": {"of": id_}} for id_ in ("r", "s", "t")]


async def test_many_runs_are_asked_for_in_one_message_once_the_operator_takes_many() -> None:
    questions = Questions()
    requests = questions.requests()
    for run_id in ("r", "s"):
        questions.put(run_id)
    assert await anext(requests) == SubscribeToWorkflowRunsRequest(workflow_run_id="r")
    questions.many_at_once = True
    for run_id in ("t", "u"):
        questions.put(run_id)
    assert await anext(requests) == SubscribeToWorkflowRunsRequest(workflow_run_id="s", more_ids=["t", "u"])
    questions.put("v")
    questions.end()
    assert [each async for each in requests] == [SubscribeToWorkflowRunsRequest(workflow_run_id="v")]


async def test_without_access_waiting_ends(hatchet: Hatchet, operator: FakeOperator) -> None:
    # As often as it is asked: a refusal that comes while the client sends is an internal error to it, and tried again.
    operator.faults["SubscribeToWorkflowRuns"] = [grpc.StatusCode.UNAUTHENTICATED] * 100
    with pytest.raises(AccessDenied):
        await hatchet.admin.get_workflow_run("r").result()
    await asyncio.to_thread(operator.do, operator.faults.clear)
    with pytest.raises(WorkflowRunDeleted):  # the next one asks again
        await hatchet.admin.get_workflow_run("r").result()


@pytest.mark.parametrize(
    ("run_id", "kind", "want"),
    [
        pytest.param(None, TypeError, r"the id of a run is None \(expected a str", id="none"),
        pytest.param("", ValueError, "the id of a run is empty", id="empty"),
        pytest.param("\ud800", ValueError, "surrogates not allowed", id="no text"),
    ],
)
def test_an_id_that_can_not_be_one_disturbs_no_other_wait(
    run_id: str, kind: type[Exception], want: str, hatchet: Hatchet, operator: FakeOperator
) -> None:
    with pytest.raises(kind, match=want):
        hatchet.admin.get_workflow_run(run_id).sync_result(PATIENCE_SECONDS)
    operator.runs["r"] = make_run("r", phase="Succeeded")
    hatchet.admin.get_workflow_run("r").sync_result(PATIENCE_SECONDS)


def test_an_error_that_nobody_expects_ends_the_wait_and_not_later_ones(
    hatchet: Hatchet, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.runs["r"] = make_run("r", phase="Succeeded")
    ref = hatchet.admin.get_workflow_run("r")
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "dispatcher", property(lambda self: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            ref.sync_result(PATIENCE_SECONDS)
    ref.sync_result(PATIENCE_SECONDS)


def test_a_forked_process_is_told_that_it_has_no_connection(hatchet: Hatchet, operator: FakeOperator) -> None:
    """In a process of its own: a test runner with threads does not fork."""
    program = f"""
import os, sys
from hatchet_sdk import ClientConfig, Hatchet
hatchet = Hatchet(config=ClientConfig(host_port={operator.address!r}, token="secret", tls_strategy="none"))
hatchet.admin.get_workflow_run("r").sync_result({PATIENCE_SECONDS})
if os.fork() == 0:
    try:
        hatchet.admin.get_workflow_run("r").sync_result({PATIENCE_SECONDS})
    except RuntimeError as error:
        print(error, flush=True)
        os._exit(0)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    operator.runs["r"] = make_run("r", phase="Succeeded")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert "this process was forked from one that had spoken to hatchet-operator" in done.stdout


def test_a_sync_wait_may_have_an_end(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.runs["r"] = make_run("r")
    with pytest.raises(TimeoutError, match=r"run r did not end within 0\.05 seconds"):
        hatchet.admin.get_workflow_run("r").sync_result(timeout=0.05)
