"""Clients that take several messages of a stream in one, beside others that do not (design note 0044)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts.headers import MANY
from tests.integration.inprocess import SECONDS, Instance, ScriptedWorker, outputs_of, running_operator

RUNS = ("a", "b", "c")


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    scripted = await world.scripted()
    await scripted.put_workflow("etl")
    return scripted


def listen(worker: ScriptedWorker, *, takes_many: bool) -> Any:
    said = (*worker.metadata, (MANY, "1")) if takes_many else worker.metadata
    return worker.dispatcher.ListenV2(wire.WorkerListenRequest(worker_id=worker.id), metadata=said)


async def read(call: Any) -> Any:
    return await asyncio.wait_for(call.read(), SECONDS)


async def test_what_waits_for_a_worker_comes_in_one_message(world: Instance, worker: ScriptedWorker) -> None:
    await worker.start()
    await worker.stop_listening()
    await world.until(lambda: not world.listening())
    for name in RUNS:
        await world.create_run(name, "etl")
    await world.until(lambda: len(world.engine.runs.attempts) == len(RUNS))
    call = listen(worker, takes_many=True)
    action = await read(call)
    assert [each.workflow_run_id for each in (action, *action.more)] == list(RUNS)
    call.cancel()
    apart = listen(worker, takes_many=False)  # it says nothing of what it holds, so all comes again
    actions = [await read(apart) for _ in RUNS]
    assert [each.workflow_run_id for each in actions] == list(RUNS)
    assert not any(each.more for each in actions)
    apart.cancel()


async def test_many_runs_are_awaited_in_one_message_and_their_ends_come_in_one(
    world: Instance, worker: ScriptedWorker
) -> None:
    await worker.start()
    for name in RUNS:
        await world.create_run(name, "etl")
        await worker.complete(await worker.next(), {"n": name})
    call = worker.dispatcher.SubscribeToWorkflowRuns(metadata=(*worker.metadata, (MANY, "1")))
    assert await read(call) == wire.WorkflowRunEvent(takes_many=True)
    await call.write(wire.SubscribeToWorkflowRunsRequest(workflow_run_id=RUNS[0], more_ids=RUNS[1:]))
    event = await read(call)
    assert [outputs_of(each) for each in (event, *event.more)] == [{"work": {"n": name}} for name in RUNS]
    call.cancel()
