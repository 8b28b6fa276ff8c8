"""The wire to the letter: what Hatchet's published clients rely on, and what our own SDK would not notice.

The published clients themselves are run by tests/compat, where they are installed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import grpc.aio
import pytest

from hatchet_operator.resources.names import tenant_id
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import events_pb2 as events
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceStub
from tests.integration.harness import NAMESPACE, Cluster, phase_of
from tests.integration.raw_worker import COMPLETED, STARTED, RawWorker, next_action, raw_worker

WORKFLOW = "raw"
EAGER: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""A client that pings ten times as often as Hatchet's do, so that a test need not wait a minute for the verdict."""


@pytest.fixture
async def worker(cluster: Cluster) -> AsyncIterator[RawWorker]:
    await cluster.start_operator()
    async with raw_worker(cluster.grpc_address, cluster.token()) as connected:
        yield connected


@pytest.fixture
async def channel(cluster: Cluster) -> AsyncIterator[grpc.aio.Channel]:
    await cluster.start_operator()
    async with grpc.aio.insecure_channel(cluster.grpc_address) as opened:
        yield opened


async def test_pings_on_an_idle_connection_do_not_end_it(cluster: Cluster) -> None:
    await cluster.start_operator()
    async with grpc.aio.insecure_channel(cluster.grpc_address, options=EAGER) as channel:
        worker = RawWorker(channel, cluster.token())
        await worker.register(WORKFLOW)
        stream = worker.listen()
        reading = asyncio.ensure_future(stream.read())
        ended, _ = await asyncio.wait([reading], timeout=7)  # with gRPC's defaults: GOAWAY at the third ping
        assert not ended, f"the stream ended: {await stream.details()}"
        await cluster.create_run("run", WORKFLOW)
        action = await asyncio.wait_for(reading, 45)
        assert isinstance(action, wire.AssignedAction)
        assert action.workflow_run_id == "run"
        assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_an_assigned_action_has_what_published_workers_read(cluster: Cluster, worker: RawWorker) -> None:
    await worker.register(WORKFLOW, steps=("first", "second"))
    stream = worker.listen()
    await cluster.create_run("run", WORKFLOW, a=1)
    first = await next_action(stream)
    assert json.loads(first.action_payload) == {
        "input": {"a": 1},
        "triggered_by": "manual",
        "parents": {},
        "user_data": {},
        "overrides": {},
        "step_run_errors": {},
    }
    assert (first.tenant_id, first.action_type) == (tenant_id(NAMESPACE), wire.START_STEP_RUN)
    assert (first.action_id, first.task_name, first.retry_count) == ("raw:first", "first", 0)
    assert (first.job_name, first.get_group_key_run_id) == (WORKFLOW, "")
    assert not first.HasField("parent_workflow_run_id")
    child = await worker.spawn(WORKFLOW, parent=first, index=-1)
    spawned = await next_action(stream)
    assert (spawned.workflow_run_id, spawned.parent_workflow_run_id) == (child, "run")
    assert (spawned.child_workflow_index, spawned.HasField("child_workflow_key")) == (-1, False)
    assert json.loads(spawned.action_payload)["triggered_by"] == "parent"
    await worker.report(first, COMPLETED, '{"b": 2}')
    second = await next_action(stream)
    assert json.loads(second.action_payload)["parents"] == {"first": {"b": 2}}
    assert second.job_id == first.job_id


async def test_started_may_come_twice_and_an_empty_result_is_none(cluster: Cluster, worker: RawWorker) -> None:
    await worker.register(WORKFLOW)
    stream = worker.listen()
    await cluster.create_run("run", WORKFLOW)
    action = await next_action(stream)
    for kind in (STARTED, STARTED, COMPLETED, STARTED):
        await worker.report(action, kind)
    run = await cluster.finished("run")
    assert phase_of(run) == "Succeeded"
    [result] = (await worker.end_of("run")).results
    assert (result.task_name, result.output, result.error) == ("work", "", "")
    assert not result.HasField("error")


async def test_a_run_may_be_subscribed_again_and_again(cluster: Cluster, worker: RawWorker) -> None:
    await worker.register(WORKFLOW)
    stream = worker.listen()
    await cluster.create_run("run", WORKFLOW)
    action = await next_action(stream)
    subscription = worker.subscribe()
    request = wire.SubscribeToWorkflowRunsRequest(workflow_run_id="run")
    await subscription.write(request)
    await subscription.write(request)
    await worker.report(action, COMPLETED, '{"a": 1}')
    first = await subscription.read()
    await subscription.write(request)
    again = await subscription.read()
    subscription.cancel()
    for event in (first, again, await worker.end_of("run")):
        assert isinstance(event, wire.WorkflowRunEvent)
        assert [(result.task_name, result.output) for result in event.results] == [("work", '{"a": 1}')]


async def test_calls_that_change_nothing_here_are_answered(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    dispatcher = DispatcherStub(channel)
    metadata = (("authorization", f"bearer {cluster.token()}"),)
    overrides = wire.OverridesData(task_run_external_id="x", path="setting", value="1")
    await dispatcher.PutOverridesData(overrides, metadata=metadata)
    version = (await dispatcher.GetVersion(wire.GetVersionRequest(), metadata=metadata)).version
    assert tuple(int(part) for part in version.removeprefix("v").split(".")) >= (0, 80, 0)


async def test_a_call_that_is_not_served_says_what_is_missing(cluster: Cluster, channel: grpc.aio.Channel) -> None:
    metadata = (("authorization", f"bearer {cluster.token()}"),)
    pushing = EventsServiceStub(channel)
    answers: list[tuple[Awaitable[object], str]] = [
        (pushing.ReplaySingleEvent(events.ReplayEventRequest(), metadata=metadata), "no replay of events"),
    ]
    for answer, want in answers:
        await assert_not_there(answer, want)


async def assert_not_there(answer: Awaitable[object], want: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await answer
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED  # the one refusal that no published client repeats
    assert want in (refusal.value.details() or "")
