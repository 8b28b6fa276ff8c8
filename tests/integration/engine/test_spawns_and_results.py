"""Spawns, and those who await runs, in races."""

from __future__ import annotations

import asyncio

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import UnknownObject
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    STRANGER,
    child_trigger,
    connect,
    make_definition,
    make_run,
    next_attempt,
    requests_to,
    until,
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="none at all"),
        pytest.param("../../../../../api/v1/namespaces/default/secrets/keys", id="a path that leads elsewhere"),
        pytest.param("run/status", id="a path that leads below"),
        pytest.param("run?watch=true", id="a query"),
        pytest.param("nobody", id="of a run that is not there"),
    ],
)
async def test_whoever_awaits_what_can_not_be_found_is_told_so(server: ApiServer, engine: Engine, name: str) -> None:
    await until(lambda: all(requests_to(server, "watch", kind) for kind in ("workflowruns", "pods")))
    before = server.requests.total()
    stream = engine.results.open(MAIN)
    stream.add(name)
    async with asyncio.timeout(SECONDS):
        (result,) = await anext(stream.results())
    assert (result.run, result.phase) == (name, "Deleted")
    assert server.requests.total() - before == (1 if name == "nobody" else 0)


async def test_whoever_awaits_a_run_that_may_not_be_read_is_told_so(server: ApiServer, engine: Engine) -> None:
    match = {"verb": ["get"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "status", "code": 403}])
    stream = engine.results.open(MAIN)
    stream.add("run")
    async with asyncio.timeout(SECONDS):
        (result,) = await anext(stream.results())
    assert result.steps[0].error == "run run can't be read: injected fault: 403"


async def test_a_child_that_is_there_is_found_though_its_workflow_is_gone(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl", "child")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    first = await engine.spawning.trigger(child_trigger(attempt, "run"))
    engine.workflows.forget(ObjectRef(NAMESPACE, "child"))
    assert await engine.spawning.trigger(child_trigger(attempt, "run")) == first
    with pytest.raises(UnknownObject):
        await engine.spawning.trigger(child_trigger(attempt, "run", key="b"))


async def test_a_stranger_who_awaits_a_child_frees_no_slot_of_its_parent(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await engine.workflows.register(NAMESPACE, POOL, make_definition("child"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    parent = engine.runs.attempts[await next_attempt(stream)]
    child = await engine.spawning.trigger(child_trigger(parent.id, "run"))
    stranger, itself = engine.results.open(STRANGER), engine.results.open(MAIN)
    stranger.add(child)
    assert parent.occupies_slot
    itself.add(child)
    assert not parent.occupies_slot
    itself.close()
    assert parent.occupies_slot


async def test_a_spawn_waits_with_pauses_for_a_child_to_be_gone_that_nobody_here_watches(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    _, stream = await connect(engine, "etl")
    await engine.workflows.register(NAMESPACE, POOL, make_definition("child"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    name = await engine.spawning.trigger(child_trigger(attempt, "run"))
    child = await api.get(RUNS, NAMESPACE, name)
    await api.delete(RUNS, NAMESPACE, name)
    await until(lambda: engine.store.get(ObjectRef(NAMESPACE, name)) is None)
    metadata = {"name": name, "finalizers": ["tests/kept"], "ownerReferences": child["metadata"]["ownerReferences"]}
    await api.create(
        RUNS, NAMESPACE, {**child, "metadata": metadata, "spec": child["spec"] | {"managedBy": "another.example/one"}}
    )
    await api.delete(RUNS, NAMESPACE, name)
    before = server.requests.total()
    spawn = asyncio.ensure_future(engine.spawning.trigger(child_trigger(attempt, "run")))
    await asyncio.sleep(10)
    assert not spawn.done()
    assert server.requests.total() - before < 100
    await api.patch(RUNS, NAMESPACE, name, {"metadata": {"finalizers": None}})
    async with asyncio.timeout(SECONDS):
        assert await spawn == name
