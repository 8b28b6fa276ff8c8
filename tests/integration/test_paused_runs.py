"""Runs that pause instead of failing, seen and resumed as a person does with kubectl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.resources.base import Json
from hatchet_sdk import Context, Hatchet
from tests.integration.inprocess import Instance, operator_of, running_operator, running_server
from tests.kube.eventually import eventually

hatchet = Hatchet()


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=0) as instance:
        yield instance


async def until_paused(world: Instance, name: str, *, resumes: int | None = None) -> Json:
    async def holds() -> bool:
        status: Json = (await world.run(name)).get("status", {})
        return status.get("reason") == "Paused" and status.get("resumes") == resumes

    await eventually(holds)
    status: Json = (await world.run(name))["status"]
    return status


async def test_a_run_of_real_code_pauses_and_is_resumed_after_a_fix(world: Instance) -> None:
    fixed, calls = asyncio.Event(), []

    @hatchet.workflow()
    class Etl:
        @hatchet.step()
        async def load(self, context: Context) -> dict[str, Any]:
            calls.append("load")
            return {"n": 1}

        @hatchet.step(parents=["load"], retries=1)
        async def store(self, context: Context) -> dict[str, Any]:
            calls.append("store")
            if not fixed.is_set():
                raise RuntimeError("no space left")
            return {"n": context.step_output("load")["n"] + 1}

    await world.create_workflow("etl", onRetriesExhausted="Pause")
    client = await world.work(Etl())
    ref = await client.admin.aio.run_workflow("Etl", {})
    name = ref.workflow_run_id
    status = await until_paused(world, name)
    assert status["phase"] == "Running"
    assert status["message"].startswith(
        'step "store" failed in attempt 2, and has no retries left: RuntimeError: no space left'
    )
    assert (await world.condition(name, "Paused"))["status"] == "True"
    assert "no space left" in status["steps"]["store"]["error"]
    await world.patch_run(name, resumes=1)
    await until_paused(world, name, resumes=1)  # not fixed yet, and all retries were used again
    fixed.set()
    await world.patch_run(name, resumes=2)
    assert await ref.result() == {"load": {"n": 1}, "store": {"n": 2}}
    assert calls == ["load", *["store"] * 5]
    assert "Paused" not in {c["type"] for c in (await world.run(name))["status"]["conditions"]}


async def test_a_parent_awaits_its_paused_child(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("parent")
    await worker.put_workflow("child")
    await worker.start()
    await world.patch_workflow("child", onRetriesExhausted="Pause")
    await world.create_run("r", "parent")
    parent = await worker.next()
    child = await worker.spawn(parent, key="a")
    result = asyncio.create_task(worker.result(child))
    await worker.fail(await worker.next(), "it broke")
    await until_paused(world, child)
    assert not result.done()
    await world.patch_run(child, resumes=1)
    await worker.complete(await worker.next(), {"n": 1})
    await result
    await worker.complete(parent)
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_a_paused_run_stays_so_when_the_operator_restarts() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url, rejoin=0.2) as instance:
            worker = await instance.scripted()
            await worker.put_workflow("etl")
            await worker.start()
            await instance.patch_workflow("etl", onRetriesExhausted="Pause")
            await instance.create_run("r", "etl")
            await worker.fail(await worker.next(), "it broke")
            await until_paused(instance, "r")
        async with operator_of(server, url, rejoin=0.2) as instance:
            worker = await instance.scripted()
            await worker.put_workflow("etl")
            await worker.start()
            await instance.create_run("other", "etl")
            assert (await worker.next()).workflow_run_id == "other"
            assert worker.has_nothing_new
            await instance.patch_run("r", resumes=1)
            again = await worker.next()
            assert (again.workflow_run_id, again.retry_count) == ("r", 1)
            await worker.complete(again, {"n": 1})
            assert json.loads((await instance.finished("r"))["steps"]["work"]["output"]) == {"n": 1}
