"""Workflows and their definitions: written, read, overwritten and deleted at the wrong moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import REVISIONS, RUNS, WORKFLOWS, Resource
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import NotReady
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    connect,
    make_definition,
    make_run,
    next_attempt,
    observed,
    phase_of,
    session_of,
    started,
    until,
    until_phase,
)
from tests.kube.session import Call


async def test_a_workflow_registered_during_a_resync_stays_known(server: ApiServer, engine: Engine) -> None:
    async def list_and_then_register(list_all: Call, resource: Resource, *args: Any, **options: Any) -> Any:
        answer = await list_all(resource, *args, **options)
        if resource is WORKFLOWS:  # while the answer travels
            await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        return answer

    session_of(engine).detours["list_all"] = list_and_then_register
    await engine.resync()
    assert ObjectRef(NAMESPACE, "etl") in engine.workflows


async def test_the_runs_of_a_deleted_workflow_go_on_after_a_restart(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    async with started(server, rejoin=timedelta()) as engine:
        worker = await engine.registry.register(MAIN, RegistrationRequest(name="worker", actions=("etl:work",)))
        _, stream = engine.registry.listen(MAIN, worker.id, [])
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


async def test_a_definition_that_may_not_be_read_for_a_while_is_waited_for(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    match = {"verb": ["get"], "resource": ["controllerrevisions"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "times": 2}])
    async with started(server) as engine:
        record = await observed(engine, "run")
        assert engine.runs.definitions.may_have(MAIN.pool_ref, record)
        assert engine.workflows.graph_of(record.run) is not None


@pytest.mark.parametrize("data", [None, "text", [1], {"definition": "text"}])
async def test_a_definition_that_somebody_overwrote_counts_as_missing(
    server: ApiServer, api: Api, data: object
) -> None:
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    (revision,), _ = await api.list_all(REVISIONS, NAMESPACE)
    await api.delete(REVISIONS, NAMESPACE, revision["metadata"]["name"])
    metadata = {"name": revision["metadata"]["name"]}
    await api.create(REVISIONS, NAMESPACE, {**revision, "metadata": metadata, "data": data})
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    async with started(server) as engine:
        run = (await observed(engine, "run")).run
        await engine.workflows.wait_until_loaded()
        assert engine.workflows.graph_of(run) is None


async def test_a_registration_whose_workflow_is_deleted_meanwhile_is_not_answered_as_done(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    match = {"verb": ["update"], "resource": ["workflows"], "subresource": ["status"]}
    server.faults.install([{"match": match, "action": "status", "code": 503, "times": 0}])
    changed = make_definition("etl").model_copy(update={"version": "2"})
    registering = asyncio.create_task(engine.workflows.register(NAMESPACE, POOL, changed))
    await until(lambda: any(fault.fired for fault in server.faults.rules))
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    server.faults.clear()
    with pytest.raises(NotReady):
        await registering
