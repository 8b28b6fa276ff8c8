"""What steps say while they run: in order, from where one was, within bounds, and never through the API server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import grpc
import pytest

from hatchet_operator.access.identity import Caller
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.streams.readers import Metadata
from hatchet_operator.errors import NotReady
from hatchet_operator.pace import Pace
from hatchet_sdk import (
    ClientConfig,
    Context,
    Hatchet,
    RequestRefused,
    StepRunEvent,
    TriggerWorkflowOptions,
    WorkflowRunRef,
)
from hatchet_sdk._client.chunks import MAX_CHUNK_BYTES
from hatchet_sdk.contracts import events_pb2 as events
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceStub
from tests.integration.harness import Cluster
from tests.integration.inprocess import SECONDS, Instance, ScriptedWorker, running_operator
from tests.kube.eventually import eventually

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


class Speaker:
    """A workflow whose step says numbers: the first ones at once, the others when the gate is open."""

    def __init__(self, *, retries: int = 0) -> None:
        self.gate = threading.Event()
        gate = self.gate

        @hatchet.workflow()
        class Speak:
            @hatchet.step(retries=retries, timeout="30s")
            def speak(self, context: Context) -> dict[str, Any]:
                given = context.workflow_input()
                for number in range(given.get("last", 10)):
                    if number == given.get("first", 5):
                        gate.wait(20)
                    context.put_stream(f"{context.retry_count()}:{number}")
                if context.retry_count() < retries:
                    raise ValueError("once more")
                return {"said": "all"}

        self.workflow = Speak()


def chunks(events: list[StepRunEvent]) -> list[str]:
    return [event.payload for event in events if event.type.endswith("_STREAM")]


def kinds(events: list[StepRunEvent]) -> list[str]:
    return [event.type.removeprefix("STEP_RUN_EVENT_TYPE_") for event in events if not event.type.endswith("_STREAM")]


async def all_of(ref: WorkflowRunRef) -> list[StepRunEvent]:
    return [event async for event in ref.stream()]


async def test_pieces_come_in_order_and_then_the_ends(world: Instance) -> None:
    speaker = Speaker(retries=1)
    ref = await (await world.work(speaker.workflow)).admin.aio.run_workflow("Speak", {})
    reading = asyncio.create_task(all_of(ref))
    await world.until(lambda: world.engine.streams.readers == 1)
    speaker.gate.set()
    told = await asyncio.wait_for(reading, SECONDS)
    assert chunks(told) == [f"{attempt}:{number}" for attempt in (0, 1) for number in range(10)]
    assert kinds(told)[-2:] == ["COMPLETED", "WORKFLOW_RUN_EVENT_TYPE_COMPLETED"]
    assert "FAILED" in kinds(told)
    completed = told[-2]
    assert (completed.step, completed.retry_count, completed.payload) == ("speak", 1, '{"said":"all"}')
    assert told[-1].workflow_run_id == str(ref)
    assert not world.engine.streams.readers


async def test_who_asks_late_is_told_all_of_it_also_from_sync_code(world: Instance) -> None:
    speaker = Speaker()
    speaker.gate.set()
    ref = await (await world.work(speaker.workflow)).admin.aio.run_workflow("Speak", {})
    await ref.result()
    told = await asyncio.wait_for(asyncio.to_thread(lambda: list(ref.stream())), SECONDS)
    assert chunks(told) == [f"0:{number}" for number in range(10)]
    assert kinds(told) == ["WORKFLOW_RUN_EVENT_TYPE_COMPLETED"]


async def test_a_stream_that_breaks_goes_on_from_where_it_was(world: Instance) -> None:
    speaker = Speaker()
    ref = await (await world.work(speaker.workflow)).admin.aio.run_workflow("Speak", {"last": 300, "first": 150})
    told: list[StepRunEvent] = []
    with mock.patch.object(world.engine.streams, "read", wraps=world.engine.streams.read) as read:
        async for event in ref.stream():
            told.append(event)
            if len(chunks(told)) == 50:
                world.engine.streams.stop()
                await world.until(lambda: read.call_count == 2)  # while the run goes on, so that it is told the rest
                speaker.gate.set()
    assert chunks(told) == [f"0:{number}" for number in range(300)]


async def test_runs_are_listened_to_by_their_metadata(world: Instance) -> None:
    speaker = Speaker()
    speaker.gate.set()
    hatchet = await world.work(speaker.workflow)
    told: list[StepRunEvent] = []

    async def read() -> None:
        async for event in hatchet.listener.stream_by_additional_metadata("chat", "7"):
            told.append(event)

    reading = asyncio.create_task(read())
    await world.until(lambda: world.engine.streams.readers == 1)
    refs = await hatchet.admin.aio.run_workflows(
        [
            {"workflow_name": "Speak", "input": {}, "options": {"additional_metadata": {"chat": chat}}}
            for chat in ("7", 7, "8")
        ]
    )
    await asyncio.wait_for(reading, SECONDS)
    assert {event.workflow_run_id for event in told} <= {str(ref) for ref in refs[:2]}
    first = told[0].workflow_run_id
    assert chunks([event for event in told if event.workflow_run_id == first]) == [f"0:{n}" for n in range(10)]
    again = [event async for event in hatchet.listener.stream_by_additional_metadata("chat", "8")]
    assert len(chunks(again)) == 10, "one that was quicker than its listener is told as well"
    stranger = world.engine.streams.read_by_metadata("elsewhere", Metadata("chat", "8"), seen={})
    stranger.close()
    assert [event async for event in stranger.events()] == [], "runs of another namespace are nobody's business"


async def test_a_listener_by_metadata_is_not_told_what_an_earlier_run_said(world: Instance) -> None:
    speaker = Speaker()
    hatchet = await world.work(speaker.workflow)
    options: TriggerWorkflowOptions = {"additional_metadata": {"chat": "7"}}
    earlier = await hatchet.admin.aio.run_workflow("Speak", {"first": -1}, options)
    await earlier.result()
    ref = await hatchet.admin.aio.run_workflow("Speak", {}, options)
    told: list[StepRunEvent] = []
    async for event in hatchet.listener.stream_by_additional_metadata("chat", "7"):
        told.append(event)
        speaker.gate.set()
    assert {event.workflow_run_id for event in told} == {str(ref)}
    assert chunks(told) == [f"0:{number}" for number in range(10)]


async def test_a_listener_by_metadata_that_comes_back_hears_the_rest_of_a_run_that_ended_meanwhile() -> None:
    async with running_operator(pace=Pace(grace=0.0, just_over=0.0)) as world:
        speaker = Speaker()
        hatchet = await world.work(speaker.workflow)
        ref = await hatchet.admin.aio.run_workflow("Speak", {}, {"additional_metadata": {"chat": "7"}})
        told: list[StepRunEvent] = []

        async def read() -> None:
            async for event in hatchet.listener.stream_by_additional_metadata("chat", "7"):
                told.append(event)

        reading = asyncio.create_task(read())
        await world.until(lambda: len(chunks(told)) == 5)
        with mock.patch.object(world.engine.streams, "read_by_metadata", side_effect=NotReady("not yet")):
            world.engine.streams.stop()
            speaker.gate.set()
            await ref.result()
        await asyncio.wait_for(reading, SECONDS)
        assert chunks(told) == [f"0:{number}" for number in range(10)]
        assert told[-1].workflow_run_id == str(ref)


async def test_a_run_that_fails_is_cancelled_or_deleted_ends_its_stream(world: Instance) -> None:
    speaker = Speaker()
    admin = (await world.work(speaker.workflow)).admin.aio
    cancelled, deleted = [await admin.run_workflow("Speak", {}) for _ in range(2)]
    readings = [asyncio.create_task(all_of(ref)) for ref in (cancelled, deleted)]
    await world.until(lambda: world.engine.streams.readers == 2)
    await world.patch_run(str(cancelled), cancelled=True)
    await world.delete_run(str(deleted))
    ends = [(await asyncio.wait_for(reading, SECONDS))[-1].type for reading in readings]
    assert ends == ["WORKFLOW_RUN_EVENT_TYPE_CANCELLED"] * 2
    speaker.gate.set()


async def test_the_stream_of_a_run_that_is_not_there_is_an_error(world: Instance) -> None:
    ref = world.hatchet().admin.get_workflow_run("nobody")
    with pytest.raises(RequestRefused, match="run nobody was deleted, or never existed"):
        await all_of(ref)


async def test_streams_write_nothing() -> None:
    speaker = Speaker()
    speaker.gate.set()
    costs = []
    async with running_operator(running_after=3600) as world:  # which a slow machine would have written
        admin = (await world.work(speaker.workflow)).admin.aio
        for last in (0, 500):
            before = world.writes()
            await (await admin.run_workflow("Speak", {"last": last})).result()
            costs.append(world.writes() - before)
    assert costs == [2, 2]


async def test_a_sync_loop_in_an_async_step_is_refused(world: Instance) -> None:
    said: list[str] = []

    @hatchet.workflow()
    class Blocking:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            ref = await context.aio.spawn_workflow("Blocking")
            try:
                list(ref.stream())
            except RuntimeError as error:
                said.append(str(error))

    await world.work(Blocking(), slots=1)
    await world.create_run("r", "blocking")
    await world.until(lambda: bool(said))
    assert 'write "async for … in ref.stream()"' in said[0]
    await world.patch_run("r", cancelled=True)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(5, "put_stream: data is 5 (expected a str, or bytes that are UTF-8)", id="a number"),
        pytest.param(b"\xff", "data is not text (expected UTF-8", id="bytes"),
        pytest.param("\ud800", "data is not text (expected UTF-8", id="half a surrogate pair"),
        pytest.param("x" * (MAX_CHUNK_BYTES + 1), "data is 65537 bytes (expected at most 65536", id="too long"),
    ],
)
async def test_what_no_stream_can_have_is_refused_where_it_is_said(world: Instance, data: Any, want: str) -> None:
    said: list[str] = []

    @hatchet.workflow()
    class Wrong:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            try:
                context.put_stream(data)
            except (TypeError, ValueError) as error:
                said.append(str(error))

    await world.work(Wrong())
    await world.create_run("r", "wrong")
    await world.finished("r")
    assert want in said[0]


async def test_only_who_has_an_attempt_speaks_for_it(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl")
    action = await worker.next()
    other = await world.scripted(pool="other")
    for speaker, attempt, code in (
        (worker, action.task_run_external_id, None),
        (other, action.task_run_external_id, "PERMISSION_DENIED"),
        (worker, "no-such-attempt", "FAILED_PRECONDITION"),
    ):
        assert await put(speaker, attempt, b"x") == code
    assert await put(worker, action.task_run_external_id, b"\xff") == "INVALID_ARGUMENT"
    assert await put(worker, action.task_run_external_id, b"x" * (MAX_CHUNK_BYTES + 1)) == "INVALID_ARGUMENT"


async def test_what_a_worker_says_again_is_told_once(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl")
    action = await worker.next()
    for index, data in ((0, b"a"), (1, b"b"), (0, b"a"), (1, b"b"), (2, b"c"), (2, b"c")):
        assert await put(worker, action.task_run_external_id, data, index=index) is None
    reading = asyncio.create_task(all_of(world.hatchet().admin.get_workflow_run("r")))
    await world.until(lambda: world.engine.streams.readers == 1)
    await worker.complete(action)
    assert chunks(await asyncio.wait_for(reading, SECONDS)) == ["a", "b", "c"]


async def put(worker: ScriptedWorker, attempt: str, data: bytes, *, index: int | None = None) -> str | None:
    """Put a chunk, as published clients do without an index; return the status of a refusal."""
    stub = EventsServiceStub(worker.channel)
    request = events.PutStreamEventRequest(task_run_external_id=attempt, message=data, event_index=index)
    try:
        await worker.call(stub.PutStreamEvent, request)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return None


async def test_a_step_ends_after_what_it_said_however_often_that_was_refused(world: Instance) -> None:
    speaker, may_log = Speaker(), world.engine.may_log
    refusals = iter(range(10))  # of a leader that does not know yet who has what: some 3.5 s of tries

    def refuse_at_first(caller: Caller, attempt_id: str) -> Attempt:
        if next(refusals, None) is not None:
            raise NotReady("not yet")
        return may_log(caller, attempt_id)

    ref = await (await world.work(speaker.workflow)).admin.aio.run_workflow("Speak", {"first": 0})
    reading = asyncio.create_task(all_of(ref))
    await world.until(lambda: world.engine.streams.readers == 1)
    with mock.patch.object(world.engine, "may_log", refuse_at_first):
        speaker.gate.set()
        told = await asyncio.wait_for(reading, SECONDS)
    assert next(refusals, None) is None
    assert chunks(told) == [f"0:{number}" for number in range(10)]


async def test_a_restart_of_the_operator_loses_what_nobody_had_read_and_nothing_else(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_pool(replicas=1)
    await cluster.create_run("r", "streaming", first=50, last=100, gate="go")
    config = ClientConfig(host_port=cluster.grpc_address, token=cluster.token(), tls_strategy="none")
    ref = Hatchet(config=config).admin.get_workflow_run("r")
    told: list[StepRunEvent] = []

    async def read() -> None:
        async for event in ref.stream():
            told.append(event)

    reading = asyncio.create_task(read())

    async def has_first_half() -> bool:
        return len(chunks(told)) == 50

    await eventually(has_first_half)
    await cluster.crash_operator()
    await cluster.start_operator()
    cluster.open_gate("go")
    await asyncio.wait_for(reading, SECONDS)
    assert chunks(told) == [str(number) for number in range(100)], "who listened all the time has all of it"
    late = await asyncio.wait_for(all_of(ref), SECONDS)
    assert chunks(late) == [str(number) for number in range(50, 100)], "who asks now has what came since the restart"
