"""The engine against the embedded API server, without gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import RUNS, Resource
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import StartCommand, Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.spawning.trigger import ParentAttempt, Trigger
from hatchet_operator.engine.workers.handover import HandedOver
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_operator.settings import Settings
from hatchet_operator_dev.apiserver import ApiServer
from tests.kube.eventually import eventually
from tests.kube.session import Call, Session
from tests.kube.virtual_time import VirtualTimeLoop

CRDS = Path(__file__).parents[3] / "crds"
NAMESPACE = "default"
POOL = "main"
MAIN = Caller(namespace=NAMESPACE, pool=POOL)
STRANGER = Caller(namespace=NAMESPACE, pool="other")
SECONDS = 60.0  # of virtual time
HIDDEN: Json = {
    "rejoin": timedelta(seconds=0.2),
    "worker_silent": timedelta(seconds=0.5),
    "running_after": timedelta(),
}
NOWHERE = "gone.example:7070"


def url_of(server: ApiServer) -> str:
    assert server.url is not None, "it is started"
    return server.url


def requests_to(server: ApiServer, verb: str, path: str) -> int:
    """Count the operator's requests to a resource, as in "workflowruns" or "workflowruns/status"."""
    resource, _, subresource = path.partition("/")
    want = (verb, resource, subresource, "hatchet-operator")
    return sum(
        count
        for (done, _, plural, below, _, agent), count in server.requests.items()
        if (done, plural, below, agent) == want
    )


_SESSIONS: WeakKeyDictionary[Engine, Session] = WeakKeyDictionary()


def session_of(engine: Engine) -> Session:
    return _SESSIONS[engine]


def running_loop() -> VirtualTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop


@asynccontextmanager
async def started(
    server: ApiServer,
    *,
    token_key: str = "k" * 64,
    handed_over: HandedOver | None = None,
    pace: Pace | None = None,
    **settings: Any,
) -> AsyncIterator[Engine]:
    """Run an engine that has read everything and lets workers in."""
    async with Session(Endpoint(server=url_of(server)), may_write=always) as session:
        engine = Engine(
            session,
            Settings(**settings),
            token_key=token_key,
            is_leading=always,
            on_absence=lambda: None,
            clock=Clock(now=running_loop().now, boot_time=running_loop().time),
            pace=pace,
        )
        _SESSIONS[engine] = session
        try:
            await engine.start()
            engine.admit_workers("127.0.0.1:1", handed_over)
            yield engine
        finally:
            await engine.stop()


async def connect(
    engine: Engine, *workflows: str, pool: str = POOL, namespace: str = NAMESPACE, **changes: Any
) -> tuple[Worker, WorkerStream]:
    """Register workflows of one step "work" each and a worker for them, and listen."""
    for name in workflows:
        await engine.workflows.register(namespace, pool, make_definition(name))
    caller = Caller(namespace=namespace, pool=pool)
    request = RegistrationRequest(name="worker", actions=tuple(f"{name}:work" for name in workflows), **changes)
    worker = await engine.registry.register(caller, request)
    return engine.registry.listen(caller, worker.id, [])


def make_definition(name: str) -> WorkflowDefinition:
    step = StepDefinition(name="work", action=f"{name}:work", timeout=timedelta(minutes=1))
    return WorkflowDefinition(name=name, steps=(step,), schedule_timeout=timedelta(minutes=5))


async def next_attempt(stream: WorkerStream) -> str:
    async with asyncio.timeout(SECONDS):
        async for (command,) in stream.commands():
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


async def finish(api: Api, name: str, *, at: datetime) -> Json:
    """Write a run's status as an operator does that finished it, whatever another one wrote meanwhile."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    status = {"phase": "Succeeded", "reason": "Completed", "finishedAt": moment, "reruns": 0}
    return await api.patch(RUNS, NAMESPACE, name, {"status": status}, subresource="status")


def child_trigger(
    attempt: str, parent: str, *, workflow: str = "child", key: str = "a", caller: Caller | None = None
) -> Trigger:
    child = ParentAttempt(attempt_id=attempt, run=parent, key=key, index=0)
    return Trigger(caller=caller or MAIN, workflow=workflow, input_json="{}", parent=child)


async def until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await eventually(check, within_seconds=SECONDS)


async def observed(engine: Engine, name: str) -> RunRecord:
    """Wait until the engine knows a run."""
    ref = ObjectRef(NAMESPACE, name)
    await until(lambda: engine.store.get(ref) is not None)
    record = engine.store.get(ref)
    assert record is not None
    return record


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def phase_of(api: Api, name: str) -> str:
    run = await api.get(RUNS, NAMESPACE, name)
    return str(run.get("status", {}).get("phase", "Pending"))


async def until_phase(api: Api, name: str, phase: str) -> None:
    async def holds() -> bool:
        return await phase_of(api, name) == phase

    await eventually(holds, within_seconds=SECONDS)


def hold_up_writes(engine: Engine) -> asyncio.Event:
    """Have every status of a run wait for what is returned."""
    may_write = asyncio.Event()

    async def held_up(replace: Call, resource: Resource, *args: Any, **options: Any) -> Any:
        if resource is RUNS:
            await may_write.wait()
        return await replace(resource, *args, **options)

    session_of(engine).detours["replace"] = held_up
    return may_write


def on_status(server: ApiServer, **fault: Any) -> None:
    match = {"verb": ["update"], "resource": ["workflowruns"], "subresource": ["status"]}
    server.faults.install([{"match": match, **fault}])
