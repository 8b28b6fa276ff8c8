"""Runs of another controller: left alone entirely, with all below them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_sdk import WorkflowRunDeleted
from tests.integration.inprocess import NAMESPACE, Instance, ScriptedWorker, make_run, operator_of, running_server

OTHER = "kueue.x-k8s.io/multikueue"
OURS = "hatchet-operator.dev/operator"


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_server() as (server, url), operator_of(server, url, rejoin=0.2, running_after=0) as instance:
        yield instance


async def worker_of(world: Instance) -> ScriptedWorker:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    return await worker.start()


def child_of(parent: Json, name: str, **spec: Any) -> Json:
    metadata = parent["metadata"]
    body = make_run(name, "etl", parent={"name": metadata["name"], "uid": metadata["uid"], "step": "work", "index": 0})
    body["spec"] |= spec
    owner = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": metadata["name"], "uid": metadata["uid"]}
    body["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    return body


async def versions(world: Instance, *names: str) -> list[str]:
    return [(await world.run(name))["metadata"]["resourceVersion"] for name in names]


async def until_others_ran(world: Instance, worker: ScriptedWorker, name: str) -> None:
    """Have a run of ours go through, so that what was to be done before it is done."""
    await world.create_run(name, "etl")
    action = await worker.next()
    assert action.workflow_run_id == name
    await worker.complete(action)
    await world.finished(name)


async def test_a_run_of_another_controller_and_those_below_it_are_left_alone(world: Instance) -> None:
    worker = await worker_of(world)
    theirs = await world.create_run("theirs", "etl", managedBy=OTHER, ttl="0s")
    child = await world.api.create(RUNS, NAMESPACE, child_of(theirs, "their-child"))
    await world.api.create(RUNS, NAMESPACE, child_of(child, "their-grandchild"))
    before = await versions(world, "theirs", "their-child", "their-grandchild")
    await until_others_ran(world, worker, "a-run-of-ours")
    changed = [await world.patch_run(name, cancelled=True) for name in ("theirs", "their-child")]
    await until_others_ran(world, worker, "another-run-of-ours")
    after = await versions(world, "theirs", "their-child", "their-grandchild")
    assert after == [*(run["metadata"]["resourceVersion"] for run in changed), before[2]]
    assert worker.has_nothing_new
    await world.api.patch(RUNS, NAMESPACE, "theirs", {"status": {"phase": "Succeeded"}}, subresource="status")
    await until_others_ran(world, worker, "the-last-run-of-ours")
    assert await world.exists("theirs"), "its time to live is theirs to know"
    assert [record.ref.name for record in world.engine.store if "their" in record.ref.name] == []


async def test_so_they_are_after_a_restart_in_whatever_order_they_are_listed() -> None:
    async with running_server() as (server, url):
        async with operator_of(server, url, rejoin=0.2) as instance:
            theirs = await instance.create_run("z-theirs", "etl", managedBy=OTHER)
            child = await instance.api.create(RUNS, NAMESPACE, child_of(theirs, "b-child"))
            await instance.api.create(RUNS, NAMESPACE, child_of(child, "a-grandchild"))
            names = ("z-theirs", "b-child", "a-grandchild")
            before = await versions(instance, *names)
        pace = Pace(grace=0.0, turn=0.0)  # others have their turn after each run that is read
        async with operator_of(server, url, pace=pace, rejoin=0.2) as instance:
            worker = await worker_of(instance)
            await until_others_ran(instance, worker, "m-ours")
            assert worker.has_nothing_new
            assert await versions(instance, *names) == before
            assert [record.ref.name for record in instance.engine.store] == ["m-ours"]


async def test_a_run_that_says_that_it_is_ours_is(world: Instance) -> None:
    worker = await worker_of(world)
    await world.create_run("r", "etl", managedBy=OURS)
    await worker.complete(await worker.next())
    assert (await world.finished("r"))["phase"] == "Succeeded"


async def test_whoever_awaits_one_is_told_and_it_can_be_read(world: Instance) -> None:
    await world.create_run("theirs", "etl", managedBy=OTHER)
    client = world.hatchet()
    ref = client.admin.get_workflow_run("theirs")
    with pytest.raises(WorkflowRunDeleted, match=r"run theirs is run by another controller \(spec.managedBy\)"):
        await asyncio.wait_for(ref.result(), 60)
    assert (await client.runs.aio.get("theirs")).run.phase == "Pending"
    assert [run.run_id for run in (await client.runs.aio.list()).runs] == ["theirs"]
