"""Concurrency groups that a worker's method names: asked for before the first step, once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.resources.base import Json
from hatchet_sdk import ConcurrencyLimitStrategy, Context, Hatchet
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.inprocess import (
    NAMESPACE,
    Instance,
    ScriptedWorker,
    operator_of,
    outputs_of,
    running_operator,
    running_server,
)
from tests.kube.eventually import eventually

COMPLETED, FAILED = wire.GROUP_KEY_EVENT_TYPE_COMPLETED, wire.GROUP_KEY_EVENT_TYPE_FAILED


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


async def start(world: Instance, *, max_runs: int = 1, strategy: Any = workflows_wire.QUEUE_NEWEST) -> ScriptedWorker:
    """Start a worker of a published SDK, with a workflow whose group its method "group" names."""
    worker = await world.scripted(takes_names=False)
    limit = workflows_wire.WorkflowConcurrencyOpts(action="etl:group", max_runs=max_runs, limit_strategy=strategy)
    await worker.put_workflow("etl", concurrency=limit)
    worker.offer("etl:group")
    return await worker.start()


async def answer(worker: ScriptedWorker, action: wire.AssignedAction, payload: str, kind: Any = COMPLETED) -> None:
    assert action.action_type == wire.START_GET_GROUP_KEY
    assert (action.action_id, action.task_run_external_id) == ("etl:group", "")
    event = wire.GroupKeyActionEvent(
        worker_id=worker.id,
        workflow_run_id=action.workflow_run_id,
        get_group_key_run_id=action.get_group_key_run_id,
        action_id=action.action_id,
        event_type=kind,
        event_payload=payload,
    )
    await worker.call(worker.dispatcher.SendGroupKeyActionEvent, event)


async def name_group(worker: ScriptedWorker) -> None:
    """Name the input's user as the group that is asked for next; steps that are given out meanwhile stay."""
    others = []
    while (action := await worker.next()).action_type != wire.START_GET_GROUP_KEY:
        others.append(action)
    await answer(worker, action, json.dumps(json.loads(action.action_payload)["user"]))
    for each in others:
        worker.put_back(each)


async def is_waiting(world: Instance, name: str) -> bool:
    return bool((await world.run(name))["status"].get("reason") == "ConcurrencyLimit")


async def test_runs_of_a_group_that_a_method_names_take_turns(world: Instance) -> None:
    worker = await start(world)
    for name, user in (("a1", "ada"), ("a2", "ada"), ("b1", "bob")):
        await world.create_run(name, "etl", {"user": user})
        await name_group(worker)
    out = {
        json.loads(each.action_payload)["input"]["user"]: each for each in (await worker.next(), await worker.next())
    }
    assert sorted(out) == ["ada", "bob"]
    first = out["ada"]
    assert json.loads(first.action_payload)["parents"] == {}, "what names the group is no step that returned something"
    await eventually(lambda: is_waiting(world, "a2"))
    assert worker.has_nothing_new
    await worker.complete(first, {"n": 1})
    third = await worker.next()
    await worker.complete(third, {"n": 2})
    status = await world.finished("a2")
    assert (status["phase"], status["concurrencyGroups"]) == ("Succeeded", ["ada"])
    event = await worker.result((await world.run("a2"))["metadata"]["uid"])
    assert outputs_of(event) == {"work": {"n": 2}}


async def test_a_worker_that_dies_while_it_is_asked_is_followed_by_another(world: Instance) -> None:
    worker = await start(world)
    await world.create_run("a1", "etl", {"user": "ada"})
    assert (await worker.next()).action_type == wire.START_GET_GROUP_KEY
    another = await start(world)
    await worker.stop_listening()
    world.fall_silent(worker)
    await name_group(another)
    await another.complete(await another.next())
    assert (await world.finished("a1"))["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [
        pytest.param("null", COMPLETED, "the method that names the concurrency group returned None", id="nothing"),
        pytest.param('{"a": 1}', COMPLETED, "returned a dict; expected a text", id="no text"),
        pytest.param("KeyError: 'user'", FAILED, "KeyError: 'user'", id="an error"),
    ],
)
async def test_a_method_that_names_no_group_fails_the_run(world: Instance, payload: str, kind: Any, words: str) -> None:
    worker = await start(world)
    await world.create_run("a1", "etl", {})
    await answer(worker, await worker.next(), payload, kind)
    status = await world.finished("a1")
    assert (status["phase"], words in status["message"]) == ("Failed", True)
    assert status["steps"]["work"]["phase"] == "Cancelled"


async def test_who_was_told_once_is_not_asked_again_by_the_next_operator() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url) as first:
            worker = await start(first)
            for name in ("a1", "a2"):
                await first.create_run(name, "etl", {"user": "ada"})
                await name_group(worker)
            going = await worker.next()
            await eventually(lambda: is_waiting(first, "a2"))
            await worker.close()
        async with operator_of(server, url, rejoin=0.2) as second:
            worker = await start(second)
            again = await worker.next()
            assert (again.action_type, again.action_id) == (wire.START_STEP_RUN, "etl:work")
            assert again.workflow_run_id == going.workflow_run_id
            assert worker.has_nothing_new
            await worker.complete(again)
            await worker.complete(await worker.next())
            assert (await second.finished("a2"))["phase"] == "Succeeded"


async def test_a_persons_limit_asks_no_worker(world: Instance) -> None:
    worker = await start(world)
    limit = {"spec": {"concurrency": [{"expression": "input.user"}]}}
    world.engine.workflows.observe("MODIFIED", await world.api.patch(WORKFLOWS, NAMESPACE, "etl", limit))
    await world.create_run("a1", "etl", {"user": "ada"})
    assert (await worker.next()).action_type == wire.START_STEP_RUN


async def test_the_newest_of_a_group_replaces_the_one_before(world: Instance) -> None:
    worker = await start(world, strategy=workflows_wire.CANCEL_IN_PROGRESS)
    await world.create_run("a1", "etl", {"user": "ada"})
    await name_group(worker)
    old = await worker.next()
    await world.create_run("a2", "etl", {"user": "ada"})
    await name_group(worker)
    await worker.until_cancelled(old)
    await worker.complete(await worker.next())
    statuses: list[Json] = [await world.finished(name) for name in ("a1", "a2")]
    assert [status["phase"] for status in statuses] == ["Cancelled", "Succeeded"]


hatchet = Hatchet()  # for its decorators


@pytest.mark.parametrize("is_async", [True, False])
async def test_our_sdks_method_names_the_group(world: Instance, is_async: bool) -> None:
    asked: list[str] = []
    going: list[str] = []
    most = 0

    def name(context: Context) -> str:
        asked.append(context.workflow_input()["user"])
        return asked[-1]

    async def name_later(self: Any, context: Context) -> str:
        return name(context)

    def name_at_once(self: Any, context: Context) -> str:
        return name(context)

    method: Any = name_later if is_async else name_at_once

    @hatchet.workflow(name="Etl")
    class Etl:
        group = hatchet.concurrency(max_runs=1, limit_strategy=ConcurrencyLimitStrategy.QUEUE_NEWEST)(method)

        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            nonlocal most
            going.append(context.workflow_input()["user"])
            most = max(most, going.count("ada"))
            await asyncio.sleep(0.05)
            going.remove(context.workflow_input()["user"])
            return {}

    client = await world.work(Etl())
    refs = await client.admin.aio.run_workflows([{"workflow_name": "Etl", "input": {"user": "ada"}} for _ in range(4)])
    assert [await ref.result() for ref in refs] == [{"work": {}}] * 4
    assert (most, asked) == (1, ["ada"] * 4)


async def test_our_sdks_method_that_names_nothing_fails_the_run(world: Instance) -> None:
    @hatchet.workflow(name="Etl")
    class Etl:
        @hatchet.concurrency()
        def group(self, context: Context) -> Any:
            return None

        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            return {}

    await world.work(Etl())
    await world.create_run("a1", "etl", {})
    status = await world.finished("a1")
    assert "group names the concurrency group None (expected a text that is not empty)" in status["message"]
