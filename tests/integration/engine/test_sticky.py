"""Sticky runs and children against the API server: where they go, what they wait for, and what a restart keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.dispatch.worker import Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.spawning.trigger import ParentAttempt, Trigger
from hatchet_operator.engine.workers.registry import ClaimedAttempt, RegistrationRequest
from hatchet_operator.errors import Unsupported
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Stickiness
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    make_run,
    observed,
    requests_to,
    started,
    until,
    until_phase,
)
from tests.kube.eventually import eventually

QUICKLY: dict[str, Any] = {"waiting_told_after": timedelta(seconds=0.1), "rejoin": timedelta(seconds=0.2)}


async def register(engine: Engine, name: str, sticky: Stickiness | None, **parents: tuple[str, ...]) -> None:
    """Register a workflow of steps with their parents."""
    steps = tuple(
        StepDefinition(name=step, action=f"{name}:{step}", timeout=timedelta(minutes=1), parents=above)
        for step, above in (parents or {"work": ()}).items()
    )
    definition = WorkflowDefinition(name=name, steps=steps, schedule_timeout=timedelta(minutes=5), sticky=sticky)
    await engine.workflows.register(NAMESPACE, POOL, definition)


async def connect(engine: Engine, name: str, *actions: str, slots: int = 2) -> tuple[Worker, WorkerStream]:
    request = RegistrationRequest(name=name, actions=actions, slots=slots)
    worker = await engine.registry.register(MAIN, request)
    return engine.registry.listen(MAIN, worker.id, [])


async def finish(engine: Engine, worker: Worker, step: str) -> None:
    (attempt,) = [attempt for attempt in worker.assigned.values() if attempt.step.name == step]
    await engine.report(MAIN, attempt.id, Outcome.COMPLETED, payload="{}")


def steps_of(worker: Worker) -> list[str]:
    return sorted(attempt.step.name for attempt in worker.assigned.values())


async def until_told(api: Api, name: str, text: str, reason: str = "WaitingForWorker") -> None:
    status: dict[str, Any] = {}

    async def holds() -> bool:
        nonlocal status
        status = (await api.get(RUNS, NAMESPACE, name))["status"]
        return text in status.get("message", "")

    await eventually(holds, within_seconds=2 * SECONDS)  # a queue that moved is left alone for 10 s
    assert status["reason"] == reason


AB = ("etl:a", "etl:b", "etl:other")


@pytest.mark.parametrize("sticky", [Stickiness.SOFT, Stickiness.HARD])
async def test_the_steps_of_a_run_go_to_the_worker_of_the_first(
    server: ApiServer, api: Api, sticky: Stickiness
) -> None:
    async with started(server) as engine:
        await register(engine, "etl", sticky, a=(), b=("a",))
        first, _ = await connect(engine, "first", *AB, slots=1)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until(lambda: steps_of(first) == ["a"])
        second, _ = await connect(engine, "second", *AB, slots=9)  # which is emptier by far
        writes = requests_to(server, "update", "workflowruns/status")
        await finish(engine, first, "a")
        await until(lambda: steps_of(first) == ["b"])
        assert not second.assigned
        assert requests_to(server, "update", "workflowruns/status") == writes + 1, "the one that every step costs"
        kept = (await api.get(RUNS, NAMESPACE, "run"))["status"]["stickyWorker"]
        assert kept == {"id": first.id, "name": "first"}


async def test_parallel_steps_of_a_hard_run_stay_together_however_they_waited(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, "etl", Stickiness.HARD, a=(), b=())
        await api.create(RUNS, NAMESPACE, make_run("run"))
        record = await observed(engine, "run")
        await until(lambda: len(record.attempts) == 2)
        first, _ = await connect(engine, "first", *AB, slots=1)
        second, _ = await connect(engine, "second", *AB, slots=9)
        assert (len(first.assigned), len(second.assigned)) == (1, 0)
        await finish(engine, first, *steps_of(first))
        await until(lambda: len(first.assigned) == 1 and not second.assigned)
        await finish(engine, first, *steps_of(first))
        await until_phase(api, "run", "Succeeded")
        assert "stickyWorker" not in (await api.get(RUNS, NAMESPACE, "run"))["status"]


async def test_a_soft_run_goes_elsewhere_when_its_worker_is_busy_or_gone(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, "etl", Stickiness.SOFT, a=(), b=("a",), c=("b",))
        await register(engine, "other", None)
        actions = (*AB, "etl:c", "other:work")
        first, _ = await connect(engine, "first", *actions, slots=1)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until(lambda: steps_of(first) == ["a"])
        await api.create(RUNS, NAMESPACE, make_run("other", "other", priority=3))
        await observed(engine, "other")
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 1)
        await finish(engine, first, "a")
        await until(lambda: steps_of(first) == ["work"])
        second, _ = await connect(engine, "second", *actions, slots=9)
        await until(lambda: steps_of(second) == ["b"])
        await finish(engine, second, "b")
        await until(lambda: steps_of(second) == ["c"])  # where the last one was


async def test_a_hard_run_waits_for_its_busy_worker_and_then_for_one_that_is_gone(server: ApiServer, api: Api) -> None:
    async with started(server, **QUICKLY) as engine:
        await register(engine, "etl", Stickiness.HARD, a=(), b=("a",))
        await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"scheduleTimeout": "9s"}})
        engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "etl"))
        await register(engine, "other", None)
        first, stream = await connect(engine, "first", *AB, "other:work", slots=1)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until(lambda: steps_of(first) == ["a"])
        await api.create(RUNS, NAMESPACE, make_run("other", "other", priority=3))
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 1)
        await finish(engine, first, "a")
        await until(lambda: steps_of(first) == ["work"])
        second, _ = await connect(engine, "second", *AB, slots=9)
        only = 'its workflow is sticky (Hard), so only worker "first" may take it, '
        await until_told(api, "run", f"{only}whose slots are busy", reason="WaitingForSlot")
        assert engine.runs.attempts.queue.demand_for(NAMESPACE, POOL) == 0, "another worker would not help"
        engine.registry.left(first, stream)
        await until_told(api, "run", f"{only}and that is not connected at the moment; it gives up at ")
        engine.registry.deaths.bury(first, "it is gone")
        await until_phase(api, "run", "Failed")
        run = await api.get(RUNS, NAMESPACE, "run")
        assert run["status"]["reason"] == "SchedulingTimedOut"
        assert f"{only}and that is gone for good" in run["status"]["steps"]["b"]["error"]
        assert not [attempt for attempt in second.assigned.values() if attempt.ref.name == "run"]


async def test_a_new_operator_knows_where_a_run_sticks(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, "etl", Stickiness.HARD, a=(), b=("a",), other=())
        first, _ = await connect(engine, "first", *AB)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until(lambda: steps_of(first) == ["a", "other"])
        await finish(engine, first, "a")
        await until(lambda: steps_of(first) == ["b", "other"])
        await finish(engine, first, "other")
        (b,) = first.assigned
    async with started(server) as engine:
        second, _ = await connect(engine, "second", *AB, slots=9)
        held = ClaimedAttempt(run="run", attempt_id=b, step="b", started_at=first.registration.registered_at)
        again, _ = engine.registry.listen(MAIN, first.id, [held])
        await until(lambda: not engine.runs.has_runs_on_hold)
        attempt = engine.runs.attempts[b]
        await engine.report(MAIN, attempt.id, Outcome.FAILED, payload="again", may_retry=False)
        await until_phase(api, "run", "Failed")
        assert not second.assigned
        assert not again.assigned


async def test_a_run_that_waits_when_the_operator_ends_waits_for_its_worker_still(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await register(engine, "etl", Stickiness.HARD, a=(), b=("a",))
        first, stream = await connect(engine, "first", *AB)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until(lambda: steps_of(first) == ["a"])
        (attempt,) = first.assigned
        engine.registry.left(first, stream)
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
    async with started(server, **QUICKLY) as engine:
        second, _ = await connect(engine, "second", *AB, slots=9)
        await until(lambda: not engine.runs.has_runs_on_hold)
        record = await observed(engine, "run")
        await until(lambda: bool(record.attempts))
        assert not second.assigned
        again, _ = engine.registry.listen(MAIN, first.id, [])
        await until(lambda: steps_of(again) == ["b"])


def child_of(attempt: str, worker_id: str, workflow: str = "child", caller: Caller = MAIN) -> Trigger:
    parent = ParentAttempt(attempt_id=attempt, run="run", key="a", index=0)
    return Trigger(caller=caller, workflow=workflow, input_json="{}", parent=parent, worker_id=worker_id)


async def test_a_sticky_child_goes_to_the_worker_of_its_parent(engine: Engine, api: Api) -> None:
    await register(engine, "etl", None)
    await register(engine, "child", Stickiness.HARD)
    first, _ = await connect(engine, "first", "etl:work", "child:work", slots=5)
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: bool(first.assigned))
    (attempt,) = first.assigned
    await connect(engine, "second", "etl:work", "child:work", slots=9)
    name = await engine.spawning.trigger(child_of(attempt, first.id))
    await until(lambda: [each.ref.name for each in first.assigned.values()] == ["run", name])
    assert (await api.get(RUNS, NAMESPACE, name))["spec"]["stickyWorker"] == {"id": first.id, "name": "first"}


async def test_a_sticky_child_of_a_workflow_that_is_not_is_refused(engine: Engine, api: Api) -> None:
    await register(engine, "etl", None)
    first, _ = await connect(engine, "first", "etl:work")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: bool(first.assigned))
    (attempt,) = first.assigned
    with pytest.raises(
        Unsupported, match=r'run of workflow "etl" asks for one worker .* but the workflow is not sticky'
    ):
        await engine.trigger(child_of(attempt, first.id, "etl"))


async def test_a_person_decides_whether_a_workflow_is_sticky_and_frees_a_run_that_waits(
    engine: Engine, api: Api
) -> None:
    await register(engine, "child", None)
    await api.patch(WORKFLOWS, NAMESPACE, "child", {"spec": {"sticky": "Hard"}})
    engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "child"))
    await engine.workflows.reconcile(ObjectRef(NAMESPACE, "child"))
    worker, _ = await connect(engine, "w", "child:work")
    await api.create(RUNS, NAMESPACE, make_run("waits", "child", stickyWorker={"id": "gone"}))
    record = await observed(engine, "waits")
    await until(lambda: bool(record.attempts))
    assert not worker.assigned
    await api.patch(RUNS, NAMESPACE, "waits", {"spec": {"stickyWorker": None}})
    await until(lambda: len(worker.assigned) == 1)


async def test_a_run_that_waits_follows_its_priority(engine: Engine, api: Api) -> None:
    await register(engine, "etl", None)
    for name in ("first", "second"):
        await api.create(RUNS, NAMESPACE, make_run(name))
        record = await observed(engine, name)
        await until(lambda: bool(record.attempts))  # noqa: B023  # awaited within the loop
    await api.patch(RUNS, NAMESPACE, "second", {"spec": {"priority": 3}})
    await until(lambda: [attempt.priority for attempt in record.attempts.values()] == [3])
    worker, _ = await connect(engine, "w", "etl:work", slots=1)
    assert [attempt.ref.name for attempt in worker.assigned.values()] == ["second"]
