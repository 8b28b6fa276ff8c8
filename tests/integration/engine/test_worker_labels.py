"""Labels of workers against the API server: who gets what, what a run says that waits, and what a restart keeps."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import LEASES, RUNS, WORKFLOWS, Resource
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.dispatch.worker import Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import InvalidRequest, NotReady, UnknownObject
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.worker_labels import DesiredLabel, LabelValue
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    STRANGER,
    make_definition,
    make_run,
    observed,
    requests_to,
    session_of,
    started,
    until,
    until_phase,
)
from tests.kube.eventually import eventually
from tests.kube.session import Call

QUICKLY: dict[str, Any] = {"waiting_told_after": timedelta(seconds=0.1)}


async def register(engine: Engine, name: str = "train", **desired: Any) -> None:
    """Register a workflow of one step that desires labels."""
    definition = make_definition(name)
    labels = {key: DesiredLabel.model_validate(label) for key, label in desired.items()}
    (step,) = definition.steps
    steps = (step.model_copy(update={"worker_labels": labels or None}),)
    definition = definition.model_copy(update={"steps": steps, "schedule_timeout": timedelta(minutes=5)})
    await engine.workflows.register(NAMESPACE, POOL, definition)


async def connect(engine: Engine, name: str, *workflows: str, **labels: LabelValue) -> tuple[Worker, WorkerStream]:
    actions = tuple(f"{workflow}:work" for workflow in workflows or ("train",))
    request = RegistrationRequest(name=name, actions=actions, slots=1, labels=labels)
    worker = await engine.registry.register(MAIN, request)
    return engine.registry.listen(MAIN, worker.id, [])


async def finish_all(engine: Engine, worker: Worker) -> None:
    for attempt in list(worker.assigned.values()):
        await engine.report(MAIN, attempt.id, Outcome.COMPLETED, payload="{}")


async def until_told(api: Api, name: str, text: str) -> None:
    """Wait until a run says what it waits for."""
    status: dict[str, Any] = {}

    async def holds() -> bool:
        nonlocal status
        status = (await api.get(RUNS, NAMESPACE, name))["status"]
        return text in status.get("message", "")

    await eventually(holds, within_seconds=SECONDS)
    assert status["reason"] == "WaitingForWorker"


async def test_a_required_label_is_waited_for_aside_and_its_run_names_it(server: ApiServer, api: Api) -> None:
    async with started(server, **QUICKLY) as engine:
        await register(engine, "train", model={"value": "large", "required": True})
        await register(engine, "tidy")
        worker, _ = await connect(engine, "small", "train", "tidy", model="small")
        await api.create(RUNS, NAMESPACE, make_run("large", "train", priority=3))
        await until_told(
            api,
            "large",
            'pool "main" has one connected worker that offers step "work" of workflow "train", but none with the label '
            'that it requires: "model" Equal "large" (there is: "model" is "small"); it gives up at ',
        )
        await api.create(RUNS, NAMESPACE, make_run("other", "tidy"))
        await until(lambda: [attempt.ref.name for attempt in worker.assigned.values()] == ["other"])
        fitting, _ = await connect(engine, "large", model="large")
        await until(lambda: [attempt.ref.name for attempt in fitting.assigned.values()] == ["large"])


async def test_a_wish_is_granted_if_there_is_a_slot_and_costs_nothing_else(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, model={"value": "large"})
        small, _ = await connect(engine, "small", model="small")
        large, _ = await connect(engine, "large", model="large")
        for number, worker in enumerate((large, small)):
            await api.create(RUNS, NAMESPACE, make_run(f"run{number}", "train"))
            await until(lambda: len(worker.assigned) == 1)  # noqa: B023  # awaited within the loop
        assert requests_to(server, "update", "workflowruns/status") == 0


async def test_labels_that_change_count_at_once_and_for_the_next_operator(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, memory={"value": 256, "comparator": "GreaterThan", "required": True})
        worker, _ = await connect(engine, "w", memory=128, zone="a")
        await api.create(RUNS, NAMESPACE, make_run("first", "train"))
        await observed(engine, "first")
        await engine.registry.upsert_labels(MAIN, worker.id, {"memory": 512})
        await until(lambda: len(worker.assigned) == 1)
        await finish_all(engine, worker)
        await until_phase(api, "first", "Succeeded")
    async with started(server) as engine:  # to which the worker says no labels: it listens, and does not register
        again, _ = engine.registry.listen(MAIN, worker.id, [])
        assert again.labels == {"memory": 512, "zone": "a"}
        await api.create(RUNS, NAMESPACE, make_run("second", "train"))
        await until(lambda: len(again.assigned) == 1)
        await engine.registry.upsert_labels(MAIN, worker.id, {"memory": 1})
        assert len(again.assigned) == 1, "what runs goes on"
        await finish_all(engine, again)
        await until_phase(api, "second", "Succeeded")
        await api.create(RUNS, NAMESPACE, make_run("third", "train"))
        record = await observed(engine, "third")
        await until(lambda: bool(record.attempts))
        assert not again.assigned
    (lease,) = (await api.list_all(LEASES, NAMESPACE))[0]
    assert '"labels":{"memory":1,"zone":"a"}' in lease["metadata"]["annotations"]["hatchet-operator.dev/registration"]


async def test_what_no_worker_may_take_is_given_up_by_the_schedule_timeout(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, model={"value": "large", "required": True})
        await connect(engine, "small")
        await api.patch(WORKFLOWS, NAMESPACE, "train", {"spec": {"scheduleTimeout": "500ms"}})
        engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "train"))
        await api.create(RUNS, NAMESPACE, make_run("run", "train"))
        await until_phase(api, "run", "Failed")
        run = await api.get(RUNS, NAMESPACE, "run")
        assert run["status"]["reason"] == "SchedulingTimedOut"
        assert '"model" Equal "large"' in run["status"]["steps"]["work"]["error"]


async def test_a_person_puts_other_labels_over_those_of_the_code(engine: Engine, api: Api) -> None:
    await register(engine, model={"value": "large", "required": True})
    labels = {"zone": {"value": "a", "required": True}}
    await api.patch(WORKFLOWS, NAMESPACE, "train", {"spec": {"steps": {"work": {"workerLabels": labels}}}})
    engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "train"))
    await engine.workflows.reconcile(ObjectRef(NAMESPACE, "train"))
    worker, _ = await connect(engine, "w", zone="a")
    await api.create(RUNS, NAMESPACE, make_run("run", "train"))
    await until(lambda: len(worker.assigned) == 1)


async def test_labels_that_are_set_while_a_worker_registers_again_are_set_on_that(engine: Engine) -> None:
    await register(engine)
    worker, _ = await connect(engine, "w", zone="a")
    may_write = asyncio.Event()

    async def held_up(create: Call, resource: Resource, *args: Any, **options: Any) -> Any:
        if not may_write.is_set():
            await may_write.wait()
        return await create(resource, *args, **options)

    session_of(engine).detours["create"] = held_up
    setting = asyncio.create_task(engine.registry.upsert_labels(MAIN, worker.id, {"zone": "b"}))
    await asyncio.sleep(0)
    del session_of(engine).detours["create"]
    request = RegistrationRequest(name="w", actions=("train:work",), labels={"zone": "a"}, worker_id=worker.id)
    again = await engine.registry.register(MAIN, request)
    may_write.set()
    with pytest.raises(NotReady, match="repeat the call"):
        await setting
    await engine.registry.upsert_labels(MAIN, worker.id, {"zone": "b"})
    assert again.labels == {"zone": "b"}


async def test_whose_labels_may_be_set(engine: Engine) -> None:
    await register(engine)
    worker, _ = await connect(engine, "w", zone="a")
    with pytest.raises(UnknownObject, match="register again"):
        await engine.registry.upsert_labels(STRANGER, worker.id, {"zone": "b"})
    with pytest.raises(InvalidRequest, match="would have 65 labels; expected at most 64"):
        await engine.registry.upsert_labels(MAIN, worker.id, {f"label{number}": number for number in range(64)})
    assert worker.labels == {"zone": "a"}
