"""Children without an object until their first status makes one: what each costs, what becomes of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.observed import Outcome, current_attempt_id
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.engine.workers.claims import ClaimedAttempt
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import OnParentClose, Record
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    child_trigger,
    connect,
    make_definition,
    make_run,
    next_attempt,
    observed,
    requests_to,
    started,
    until,
    until_phase,
)
from tests.kube.eventually import eventually

NEVER = timedelta(hours=1)
LIGHT: Json = {"light_runs": True}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    for crd in load_crds(light_runs=True):
        server.create(crd)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def engine(server: ApiServer) -> AsyncIterator[Engine]:
    async with started(server, **LIGHT) as engine:
        yield engine


def light_trigger(attempt: str, parent: str, *, workflow: str = "etl", key: str = "a", **child: Any) -> Trigger:
    trigger = child_trigger(attempt, parent, workflow=workflow, key=key)
    assert trigger.parent is not None
    asked = replace(trigger.parent, record=Record.RESULT, is_kept_by_client=True, **child)
    return replace(trigger, parent=asked)


async def begin(engine: Engine, api: Api, name: str = "parent") -> tuple[str, Any]:
    """Return the attempt of a parent, and the stream of the worker that has it."""
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run(name))
    attempt = await next_attempt(stream)
    await observed(engine, name)
    return attempt, stream


async def read(api: Api, name: str) -> WorkflowRun:
    return WorkflowRun.model_validate(await api.get(RUNS, NAMESPACE, name))


async def test_a_light_child_costs_one_write_and_is_like_any_other_afterwards(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=NEVER, children_every=NEVER, waiting_told_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        awaiting = engine.results.open(MAIN)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        awaiting.add(child)
        record = await observed(engine, child)
        assert record.light is not None
        assert record.parent_uid == (await read(api, "parent")).metadata.uid
        attempt = await next_attempt(stream)
        with pytest.raises(NotFound):
            await api.get(RUNS, NAMESPACE, child)
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload='{"a": 1}')
        run = await read(api, child)
        assert run.status.phase == "Succeeded"
        assert run.status.steps["work"].output == '{"a": 1}'
        assert {each.type: each.status for each in run.status.conditions}["Finished"] == "True"
        assert run.metadata.labels[labels.PARENT_UID] == record.parent_uid
        assert current_attempt_id(run, "work") == attempt
        assert (record.uid, record.is_final) == (run.metadata.uid, True)
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(awaiting.results())
        assert (result.phase, result.steps[0].output) == ("Succeeded", '{"a": 1}')
        await engine.report(MAIN, parent, Outcome.COMPLETED, payload="{}")
        above = await read(api, "parent")
        assert above.status.children is not None
        assert above.status.children.summary == "1/1"
    assert requests_to(server, "create", "workflowruns") == 1
    assert requests_to(server, "update", "workflowruns/status") == 1  # the parent's


async def test_a_retried_parent_finds_a_light_child_running_and_recorded(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    first = await engine.spawning.trigger(light_trigger(parent, "parent"))
    assert await engine.spawning.trigger(light_trigger(parent, "parent")) == first
    await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
    uid = (await read(api, first)).metadata.uid
    assert await engine.spawning.trigger(light_trigger(parent, "parent")) == first
    assert (await read(api, first)).metadata.uid == uid


async def test_a_light_child_is_recorded_when_it_has_run_for_a_second(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta(seconds=1), **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        attempt = await next_attempt(stream)
        await until_phase_once_there(api, child, "Running")
        run = await read(api, child)
        assert current_attempt_id(run, "work") == attempt  # it goes on as what it was
        await api.patch(RUNS, NAMESPACE, child, {"spec": {"cancelled": True}})
        await until_phase(api, child, "Cancelled")
    assert requests_to(server, "create", "workflowruns") == 1


async def until_phase_once_there(api: Api, name: str, phase: str) -> None:
    async def holds() -> bool:
        try:
            return (await read(api, name)).status.phase == phase
        except NotFound:
            return False

    await eventually(holds, within_seconds=SECONDS)


async def test_a_light_child_goes_on_with_its_worker_after_a_restart_if_it_was_recorded(
    server: ApiServer, api: Api
) -> None:
    async with started(server, running_after=timedelta(seconds=1), **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        attempt = await next_attempt(stream)
        await until_phase_once_there(api, child, "Running")
        at = engine.runs.attempts[attempt].started_at
        assert at is not None
    async with started(server, **LIGHT) as engine:
        request = RegistrationRequest(name="worker", actions=("etl:work",))
        worker = await engine.registry.register(MAIN, request)
        held = [ClaimedAttempt(run=child, attempt_id=attempt, step="work", started_at=at)]
        engine.registry.listen(MAIN, worker.id, held)
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        assert (await read(api, child)).status.phase == "Succeeded"


async def test_a_light_child_that_was_not_recorded_is_unknown_after_a_restart_and_spawned_again(
    server: ApiServer, api: Api
) -> None:
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        lost = await next_attempt(stream)
        parent_began = engine.runs.attempts[parent].started_at
        assert parent_began is not None
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        worker = await engine.registry.register(MAIN, RegistrationRequest(name="worker", actions=("etl:work",)))
        held = [
            ClaimedAttempt(run="parent", attempt_id=parent, step="work", started_at=parent_began),
            ClaimedAttempt(run=child, attempt_id=lost, step="work", started_at=parent_began),
        ]
        _, stream = engine.registry.listen(MAIN, worker.id, held)
        awaiting = engine.results.open(MAIN)
        awaiting.add(child)
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(awaiting.results())
        assert result.is_unknown
        await until(lambda: not engine.runs.has_runs_on_hold)
        await engine.report(MAIN, lost, Outcome.COMPLETED, payload='{"late": 1}')  # of nothing that is known
        assert await engine.spawning.trigger(light_trigger(parent, "parent")) == child
        awaiting.add(child)
        again = await next_attempt(stream)
        assert again != lost
        await engine.report(MAIN, again, Outcome.COMPLETED, payload='{"a": 1}')
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(awaiting.results())
        assert (result.phase, result.steps[0].output) == ("Succeeded", '{"a": 1}')


async def test_a_light_child_that_spawns_is_recorded_first(engine: Engine, server: ApiServer, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    attempt = await next_attempt(stream)
    grandchild = await engine.spawning.trigger(light_trigger(attempt, child))
    above = await read(api, child)
    assert current_attempt_id(above, "work") == attempt
    await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
    run = await read(api, grandchild)
    assert run.spec.parent is not None
    assert run.spec.parent.uid == above.metadata.uid
    assert [owner.uid for owner in run.metadata.owner_references] == [above.metadata.uid]
    await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
    assert (await read(api, child)).status.phase == "Succeeded"
    assert requests_to(server, "create", "workflowruns") == 2


async def test_a_light_child_that_fails_with_retries_left_is_recorded_then(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        definition = make_definition("etl")
        steps = tuple(step.model_copy(update={"retries": 1}) for step in definition.steps)
        await engine.workflows.register(NAMESPACE, POOL, definition.model_copy(update={"steps": steps}))
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        await engine.report(MAIN, await next_attempt(stream), Outcome.FAILED, payload="no")
        assert (await read(api, child)).status.steps["work"].attempt == 1
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
        assert (await read(api, child)).status.phase == "Succeeded"


async def test_a_parents_end_has_its_light_children_recorded_first(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    attempt = await next_attempt(stream)
    await engine.report(MAIN, parent, Outcome.COMPLETED, payload="{}")
    above, run = await read(api, "parent"), await read(api, child)
    assert above.status.phase == "Succeeded"
    assert not run.status.phase.is_final
    assert int(run.metadata.resource_version) < int(above.metadata.resource_version)
    await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
    assert (await read(api, child)).status.phase == "Succeeded"


@pytest.mark.parametrize("cancel", [True, False], ids=["its parent is cancelled", "its parent ends, and closes it"])
async def test_a_light_child_is_cancelled_with_its_parent(engine: Engine, api: Api, cancel: bool) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent", on_parent_close=OnParentClose.CANCEL))
    await next_attempt(stream)
    if cancel:
        await api.patch(RUNS, NAMESPACE, "parent", {"spec": {"cancelled": True}})
    else:
        await engine.report(MAIN, parent, Outcome.COMPLETED, payload="{}")
    await until_phase_once_there(api, child, "Cancelled")


async def test_a_light_child_goes_with_its_parents_object(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    await next_attempt(stream)
    awaiting = engine.results.open(MAIN)
    awaiting.add(child)
    await api.delete(RUNS, NAMESPACE, "parent")
    async with asyncio.timeout(SECONDS):
        assert (await anext(awaiting.results()))[0].phase == "Deleted"
    assert engine.store.get(ObjectRef(NAMESPACE, child)) is None
    assert len(engine.store) == 0


async def test_what_an_operator_that_led_before_recorded_is_the_light_childs_result(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    attempt = await next_attempt(stream)
    awaiting = engine.results.open(MAIN)
    awaiting.add(child)
    light = (await observed(engine, child)).light
    assert light is not None
    theirs = {**light.body, "spec": light.body["spec"] | {"begunAs": "theirs"}}
    await api.create(RUNS, NAMESPACE, theirs)
    status = {"status": {"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:00Z", "reruns": 0}}
    await api.patch(RUNS, NAMESPACE, child, status, subresource="status")
    async with asyncio.timeout(SECONDS):
        assert (await anext(awaiting.results()))[0].phase == "Succeeded"
    await engine.report(MAIN, attempt, Outcome.FAILED, payload="of no interest")
    assert (await read(api, child)).status.phase == "Succeeded"


async def test_another_run_of_its_name_is_not_taken_for_a_light_child(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    await next_attempt(stream)
    awaiting = engine.results.open(MAIN)
    awaiting.add(child)
    await api.create(RUNS, NAMESPACE, make_run(child))
    async with asyncio.timeout(SECONDS):
        (result,) = await anext(awaiting.results())
    assert "is not this child" in str(result.steps[0].error)


async def test_without_the_version_a_light_child_costs_two_writes_and_nothing_else_changes(
    server: ApiServer, api: Api
) -> None:
    match = {"verb": ["create"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "skip": 1, "times": 1}])
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        children = [await engine.spawning.trigger(light_trigger(parent, "parent", key=key)) for key in "ab"]
        for child in children:
            await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
            assert (await read(api, child)).status.phase == "Succeeded"
    assert requests_to(server, "create", "workflowruns") == 3
    assert requests_to(server, "update", "workflowruns/status") == 2


async def test_that_the_version_is_missing_is_said_once_with_the_way_to_get_it(
    server: ApiServer, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    match = {"verb": ["create"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "skip": 1, "times": 2}])
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        children = [await engine.spawning.trigger(light_trigger(parent, "parent", key=key)) for key in "ab"]
        attempts = [await next_attempt(stream) for _ in children]
        await asyncio.gather(*(engine.report(MAIN, one, Outcome.COMPLETED, payload="{}") for one in attempts))
        for child in children:
            assert (await read(api, child)).status.phase == "Succeeded"
    (said,) = [record.message for record in caplog.records if "cost two writes" in record.message]
    assert "runs.light=true" in said


async def test_who_awaits_a_light_child_that_can_not_be_recorded_is_told_why(server: ApiServer, api: Api) -> None:
    match = {"verb": ["create"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "status", "code": 422, "skip": 1, "times": 2}])
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        awaiting = engine.results.open(MAIN)
        awaiting.add(child)
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(awaiting.results())
        assert str(result.steps[0].error).startswith(f"run {child} could not be recorded: ")


async def test_what_a_light_child_streams_is_heard_to_its_end(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    attempt = await next_attempt(stream)
    reader = await engine.read_stream(MAIN, child, seen={})
    engine.streams.put(engine.may_log(MAIN, attempt), ["a"], first_index=0, at=0)
    await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
    async with asyncio.timeout(SECONDS):
        events = [event async for event in reader.events()]
    assert [event.payload for event in events if event.payload] == ["a", "{}"]
    late = await engine.read_stream(MAIN, child, seen={})
    async with asyncio.timeout(SECONDS):
        assert "a" in [event.payload async for event in late.events()]


async def test_a_light_child_that_failed_is_run_again_as_any_other(engine: Engine, api: Api) -> None:
    parent, stream = await begin(engine, api)
    child = await engine.spawning.trigger(light_trigger(parent, "parent"))
    await engine.report(MAIN, await next_attempt(stream), Outcome.FAILED, payload="no")
    assert (await read(api, child)).status.phase == "Failed"
    assert await engine.spawning.trigger(light_trigger(parent, "parent", retry_failed=True)) == child
    attempt = await next_attempt(stream)
    await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
    run = await read(api, child)
    assert (run.status.phase, run.status.reruns) == ("Succeeded", 1)


async def test_a_light_child_is_known_by_both_of_its_uids_until_it_is_over(server: ApiServer, api: Api) -> None:
    """Workers of the published SDK know a run by the UID that it had when they got it."""
    async with started(server, running_after=timedelta(seconds=1), **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        attempt = await next_attempt(stream)
        record = await observed(engine, child)
        provisional = record.uid
        await until_phase_once_there(api, child, "Running")
        assert record.uid != provisional
        assert engine.store.find(NAMESPACE, provisional) is record
        await engine.report(MAIN, attempt, Outcome.COMPLETED, run_uid=provisional, payload="{}")
        assert engine.store.find(NAMESPACE, provisional) is None
        assert engine.store.find(NAMESPACE, record.uid) is record
