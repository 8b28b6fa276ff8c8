"""The engine against the embedded API server, without gRPC: what happens between two awaits and in failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.apiserver import ApiServer
from hatchet_operator.cluster.api import Api, Endpoint, Json
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.registry import RegistrationRequest
from hatchet_operator.engine.spawning import ParentAttempt, Trigger
from hatchet_operator.engine.workers import StartCommand, Worker, WorkerStream
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_operator.settings import Settings
from tests.kube.eventually import eventually

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "default"
POOL = "main"
SECONDS = 10.0


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    server.load_definitions(CRDS)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    """For what people and other controllers do."""
    async with Api(Endpoint(server=url_of(server)), user_agent="test") as api:
        yield api


def url_of(server: ApiServer) -> str:
    assert server._runner is not None
    host, port = server._runner.addresses[0][:2]
    return f"http://{host}:{port}"


@asynccontextmanager
async def started(server: ApiServer, **settings: Any) -> AsyncIterator[Engine]:
    """Run an engine that has read everything and lets workers in."""
    async with Api(Endpoint(server=url_of(server))) as api:
        engine = Engine(api, Settings(**settings), token_key="k" * 64)
        try:
            await engine.start()
            engine.admit_workers("127.0.0.1:1")
            yield engine
        finally:
            await engine.stop()


@pytest.fixture
async def engine(server: ApiServer) -> AsyncIterator[Engine]:
    async with started(server) as engine:
        yield engine


async def connect(
    engine: Engine, *workflows: str, pool: str = POOL, namespace: str = NAMESPACE, **changes: Any
) -> tuple[Worker, WorkerStream]:
    """Register workflows of one step "work" each and a worker for them, and listen."""
    for name in workflows:
        await engine.workflows.register(namespace, pool, make_definition(name))
    request = RegistrationRequest(name="worker", actions=tuple(f"{name}:work" for name in workflows), **changes)
    worker = await engine.registry.register(namespace, pool, request)
    return engine.registry.listen(namespace, worker.id, [])


def make_definition(name: str) -> WorkflowDefinition:
    step = StepDefinition(name="work", action=f"{name}:work", timeout=timedelta(minutes=1))
    return WorkflowDefinition(name=name, steps=(step,), schedule_timeout=timedelta(minutes=5))


async def next_attempt(stream: WorkerStream) -> str:
    async with asyncio.timeout(SECONDS):
        async for command in stream.commands():
            if isinstance(command, StartCommand):
                command.attempt.sent = True
                return command.attempt.id
    raise AssertionError("the stream ended")


def make_run(name: str, workflow: str = "etl", **spec: Any) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"workflow": workflow, **spec},
    }


async def finish(api: Api, run: Json, *, at: datetime) -> Json:
    """Write a run's status as an operator does that finished it."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    status = {"phase": "Succeeded", "reason": "Completed", "finishedAt": moment, "execution": 0}
    return await api.replace(RUNS, NAMESPACE, run["metadata"]["name"], {**run, "status": status}, subresource="status")


def child_trigger(attempt: str, parent: str, *, workflow: str = "child", key: str = "a") -> Trigger:
    child = ParentAttempt(attempt_id=attempt, run=parent, key=key, index=0)
    return Trigger(namespace=NAMESPACE, workflow=workflow, input_json="{}", parent=child)


async def until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await eventually(check, within_seconds=SECONDS)


async def phase_of(api: Api, name: str) -> str:
    run = await api.get(RUNS, NAMESPACE, name)
    return str(run.get("status", {}).get("phase", "Pending"))


async def until_phase(api: Api, name: str, phase: str) -> None:
    async def holds() -> bool:
        return await phase_of(api, name) == phase

    await eventually(holds, within_seconds=SECONDS)


# --- Starts


async def test_a_tree_with_a_running_child_outlives_its_roots_ttl_when_the_operator_starts(
    server: ApiServer, api: Api
) -> None:
    root = await api.create(RUNS, NAMESPACE, make_run("a-root"))
    await finish(api, root, at=datetime.now(UTC) - timedelta(days=2))
    child = make_run("b-child", parent={"name": "a-root", "uid": root["metadata"]["uid"], "step": "work", "index": 0})
    owner = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": "a-root", "uid": root["metadata"]["uid"]}
    child["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    await api.create(RUNS, NAMESPACE, child)
    async with started(server) as engine:
        await asyncio.gather(*engine.runs._tasks)
        assert await phase_of(api, "a-root") == "Succeeded"
        child = await api.get(RUNS, NAMESPACE, "b-child")
        await finish(api, child, at=datetime.now(UTC))

        async def gone() -> bool:
            return not (await api.list_all(RUNS, NAMESPACE))[0]

        await eventually(gone, within_seconds=SECONDS)


async def test_a_workflow_registered_during_a_resync_stays_known(server: ApiServer, engine: Engine) -> None:
    async def list_and_then_register(*arguments: Any, **options: Any) -> tuple[list[Json], str]:
        answer = await list_all(*arguments, **options)
        if arguments[0] is WORKFLOWS:
            await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        return answer

    list_all = engine._api.list_all
    engine._api.list_all = list_and_then_register  # type: ignore[method-assign]  # what happens while the answer travels
    await engine.resync()
    assert ObjectRef(NAMESPACE, "etl") in engine.workflows


# --- Trees


async def test_a_chain_of_thousands_of_runs_is_deleted_as_a_whole(engine: Engine) -> None:
    parent: Json = {}
    for number in range(3000):
        run = make_run(f"run-{number}")
        if parent:
            run["spec"]["parent"] = parent
        run["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(1_000_000 + number)}
        run["status"] = {"phase": "Succeeded", "finishedAt": datetime.now(UTC).isoformat()}
        engine.runs.observe("ADDED", run)
        parent = {"name": run["metadata"]["name"], "uid": run["metadata"]["uid"], "step": "work", "index": 0}
    root = engine.store.by_uid("uid-0")
    assert root is not None
    assert engine.runs._tree_is_final(root)
