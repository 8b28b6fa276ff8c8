"""``hatchet.runs``: what a program without any right to the Kubernetes API finds of runs, and does to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_sdk import (
    ClientConfig,
    Context,
    Hatchet,
    InvalidRequest,
    RequestRefused,
    RunFilter,
    RunNotFound,
    WorkflowRunCancelled,
)
from hatchet_sdk.contracts.runs_pb2 import ListRunsRequest
from hatchet_sdk.contracts.runs_pb2_grpc import RunsStub
from tests.integration.inprocess import KEY, POOL, Instance, running_operator
from tests.kube.eventually import eventually

hatchet = Hatchet()


class World:
    """An operator, and a worker of real code that is sick until it is healed."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.healed = asyncio.Event()
        self.go_on = asyncio.Event()
        self.calls: list[str] = []

    async def work(self) -> Hatchet:
        world = self

        @hatchet.workflow()
        class Parent:
            @hatchet.step()
            async def load(self, context: Context) -> dict[str, Any]:
                world.calls.append("load")
                return {"n": 1}

            @hatchet.step(parents=["load"])
            async def spawn(self, context: Context) -> dict[str, Any]:
                world.calls.append("spawn")
                refs = [await context.aio.spawn_workflow("Child", {"n": n}, key=str(n)) for n in range(3)]
                ends = await asyncio.gather(*(ref.result() for ref in refs), return_exceptions=True)
                for end in ends:
                    if isinstance(end, BaseException):
                        raise end
                return {"children": len(ends)}

        @hatchet.workflow()
        class Child:
            @hatchet.step()
            async def work(self, context: Context) -> dict[str, Any]:
                number = context.workflow_input()["n"]
                world.calls.append(f"child{number}")
                if number == 1 and not world.healed.is_set():
                    raise RuntimeError("it is sick")
                return {"n": number}

        @hatchet.workflow()
        class Long:
            @hatchet.step()
            async def work(self, context: Context) -> dict[str, Any]:
                while not world.go_on.is_set():  # noqa: ASYNC110  # of another loop
                    await asyncio.sleep(0.02)
                return {"n": 1}

        return await self.instance.work(Parent(), Child(), Long())


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_operator(running_after=0) as instance:
        yield World(instance)


async def failed_tree(world: World, client: Hatchet) -> str:
    ref = await client.admin.aio.run_workflow("Parent", {}, {"additional_metadata": {"team": "blue", "n": 7}})
    await world.instance.finished(ref.workflow_run_id)
    return ref.workflow_run_id


async def test_runs_are_listed_by_workflow_phase_time_metadata_and_tree(world: World) -> None:
    client = await world.work()
    before = datetime.now(UTC) - timedelta(seconds=2)
    root = await failed_tree(world, client)
    lonely = (await client.admin.aio.run_workflow("Child", {"n": 5})).workflow_run_id
    await world.instance.finished(lonely)
    after = datetime.now(UTC) + timedelta(seconds=2)

    async def found(**which: Any) -> set[str]:
        return {run.run_id for run in (await client.runs.aio.list(RunFilter(**which))).runs}

    everything = await found()
    assert len(everything) == 5
    children = everything - {root, lonely}
    assert await found(workflow="Parent") == {root}
    assert await found(workflow="Child") == children | {lonely}
    assert await found(phases=["Failed"], workflow="Parent") == {root}
    assert await found(phases=["Failed", "Succeeded"]) == everything
    assert await found(tree=root) == children | {root}
    assert await found(tree=lonely) == {lonely}
    assert await found(metadata={"team": "blue", "n": "7"}) == children | {root}
    assert await found(metadata={"team": "red"}) == set()
    assert await found(since=before) == everything
    assert await found(since=after) == await found(until=before) == set()
    (child,) = (await client.runs.aio.list(RunFilter(workflow="Child", phases=["Failed"]))).runs
    assert (child.key, child.parent_run_id, child.parent_step, child.phase) == ("1", root, "spawn", "Failed")
    assert "it is sick" in child.message
    with pytest.raises(InvalidRequest, match=f'is one of tree "{root}"; ask for that'):
        await found(tree=child.run_id)
    with pytest.raises(RunNotFound, match='there is no run "nobody"'):
        await found(tree="nobody")
    unchecked = RunFilter()
    object.__setattr__(unchecked, "phases", ["Broken"])  # our SDK refuses it where it is written; others may not
    with pytest.raises(InvalidRequest, match=r"'Broken' is not a valid Phase \(phases: Pending, Running"):
        await client.runs.aio.list(unchecked)


async def test_pages(world: World) -> None:
    client = await world.work()
    root = await failed_tree(world, client)
    found: list[str] = []
    page, pages = None, 0
    while True:
        some = await client.runs.aio.list(RunFilter(tree=root), limit=2, page=page)
        found += [run.run_id for run in some.runs]
        pages += 1
        if (page := some.next_page) is None:
            break
    assert (len(found), len(set(found)), found) == (4, 4, sorted(found))
    assert pages >= 2
    with pytest.raises(ValueError, match=r"runs\.list: limit is 1001 \(expected 1 to 1000\)"):
        await client.runs.aio.list(limit=1001)
    other = await world.instance.scripted()  # a client that checks nothing itself
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await other.call(RunsStub(other.channel).ListRuns, ListRunsRequest(limit=1001))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "limit is 1001; expected 1 to 1000" in (refused.value.details() or "")


async def test_details_of_a_run(world: World) -> None:
    client = await world.work()
    root = await failed_tree(world, client)
    details = await asyncio.to_thread(client.runs.get, root)
    assert (details.run.phase, details.run.reason, details.input) == ("Failed", "StepFailed", {})
    assert details.run.children == {"total": 3, "succeeded": 2, "failed": 1, "cancelled": 0}
    assert details.run.additional_metadata["team"] == "blue"
    assert (details.steps["load"].phase, details.steps["load"].output) == ("Succeeded", {"n": 1})
    assert "it is sick" in (details.steps["spawn"].error or "")
    with pytest.raises(RunNotFound, match='there is no run "nobody"'):
        await client.runs.aio.get("nobody")


async def test_a_tree_is_replayed(world: World) -> None:
    client = await world.work()
    root = await failed_tree(world, client)
    world.healed.set()
    before = len(world.calls)
    await client.runs.aio.replay(root)
    await world.instance.finished(root, reruns=1)
    assert await client.admin.get_workflow_run(root).result() == {"load": {"n": 1}, "spawn": {"children": 3}}
    assert world.calls[before:] == ["child1", "spawn"]
    with pytest.raises(RequestRefused, match="succeeded, so nothing of it failed"):
        await client.runs.aio.replay(root)
    await asyncio.to_thread(client.runs.replay, root, afresh=True)
    await world.instance.finished(root, reruns=2)
    assert sorted(world.calls[before + 2 :]) == ["child0", "child1", "child2", "load", "spawn"]


async def test_a_run_is_suspended_resumed_and_cancelled(world: World) -> None:
    client = await world.work()
    ref = await client.admin.aio.run_workflow("Long", {})
    name = ref.workflow_run_id
    await world.instance.until_phase(name, "Running")
    await asyncio.to_thread(client.runs.suspend, name)

    async def is_suspended() -> bool:
        run = (await client.runs.aio.get(name)).run
        return (run.is_suspended, run.reason) == (True, "Suspended")

    await eventually(is_suspended)
    await client.runs.aio.resume(name)
    await asyncio.to_thread(client.runs.cancel, name)
    with pytest.raises(WorkflowRunCancelled):
        await ref.result()
    with pytest.raises(RequestRefused, match="is over \\(Cancelled\\), so there is nothing to cancel"):
        await client.runs.aio.cancel(name)
    with pytest.raises(RunNotFound, match='there is no run "nobody"'):
        await asyncio.to_thread(client.runs.cancel, "nobody")


async def test_many_are_told_one_by_one(world: World) -> None:
    client = await world.work()
    going = [(await client.admin.aio.run_workflow("Long", {})).workflow_run_id for _ in range(3)]
    over = (await client.admin.aio.run_workflow("Child", {"n": 5})).workflow_run_id
    await world.instance.finished(over)
    results = await client.runs.aio.bulk_cancel([going[0], over, "nobody"])
    assert [(result.run_id, result.outcome) for result in results] == [
        (going[0], "done"),
        (over, "refused"),
        ("nobody", "not_found"),
    ]
    assert results[1].message == f"run {over} is over (Succeeded), so there is nothing to cancel"
    await world.instance.finished(going[0])
    results = await asyncio.to_thread(
        client.runs.bulk_cancel, RunFilter(workflow="Long", phases=["Pending", "Running"])
    )
    assert {(result.run_id, result.outcome) for result in results} == {(name, "done") for name in going[1:]}
    for name in going:
        assert (await world.instance.finished(name))["phase"] == "Cancelled"
    with pytest.raises(TypeError, match="expected a list of ids of runs, or a RunFilter"):
        client.runs.bulk_cancel(over)


async def test_all_that_failed_are_replayed_by_a_filter(world: World) -> None:
    client = await world.work()
    runs = [(await client.admin.aio.run_workflow("Child", {"n": 1})).workflow_run_id for _ in range(3)]
    for name in runs:
        assert (await world.instance.finished(name))["phase"] == "Failed"
    world.healed.set()
    results = await client.runs.aio.bulk_replay(RunFilter(workflow="Child", phases=["Failed"]))
    assert {(result.run_id, result.outcome) for result in results} == {(name, "done") for name in runs}
    for name in runs:
        assert (await world.instance.finished(name, reruns=1))["phase"] == "Succeeded"


async def test_a_paused_run_is_found_and_resumed(world: World) -> None:
    await world.instance.create_workflow("child", onRetriesExhausted="Pause")
    client = await world.work()
    name = (await client.admin.aio.run_workflow("Child", {"n": 1})).workflow_run_id

    async def is_paused() -> bool:
        return (await client.runs.aio.get(name)).run.is_paused

    await eventually(is_paused)
    world.healed.set()
    await client.runs.aio.resume(name)
    assert (await world.instance.finished(name))["phase"] == "Succeeded"


async def test_a_caller_sees_its_own_namespace_only(world: World) -> None:
    client = await world.work()
    name = (await client.admin.aio.run_workflow("Child", {"n": 5})).workflow_run_id
    await world.instance.finished(name)
    address = world.instance.operator.grpc_address
    token = mint_token(Caller(namespace="elsewhere", pool=POOL), key=KEY, grpc_address=address)
    stranger = Hatchet(config=ClientConfig(host_port=address, token=token, tls_strategy="none"))
    assert (await stranger.runs.aio.list()).runs == []
    with pytest.raises(RunNotFound):
        await stranger.runs.aio.get(name)
    with pytest.raises(RunNotFound, match='there is no run "'):
        await stranger.runs.aio.cancel(name)
    with pytest.raises(RunNotFound):
        await stranger.runs.aio.cancel((await world.instance.run(name))["metadata"]["uid"])


async def test_a_lost_answer_does_not_refuse_what_was_done(world: World) -> None:
    client = await world.work()
    name = (await client.admin.aio.run_workflow("Child", {"n": 1})).workflow_run_id
    await world.instance.finished(name)
    world.healed.set()
    match = {"verb": "patch", "resource": "workflowruns"}
    world.instance.server.faults.install([{"match": match, "action": "commit-then-drop"}])
    await client.runs.aio.replay(name)
    assert (await world.instance.finished(name, reruns=1))["phase"] == "Succeeded"
