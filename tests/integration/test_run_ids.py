"""By which id clients know a run: its name or its UID. Both mean the run, whoever says them (design note 0016)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest, WorkflowRunEvent
from tests.integration.inprocess import SECONDS, Instance, ScriptedWorker, errors_of, outputs_of, running_operator


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@pytest.fixture
async def published(world: Instance) -> ScriptedWorker:
    """A worker as Hatchet's clients are, which parse the ids of runs as UUIDs."""
    worker = await world.scripted(takes_names=False)
    await worker.put_workflow("parent")
    await worker.put_workflow("child")
    return await worker.start()


async def test_a_published_client_knows_runs_by_their_uids(world: Instance, published: ScriptedWorker) -> None:
    run_id = await published.trigger("parent")
    assert uuid.UUID(run_id)
    parent = await published.next()
    assert (parent.workflow_run_id, parent.job_run_id) == (run_id, run_id)
    child_id = await published.spawn(parent, key="a")
    assert await published.spawn(parent, key="a") == child_id
    child = await published.next()
    assert (child.workflow_run_id, child.parent_workflow_run_id) == (child_id, run_id)
    await published.complete(child, {"n": 1})
    await published.complete(parent, {"n": 2})
    ended = await published.result(run_id)
    assert (ended.workflow_run_id, outputs_of(ended)) == (run_id, {"work": {"n": 2}})
    [name] = [each["metadata"]["name"] for each in await world.runs() if each["metadata"]["uid"] == child_id]
    assert outputs_of(await published.result(name)) == {"work": {"n": 1}}  # what kubectl shows is an id too


async def test_our_sdk_knows_runs_by_their_names(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("parent")
    await worker.start()
    name = await worker.trigger("parent")
    uid = (await world.run(name))["metadata"]["uid"]
    action = await worker.next()
    assert (action.workflow_run_id, action.job_run_id) == (name, uid)
    await worker.complete(action, {"n": 1})
    for run_id in (name, uid):
        ended = await worker.result(run_id)
        assert (ended.workflow_run_id, outputs_of(ended)) == (run_id, {"work": {"n": 1}})


async def test_one_stream_may_ask_by_both(world: Instance, published: ScriptedWorker) -> None:
    await world.create_run("r", "parent")
    uid = (await world.run("r"))["metadata"]["uid"]
    action = await published.next()
    call = published.dispatcher.SubscribeToWorkflowRuns(metadata=published.metadata)
    for run_id in ("r", uid, uid):
        await call.write(SubscribeToWorkflowRunsRequest(workflow_run_id=run_id))
    await world.until(lambda: any(record.awaited_by for record in world.engine.store))
    await published.complete(action, {"n": 1})
    events = [await asyncio.wait_for(call.read(), SECONDS) for _ in range(2)]
    answers = {event.workflow_run_id for event in events if isinstance(event, WorkflowRunEvent)}
    assert answers == {"r", uid}
    call.cancel()


async def test_a_spawn_names_its_parent_by_either(world: Instance, published: ScriptedWorker) -> None:
    """As a worker does whose operator was exchanged since it got the parent, by one that gave out names."""
    await world.create_run("p", "parent")
    parent = await published.next()
    by_uid = await published.spawn(parent, key="a")
    parent.workflow_run_id = "p"
    assert await published.spawn(parent, key="a") == by_uid


async def test_a_uid_of_no_run_or_of_one_that_is_deleted(world: Instance, published: ScriptedWorker) -> None:
    nobody = str(uuid.uuid4())
    assert errors_of(await published.result(nobody)) == [f"run {nobody} was deleted, or never existed"]
    await world.create_run("r", "parent")
    uid = (await published.next()).workflow_run_id
    awaiting = asyncio.create_task(published.result(uid))
    await world.until(lambda: any(record.awaited_by for record in world.engine.store))
    await world.delete_run("r")
    assert errors_of(await awaiting) == [f"run {uid} was deleted"]
    assert errors_of(await published.result(uid)) == [f"run {uid} was deleted, or never existed"]


@pytest.mark.parametrize(
    ("method", "code", "want"),
    [
        ("v1.AdminService/CancelTasks", StatusCode.UNIMPLEMENTED, "cancel and replay runs with it"),
        ("v1.AdminService/ReplayTasks", StatusCode.UNIMPLEMENTED, "cancel and replay runs with it"),
        ("v1.V1Dispatcher/RegisterDurableEvent", StatusCode.UNIMPLEMENTED, "durable tasks of Hatchet's SDKs"),
        ("v1.V1Dispatcher/DurableTask", StatusCode.CANCELLED, "durable tasks of Hatchet's SDKs"),
        (
            "opentelemetry.proto.collector.trace.v1.TraceService/Export",
            StatusCode.UNIMPLEMENTED,
            "send traces to it: name a collector of yours",
        ),
        ("some.Thing/Else", StatusCode.UNIMPLEMENTED, "docs/published-sdk.md says what it has"),
    ],
)
async def test_services_that_are_not_there_are_refused_in_words(
    world: Instance, method: str, code: StatusCode, want: str
) -> None:
    config = world.config()
    async with grpc.aio.insecure_channel(config.host_port or "") as channel:

        async def call_once(metadata: tuple[tuple[str, str], ...]) -> None:
            unary: Any = channel.unary_unary(f"/{method}")  # of bytes, as no message is known
            await unary(b"", metadata=metadata, timeout=SECONDS)

        async def open_stream(metadata: tuple[tuple[str, str], ...]) -> None:
            stream: Any = channel.stream_stream(f"/{method}")
            await stream(iter([b""]), metadata=metadata, timeout=SECONDS).read()

        for call in (call_once, open_stream):
            for token, want_code, words in (
                (config.token, code, f"has no {method} "),
                (config.token, code, want),
                ("x", StatusCode.UNAUTHENTICATED, "token"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call((("authorization", f"bearer {token}"),))
                assert refused.value.code() is want_code
                assert words in (refused.value.details() or "").replace(";", " ")
