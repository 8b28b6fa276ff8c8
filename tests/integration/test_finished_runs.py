"""Finished runs whose object the operator has forgotten: who asks for one gets it, or hears that it was deleted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.reports import Reports
from hatchet_operator.pace import Pace
from hatchet_operator.resources.names import ObjectRef
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.inprocess import (
    NAMESPACE,
    Instance,
    ScriptedWorker,
    errors_of,
    make_run,
    outputs_of,
    running_operator,
)
from tests.kube.eventually import eventually

CHILDREN = 20


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(running_after=60, children_every=0.2) as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    """A worker of workflows "parent" and "child", of a step each."""
    worker = await world.scripted()
    await worker.put_workflow("parent", [{"retries": 5}])
    await worker.put_workflow("child")
    return await worker.start()


def reads(world: Instance) -> int:
    """How many single runs the operator has read so far."""
    return sum(
        count
        for (verb, _, resource, _, _, agent), count in world.server.requests.items()
        if (verb, resource, agent) == ("get", "workflowruns", "hatchet-operator")
    )


def record_of(world: Instance, name: str) -> RunRecord:
    record = world.engine.store.get(ObjectRef(NAMESPACE, name))
    assert record is not None
    return record


async def forget(world: Instance, name: str) -> RunRecord:
    """Have the operator forget a finished run's object, as it does after a while."""
    await world.until(lambda: record_of(world, name).is_final and not record_of(world, name).writing)
    record = record_of(world, name)
    record.forget_object()
    assert record.whole is None
    return record


async def start_parent(world: Instance, worker: ScriptedWorker) -> wire.AssignedAction:
    await world.create_run("p", "parent")
    return await worker.next()


async def finish_child(world: Instance, worker: ScriptedWorker, parent: wire.AssignedAction, key: str = "a") -> str:
    """Spawn a child and let it succeed."""
    name = await worker.spawn(parent, key=key)
    await worker.complete(await worker.next(), {"key": key})
    await world.until(lambda: record_of(world, name).is_final)
    return name


async def test_what_nobody_asked_for_is_forgotten_when_its_parent_ends(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    assert record_of(world, name).whole is not None
    await worker.complete(parent)
    await world.until(lambda: record_of(world, name).whole is None and record_of(world, "p").whole is None)


async def test_a_root_is_there_until_the_client_that_started_it_is_told(
    world: Instance, worker: ScriptedWorker
) -> None:
    started = await worker.trigger("child")
    await worker.complete(await worker.next(), {"n": 1})
    await world.until(lambda: record_of(world, started).is_final)
    await world.create_run("of-a-person", "child")
    await worker.complete(await worker.next())
    await world.until(lambda: record_of(world, "of-a-person").is_final)
    await world.until(lambda: record_of(world, "of-a-person").whole is None)
    assert outputs_of(await worker.result(started)) == {"work": {"n": 1}}
    assert reads(world) == 0
    await world.until(lambda: record_of(world, started).whole is None)


async def test_when_a_parent_ends_only_its_unfinished_children_are_looked_at(
    world: Instance, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await start_parent(world, worker)
    finished = [await finish_child(world, worker, parent, str(number)) for number in range(CHILDREN)]
    for name in finished:
        await forget(world, name)
    unfinished = await worker.spawn(parent, key="goes on")
    await worker.next()
    looked_at: Counter[str] = Counter()
    settle = Reports.settle

    def look(reports: Reports, record: RunRecord) -> None:
        looked_at[record.ref.name] += 1
        settle(reports, record)

    monkeypatch.setattr(Reports, "settle", look)
    await worker.complete(parent)
    await world.finished("p")
    await world.until(lambda: looked_at[unfinished] > 0 and world.engine.runs.are_at_rest)
    assert {name: count for name, count in looked_at.items() if name in finished} == {}


async def test_a_retried_parent_reads_a_finished_child_once(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    await forget(world, name)
    await worker.fail(parent, "once more")
    parent = await worker.next()
    assert await worker.spawn(parent, key="a") == name
    assert outputs_of(await worker.result(name)) == {"work": {"key": "a"}}
    assert outputs_of(await worker.result(name)) == {"work": {"key": "a"}}
    assert reads(world) == 1


async def test_many_who_ask_for_the_same_run_read_it_once(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    await forget(world, name)
    results = await asyncio.gather(*(worker.result(name) for _ in range(CHILDREN)))
    assert [outputs_of(result) for result in results] == [{"work": {"key": "a"}}] * CHILDREN
    assert reads(world) == 1


async def test_whoever_awaits_a_forgotten_run_that_was_deleted_is_told_so(
    world: Instance, worker: ScriptedWorker
) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    await forget(world, name)
    silence(world)
    await world.delete_run(name)
    assert errors_of(await worker.result(name)) == [f"run {name} was deleted"]


async def test_a_forgotten_child_that_was_deleted_is_made_anew(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    gone = await forget(world, name)
    silence(world)
    await world.delete_run(name)
    assert await worker.spawn(parent, key="a") == name
    child = await worker.next()
    assert child.workflow_run_id == name
    assert record_of(world, name).uid != gone.uid


async def test_a_forgotten_child_is_run_again(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    name = await worker.spawn(parent, key="a")
    await worker.fail(await worker.next(), should_not_retry=True)
    assert errors_of(await worker.result(name)) == ["it broke"]
    await forget(world, name)
    await worker.spawn(parent, key="a", on_failed="retry")
    await worker.complete(await worker.next(), {"n": 1})
    assert outputs_of(await worker.result(name)) == {"work": {"n": 1}}


async def test_a_forgotten_run_that_is_run_again_meanwhile_is_waited_for(
    world: Instance, worker: ScriptedWorker
) -> None:
    parent = await start_parent(world, worker)
    name = await finish_child(world, worker, parent)
    await forget(world, name)
    silence(world)
    await world.patch_run(name, reruns=1)
    awaiting = asyncio.create_task(worker.result(name))
    await worker.complete(await worker.next(), {"n": 2})
    assert outputs_of(await awaiting) == {"work": {"n": 2}}


async def test_a_forgotten_parent_counts_the_children_that_outlive_it(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await worker.spawn(parent, key="a")
    child = await worker.next()
    await worker.complete(parent)
    await world.finished("p")
    await forget(world, "p")
    await worker.complete(child)

    async def is_counted() -> bool:
        return bool((await world.run("p"))["status"]["children"]["summary"] == "1/1")

    await eventually(is_counted)
    assert reads(world) == 1


async def test_a_step_of_a_forgotten_parent_spawns_nothing(world: Instance, worker: ScriptedWorker) -> None:
    parent = await start_parent(world, worker)
    await worker.complete(parent)
    await world.finished("p")
    await forget(world, "p")
    with pytest.raises(Exception, match="this attempt of a step of run"):
        await worker.spawn(parent, key="a")


async def test_a_list_of_a_running_operator_keeps_the_objects_of_few_finished_runs() -> None:
    async with running_operator(pace=Pace(grace=0.0, whole_runs=5)) as world:
        silence(world)
        for number in range(CHILDREN):
            run = make_run(f"old-{number}", "parent")
            created = await world.api.create(RUNS, NAMESPACE, run)
            created["status"] = {"phase": "Succeeded", "finishedAt": datetime.now(UTC).isoformat()}
            await world.api.replace(RUNS, NAMESPACE, f"old-{number}", created, subresource="status")
        world.server.store.forget_history()
        world.server.faults.clear()
        cut(world)
        await world.until(lambda: len(world.engine.store) == CHILDREN)
        assert sum(record.whole is not None for record in world.engine.store) <= 5


def silence(world: Instance) -> None:
    """Have the operator's watch of runs tell nothing more."""
    world.server.faults.install(
        {"match": {"verb": "watch", "resource": "workflowruns"}, "action": "silent", "times": 0}
    )


def cut(world: Instance) -> None:
    """End the operator's watch of runs."""
    world.server.faults.install({"match": {"verb": "watch", "resource": "workflowruns"}, "action": "cut", "times": 1})
