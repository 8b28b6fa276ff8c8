"""Idempotency keys: while a run has one, no second run of its workflow is created with it, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from hatchet_operator.access.identity import Caller
from hatchet_operator.engine.triggers.events import read_event
from hatchet_operator.resources.base import Json
from hatchet_sdk.contracts import admin_v1_pb2 as v1
from hatchet_sdk.contracts import workflows_pb2 as wire
from tests.integration.inprocess import (
    NAMESPACE,
    POOL,
    Instance,
    ScriptedWorker,
    operator_of,
    running_operator,
    running_server,
)

HOUR = 3_600_000


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


async def worker_of(
    world: Instance, name: str = "order", *, expression: str = "input.id", ttl_ms: int = HOUR, **more: Any
) -> ScriptedWorker:
    """Register a workflow with keys and another one without, and return a worker of both."""
    worker = await world.scripted(takes_names=False)
    same = wire.IdempotencyOpts(expression=expression, ttl_ms=ttl_ms, **more)
    await worker.put_workflow(name, idempotency=same, event_triggers=["order"])
    await worker.put_workflow("parent")
    await worker.start()
    return worker


async def trigger(worker: ScriptedWorker, input: str, name: str = "order", **more: Any) -> str:  # the field
    request = wire.TriggerWorkflowRequest(name=name, input=input, **more)
    return str((await worker.call(worker.workflows.TriggerWorkflow, request)).workflow_run_id)


def collision_of(error: grpc.aio.AioRpcError) -> v1.RpcStatus:
    """Return what Hatchet's clients read of a refusal; they check that it says the same as the call's status."""
    assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "idempotency key collision")
    (packed,) = (value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin")
    assert isinstance(packed, bytes)
    status = v1.RpcStatus.FromString(packed)
    assert (status.code, status.message) == (6, error.details())
    return status


async def collides(worker: ScriptedWorker, input: str, **more: Any) -> str:  # the field
    """Trigger a run whose key another one has; return the id of that."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trigger(worker, input, **more)
    (detail,) = collision_of(caught.value).details
    told = v1.IdempotencyCollisionError()
    assert detail.Unpack(told)
    return told.existing_run_external_id


async def test_a_second_run_with_a_key_is_refused_and_the_first_one_is_named(world: Instance) -> None:
    worker = await worker_of(world)
    first = await trigger(worker, '{"id": 7}')
    assert await collides(worker, '{"id": 7, "more": true}') == first
    assert await trigger(worker, '{"id": 8}') != first
    await worker.complete(await worker.next())
    assert await collides(worker, '{"id": 7}') == first, "also when it has ended"
    assert len(await world.runs("hatchet-operator.dev/idempotency-key=7")) == 1


async def test_the_same_request_finds_its_own_run(world: Instance) -> None:
    worker = await worker_of(world)
    first = await trigger(worker, '{"id": 7}', request_id="r1")
    assert await trigger(worker, '{"id": 7}', request_id="r1") == first
    assert await collides(worker, '{"id": 7}', request_id="r2") == first


async def test_a_key_is_free_after_its_time(world: Instance) -> None:
    worker = await worker_of(world)
    first = await trigger(worker, '{"id": 7}')
    world.surroundings.ahead = timedelta(minutes=59)
    await collides(worker, '{"id": 7}')
    world.surroundings.ahead = timedelta(hours=1)
    second = await trigger(worker, '{"id": 7}')
    assert second != first
    world.surroundings.ahead = timedelta(0)
    assert await collides(worker, '{"id": 7}') == second, "the newest one has it"


async def test_a_key_may_be_free_as_soon_as_its_run_has_ended(world: Instance) -> None:
    worker = await worker_of(world, until_end=True)
    first = await trigger(worker, '{"id": 7}')
    assert await collides(worker, '{"id": 7}') == first
    await worker.complete(await worker.next())
    [run] = await world.runs()
    await world.finished(run["metadata"]["name"])
    assert await trigger(worker, '{"id": 7}') != first


async def test_a_deleted_run_frees_its_key(world: Instance) -> None:
    worker = await worker_of(world)
    first = await trigger(worker, '{"id": 7}')
    [run] = await world.runs()
    await world.delete_run(run["metadata"]["name"])
    await world.until(lambda: world.engine.store.by_uid(first) is None)
    assert await trigger(worker, '{"id": 7}') != first


async def test_of_many_at_once_one_is_created_also_over_a_restart() -> None:
    async with running_server() as (server, url):
        for made in (1, 0):
            async with operator_of(server, url) as world:
                worker = await worker_of(world)
                calls = (trigger(worker, '{"id": "once"}') for _ in range(10))
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert [isinstance(each, str) for each in answers].count(True) == made, answers
                assert len(await world.runs()) == 1


async def test_a_child_has_a_key_and_a_retried_parent_finds_it(world: Instance) -> None:
    worker = await worker_of(world)
    for name in ("one", "two"):
        await world.create_run(name, "parent")
    one, two = await worker.next(), await worker.next()
    child = await worker.spawn(one, "order", key="a", input={"id": 7})
    assert await worker.spawn(one, "order", key="a", input={"id": 7}) == child, "its key says which child it is"
    with pytest.raises(grpc.aio.AioRpcError, match="idempotency key collision"):
        await worker.spawn(two, "order", key="a", input={"id": 7})
    assert await collides(worker, '{"id": 7}') == child


async def test_an_event_whose_key_is_taken_starts_nothing_and_a_run_of_an_event_has_its_key(world: Instance) -> None:
    worker = await worker_of(world)
    for event_id, count in (("e1", 1), ("e1", 1), ("e2", 1)):
        await world.engine.triggering.push(
            read_event(Caller(namespace=NAMESPACE, pool=POOL), "order", '{"id": 7}', event_id=event_id)
        )
        assert len(await world.runs()) == count
    [run] = await world.runs()
    assert run["metadata"]["annotations"]["hatchet-operator.dev/event-id"] == "e1"
    assert await collides(worker, '{"id": 7}') == run["metadata"]["uid"]


async def test_a_bulk_request_is_told_what_was_created_and_which_runs_have_the_keys(world: Instance) -> None:
    worker = await worker_of(world)
    first = await trigger(worker, '{"id": 7}')
    items = [wire.TriggerWorkflowRequest(name="order", input=f'{{"id": {number}}}') for number in (7, 8)]
    request = wire.BulkTriggerWorkflowRequest(workflows=items)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.call(worker.workflows.BulkTriggerWorkflow, request)
    told = v1.BulkTriggerIdempotencyCollisionError()
    (detail,) = collision_of(caught.value).details
    assert detail.Unpack(told)
    assert [each.existing_run_external_id for each in told.collisions] == [first]
    [created] = told.successful_workflow_run_external_ids
    assert created in {run["metadata"]["uid"] for run in await world.runs()}


async def test_a_person_says_what_makes_two_runs_the_same_one(world: Instance) -> None:
    worker = await worker_of(world)
    same: Json = {"expression": "input.customer", "ttl": "1h"}
    await world.patch_workflow("order", idempotency=same)
    first = await trigger(worker, '{"id": 1, "customer": "ada"}')
    assert await collides(worker, '{"id": 2, "customer": "ada"}') == first


@pytest.mark.parametrize(
    ("expression", "ttl_ms", "words"),
    [
        pytest.param("input.", HOUR, "idempotency expression", id="no expression"),
        pytest.param("user", HOUR, "names user", id="an unknown variable"),
        pytest.param("input.id", 0, "expected more than 0", id="no time"),
    ],
)
async def test_what_makes_no_sense_is_refused_at_registration(
    world: Instance, expression: str, ttl_ms: int, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await worker_of(world, expression=expression, ttl_ms=ttl_ms)


async def test_a_run_whose_input_makes_no_key_is_refused(world: Instance) -> None:
    worker = await worker_of(world)
    with pytest.raises(grpc.aio.AioRpcError, match=r"gets no idempotency key: .*there is no 'id'"):
        await trigger(worker, "{}")
