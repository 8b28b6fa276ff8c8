"""A worker in somebody else's event loop, and what steps learn of their worker's end."""

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import grpc
import pytest

from hatchet_sdk import AccessDenied, Context, Hatchet, Worker, WorkflowRunRef
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, Run, eventually
from tests.unit.sdk.test_worker import make_workflow

Working = Callable[..., None]


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, condition)


async def finished(operator: FakeOperator, run_id: str) -> Run:
    return await asyncio.to_thread(operator.finished, run_id)


def make_worker(hatchet: Hatchet, *functions: Callable[[Context], Any]) -> Worker:
    worker = hatchet.worker("hosted")
    for function in functions:
        worker.register_workflow(make_workflow(function))
    return worker


async def test_a_worker_runs_beside_what_else_its_hosts_loop_does(hatchet: Hatchet, operator: FakeOperator) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    loops: list[asyncio.AbstractEventLoop] = []
    go = asyncio.Event()

    async def step(context: Context) -> dict[str, bool]:
        loops.append(asyncio.get_running_loop())
        await go.wait()
        return {"stopping": context.stopping}

    worker = make_worker(hatchet, step)
    serving = asyncio.create_task(worker.async_start())
    await until(lambda: operator.streams)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    run = operator.run("W")
    await until(lambda: loops)
    assert loops == [asyncio.get_running_loop()]

    exiting = asyncio.create_task(worker.exit_gracefully())
    await until(lambda: operator.requests("Unsubscribe"))
    assert not serving.done()
    go.set()
    assert (await finished(operator, run)).outputs == {"s": '{"stopping":true}'}
    await asyncio.wait_for(asyncio.gather(exiting, serving), PATIENCE_SECONDS)


async def test_a_host_may_start_a_worker_again(hatchet: Hatchet, operator: FakeOperator) -> None:
    worker = make_worker(hatchet, lambda context: {"n": 1})
    for _ in range(2):
        serving = asyncio.create_task(worker.async_start())
        await until(lambda: operator.streams)
        assert (await finished(operator, operator.run("W"))).phase == "Succeeded"
        with pytest.raises(RuntimeError, match='worker "hosted" runs already'):
            await worker.async_start()
        await worker.exit_gracefully()
        await serving
        operator.do(operator.streams.clear)


async def test_a_host_that_cancels_a_worker_waits_for_no_step(hatchet: Hatchet, operator: FakeOperator) -> None:
    events: list[str] = []

    async def step(context: Context) -> None:
        events.append("started")
        try:
            await asyncio.sleep(600)
        finally:
            events.append(f"ended, exit_flag {context.exit_flag}")

    serving = asyncio.create_task(make_worker(hatchet, step).async_start())
    await until(lambda: operator.streams)
    operator.run("W")
    await until(lambda: events)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, PATIENCE_SECONDS)
    await until(lambda: events == ["started", "ended, exit_flag True"])
    assert operator.requests("SendStepActionEvent") == []


async def test_a_host_that_holds_a_worker_has_its_workflows_registered(
    hatchet: Hatchet, operator: FakeOperator
) -> None:
    go = asyncio.Event()

    async def step(context: Context) -> dict[str, bool]:
        await go.wait()
        return {}

    worker = make_worker(hatchet, step)
    async with worker.running():
        assert len(operator.requests("PutWorkflow")) == 1
        run = operator.run("W")
        await until(lambda: operator.streams)
        go.set()
        await finished(operator, run)
    assert [each.has_ended for each in operator.requests("Unsubscribe")] == [False, True]
    async with worker.running():
        assert len(operator.requests("PutWorkflow")) == 2


async def test_a_block_that_fails_ends_its_worker(hatchet: Hatchet, operator: FakeOperator) -> None:
    worker = make_worker(hatchet, lambda context: None)
    with pytest.raises(KeyError, match="of the block"):
        async with worker.running():
            raise KeyError("of the block")
    assert [each.has_ended for each in operator.requests("Unsubscribe")] == [False, True]


async def test_a_host_need_not_wait_for_an_operator_that_is_down(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.stop()
    entering = asyncio.create_task(make_worker(hatchet, lambda context: None).running().__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(entering, PATIENCE_SECONDS)


async def test_a_refused_registration_begins_no_block(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.faults["PutWorkflow"] = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(AccessDenied):
        async with make_worker(hatchet, lambda context: None).running():
            pytest.fail("it began")


async def test_a_refused_registration_is_raised_by_async_start(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.faults["PutWorkflow"] = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(AccessDenied, match="PutWorkflow fails as told"):
        await make_worker(hatchet, lambda context: None).async_start()


async def test_start_in_a_running_loop_names_what_to_write_instead(hatchet: Hatchet) -> None:
    with pytest.raises(RuntimeError, match=r'start\(\) would block .* "await worker\.async_start\(\)"'):
        make_worker(hatchet, lambda context: None).start()


# The worker is about to stop


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_step_is_told_that_its_worker_is_about_to_stop(
    is_async: bool, hatchet: Hatchet, operator: FakeOperator
) -> None:
    started = threading.Event()

    def step(context: Context) -> dict[str, object]:
        early = [context.wait_until_stopping(0.01), context.stopping]
        started.set()
        return {"early": early, "told": [context.wait_until_stopping(PATIENCE_SECONDS), context.stopping]}

    async def step_async(context: Context) -> dict[str, object]:
        early = [await context.aio.wait_until_stopping(0.01), context.stopping]
        started.set()
        return {"early": early, "told": [await context.aio.wait_until_stopping(), context.stopping]}

    worker = make_worker(hatchet, step_async if is_async else step)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    eventually(lambda: operator.streams)
    run = operator.run("W")
    assert started.wait(PATIENCE_SECONDS)
    worker.stop()
    assert json.loads(operator.finished(run).outputs["s"]) == {"early": [False, False], "told": [True, True]}
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_step_that_waits_for_its_workers_end_hears_of_its_own(
    is_async: bool, working: Working, operator: FakeOperator
) -> None:
    heard: list[tuple[bool, bool, bool]] = []
    started = threading.Event()

    def step(context: Context) -> None:
        started.set()
        heard.append((context.wait_until_stopping(PATIENCE_SECONDS), context.stopping, context.exit_flag))

    async def step_async(context: Context) -> None:
        started.set()
        heard.append((await context.aio.wait_until_stopping(), context.stopping, context.exit_flag))

    working(make_workflow(step_async if is_async else step))
    run = operator.run("W")
    assert started.wait(PATIENCE_SECONDS)
    operator.cancel(run)
    eventually(lambda: heard)
    assert heard == [(True, False, True)]


# Mocks


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param(Context, ["aio", "exit_flag", "step_run_id", "stopping"], id="Context"),
        pytest.param(Hatchet, ["admin"], id="Hatchet"),
        pytest.param(type(Hatchet().admin), ["aio"], id="Admin"),
        pytest.param(WorkflowRunRef, ["workflow_run_id"], id="WorkflowRunRef"),
        pytest.param(Worker, ["name"], id="Worker"),
    ],
)
def test_a_mock_of_a_class_has_what_its_objects_have(kind: type, names: list[str]) -> None:
    mock = MagicMock(spec=kind)
    for name in names:
        assert getattr(mock, name)
