"""Runs that are suspended: at their creation, as by a controller that admits them, and while they go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hatchet_operator.resources.base import Json
from tests.integration.inprocess import Instance, ScriptedWorker, operator_of, running_operator, running_server
from tests.kube.eventually import eventually


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=0) as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    worker = await world.scripted()
    await worker.put_workflow("etl", [{"readable_id": "a"}, {"readable_id": "b", "parents": ["a"]}])
    return await worker.start()


async def until_reason(world: Instance, name: str, reason: str | None) -> Json:
    async def is_there() -> bool:
        status: Json = (await world.run(name)).get("status", {})
        return status.get("reason") == reason

    await eventually(is_there)
    status: Json = (await world.run(name))["status"]
    return status


async def test_nothing_of_a_run_that_is_made_suspended_starts_until_it_is_resumed(
    world: Instance, worker: ScriptedWorker
) -> None:
    await world.create_run("r", "etl", suspended=True)
    status = await until_reason(world, "r", "Suspended")
    assert (status["phase"], status["message"]) == (
        "Pending",
        "spec.suspended is true: no step starts until it is false",
    )
    assert (await world.condition("r", "Suspended"))["status"] == "True"
    assert worker.has_nothing_new
    await world.patch_run("r", suspended=False)
    for step in ("a", "b"):
        action = await worker.next()
        assert action.task_name == step
        await worker.complete(action)
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_running_step_ends_and_the_next_one_waits(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "etl")
    a = await worker.next()
    await world.patch_run("r", suspended=True)
    assert (await until_reason(world, "r", "Suspended"))["phase"] == "Running"
    await worker.complete(a)
    await world.time_passes(1, "r")
    assert worker.has_nothing_new
    await world.patch_run("r", suspended=False)
    await worker.complete(await worker.next())
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_suspended_run_takes_no_room_of_its_group(world: Instance, worker: ScriptedWorker) -> None:
    await world.patch_workflow("etl", concurrency=[{"expression": "'all'", "maxRuns": 1, "strategy": "QueueNewest"}])
    await world.create_run("held", "etl", suspended=True)
    await until_reason(world, "held", "Suspended")
    await world.create_run("free", "etl")
    assert (await worker.next()).workflow_run_id == "free"


async def test_a_run_in_the_queue_is_taken_out_of_it(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start(slots=1)
    await world.create_run("first", "etl")
    first = await worker.next()
    await world.create_run("second", "etl")
    await world.until(lambda: len(world.engine.runs.attempts.queue.waiting_in("default", "main")) == 1)
    await world.patch_run("second", suspended=True)
    await until_reason(world, "second", "Suspended")
    await worker.complete(first)
    await world.finished("first")
    assert worker.has_nothing_new
    await world.patch_run("second", suspended=False)
    assert (await worker.next()).workflow_run_id == "second"


async def test_a_suspended_run_stays_so_when_the_operator_restarts() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url, rejoin=0.2) as instance:
            await instance.create_run("r", "etl", suspended=True)
            await until_reason(instance, "r", "Suspended")
        async with operator_of(server, url, rejoin=0.2) as instance:
            worker = await instance.scripted()
            await worker.put_workflow("etl")
            await worker.start()
            await instance.create_run("other", "etl")
            assert (await worker.next()).workflow_run_id == "other"
            assert worker.has_nothing_new
            await instance.patch_run("r", suspended=False)
            assert (await worker.next()).workflow_run_id == "r"
