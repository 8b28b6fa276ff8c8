"""Runs that nobody asks for one by one, from the trigger to the step."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import EVENTS, RUNS, WORKFLOWS
from hatchet_operator.dispatcher.v0.translation.attempts import start_action
from hatchet_operator.dispatcher.v0.translation.triggers import scheduled
from hatchet_operator.dispatcher.v0.translation.workflows import workflow_definition
from hatchet_operator.engine.dispatch.worker import WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.triggers.events import PushedEvent
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import InvalidRequest, SpawnConflict
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef, event_run_name, tick_run_name
from hatchet_operator.resources.workflow import WorkflowDefinition
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    connect,
    make_definition,
    make_run,
    next_attempt,
    requests_to,
    started,
    until,
)
from tests.kube.eventually import eventually


async def workflow_of(api: Api) -> Json:
    return await api.get(WORKFLOWS, NAMESPACE, "etl")


async def until_ticking(api: Api) -> None:
    async def holds() -> bool:
        return "nextTick" in (await workflow_of(api))["status"]

    await eventually(holds, within_seconds=SECONDS)


async def turn_back(api: Api) -> None:
    """Make the cron's next tick one of long ago, as after a time without an operator."""
    status = (await workflow_of(api))["status"]
    [cron] = status["crons"]
    crons = [cron | {"nextTick": "2026-01-01T00:00:00.000000Z"}]
    await api.patch(WORKFLOWS, NAMESPACE, "etl", {"status": {"crons": crons}}, subresource="status")


async def test_a_tick_reaches_a_worker_which_is_told_what_started_it(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        _, stream = await connect(engine, "etl")
        cron = {"schedule": "0 0 1 * *", "timeZone": "Europe/Berlin", "input": {"a": 1}}
        await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"crons": [cron]}})
        engine.workflows.observe("MODIFIED", await workflow_of(api))
        await until_ticking(api)
    await turn_back(api)
    async with started(server) as engine:
        _, stream = await connect(engine, "etl")
        attempt = engine.runs.attempts.get(await next_attempt(stream))
        assert attempt is not None
        record = engine.store.get(attempt.ref)
        assert record is not None
        action = start_action(attempt, record, names=True)
        assert '"input":{"a":1},"triggered_by":"cron"' in action.action_payload
        [run], _ = await api.list_all(RUNS, NAMESPACE, label_selector="hatchet-operator.dev/triggered-by=cron")
        assert run["metadata"]["name"] == attempt.ref.name

        async def is_told() -> bool:
            status = (await workflow_of(api))["status"]
            return bool(status.get("lastTick")) and status["crons"][0]["lastRun"] == attempt.ref.name

        await eventually(is_told, within_seconds=SECONDS)


async def start_with(engine: Engine, **events: tuple[str, ...]) -> WorkerStream:
    """Register workflows, each with the keys of events that start it, and a worker for them."""
    for name, keys in events.items():
        definition = make_definition(name).model_copy(update={"events": keys})
        await engine.workflows.register(NAMESPACE, POOL, definition)
    request = RegistrationRequest(name="worker", actions=tuple(f"{name}:work" for name in events))
    worker = await engine.registry.register(MAIN, request)
    return engine.registry.listen(MAIN, worker.id, [])[1]


def make_event(key: str = "user:create", **fields: Any) -> PushedEvent:
    return PushedEvent(**{"caller": MAIN, "id": "event-1", "key": key, "payload_json": '{"a":1}', **fields})


async def runs_of(api: Api, event: str) -> list[str]:
    runs, _ = await api.list_all(RUNS, NAMESPACE, label_selector=f"hatchet-operator.dev/event={event}")
    return sorted(run["spec"]["workflow"] for run in runs)


async def test_an_event_reaches_a_worker_with_its_payload(engine: Engine, api: Api) -> None:
    stream = await start_with(engine, etl=("user:create",))
    await engine.triggering.push(make_event(metadata={"by": "me"}))
    attempt = engine.runs.attempts.get(await next_attempt(stream))
    assert attempt is not None
    record = engine.store.get(attempt.ref)
    assert record is not None
    action = start_action(attempt, record, names=True)
    assert '"input":{"a":1},"triggered_by":"event"' in action.action_payload
    assert action.additional_metadata == '{"by":"me"}'
    annotations = (await api.get(RUNS, NAMESPACE, attempt.ref.name))["metadata"]["annotations"]
    assert annotations == {"hatchet-operator.dev/event-id": "event-1", "hatchet-operator.dev/event-key": "user:create"}


async def test_an_event_starts_each_workflow_that_wants_it_once(engine: Engine, api: Api) -> None:
    await start_with(engine, exact=("user:create", "user:*"), pattern=("user:*",), other=("order:*",))
    for _ in range(2):
        await asyncio.gather(*(engine.triggering.push(make_event()) for _ in range(3)))
    await engine.triggering.push(make_event(id="event-2"))
    assert await runs_of(api, "event-1") == await runs_of(api, "event-2") == ["exact", "pattern"]


async def test_a_person_gives_a_workflow_events_of_its_own(engine: Engine, api: Api) -> None:
    await start_with(engine, etl=("user:create",))
    await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"events": [{"key": "order:*"}]}})
    engine.workflows.observe("MODIFIED", await workflow_of(api))
    await engine.triggering.push(make_event("order:paid"))
    assert await runs_of(api, "event-1") == ["etl"]


TRIGGERED_BY, EVENT = "hatchet-operator.dev/triggered-by", "hatchet-operator.dev/event"


def make_event_run(name: str, **changes: Any) -> Json:
    """Make the run that the event of `make_event` starts of workflow "etl", but for some changes."""
    run = make_run(name, **changes.pop("spec", {}))
    run["metadata"]["labels"] = {TRIGGERED_BY: "event", EVENT: "event-1"} | changes.pop("labels", {})
    return run


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"labels": {EVENT: "event-2"}}, 'event "event-2" started', id="another event's"),
        pytest.param({"labels": {TRIGGERED_BY: ""}}, "a person or a program started", id="a person's"),
        pytest.param({"labels": {TRIGGERED_BY: "cron"}}, "a tick of a cron started", id="a cron's"),
        pytest.param({"spec": {"workflow": "other"}}, 'a run of workflow "other"', id="another workflow's"),
        pytest.param(
            {"spec": {"parent": {"name": "p", "uid": "u", "step": "s", "index": 0}}},
            'a child of run "p"',
            id="a child of a run",
        ),
    ],
)
async def test_a_run_that_has_the_name_but_is_another_is_not_taken_for_the_one_that_was_asked_for(
    engine: Engine, api: Api, changes: dict[str, Any], words: str
) -> None:
    await start_with(engine, etl=("user:create",))
    name = event_run_name("etl", "event-1")
    there = await api.create(RUNS, NAMESPACE, make_event_run(name, **changes))
    with pytest.raises(SpawnConflict, match="delete it") as refused:
        await engine.triggering.push(make_event())
    assert f"run {NAMESPACE}/{name}" in str(refused.value)
    assert words in str(refused.value)
    assert (await api.get(RUNS, NAMESPACE, name))["metadata"]["uid"] == there["metadata"]["uid"], "and it is left alone"


async def test_a_tick_whose_run_has_the_name_of_another_is_told_on_its_workflow(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await connect(engine, "etl")
        cron = {"schedule": "0 0 1 * *", "timeZone": "UTC", "input": {"a": 1}}
        await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"crons": [cron]}})
        engine.workflows.observe("MODIFIED", await workflow_of(api))
        await until_ticking(api)
    await turn_back(api)
    for tick in (datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13)):
        await api.create(RUNS, NAMESPACE, make_run(tick_run_name("etl", schedule="0 0 1 * *", zone="UTC", tick=tick)))
    async with started(server) as engine:
        await connect(engine, "etl")

        async def is_told() -> bool:
            return "it is a run of workflow" in (await workflow_of(api))["status"]["crons"][0].get("message", "")

        await eventually(is_told, within_seconds=SECONDS)


async def test_a_run_that_goes_while_it_is_asked_for_is_made_anew(server: ApiServer, engine: Engine, api: Api) -> None:
    await start_with(engine, etl=("user:create",))
    name = event_run_name("etl", "event-1")
    there = await api.create(RUNS, NAMESPACE, make_event_run(name))
    the_look = {
        "match": {"resource": "workflowruns", "verb": "get"},
        "action": "delay",
        "seconds": 0.5,
        "label": "look",
    }
    server.faults.install([the_look])
    pushing = asyncio.create_task(engine.triggering.push(make_event()))
    await until(lambda: server.faults.rules[0].fired == 1)
    await api.delete(RUNS, NAMESPACE, name)
    [started_run] = await pushing
    assert started_run.created
    assert (await api.get(RUNS, NAMESPACE, name))["metadata"]["uid"] != there["metadata"]["uid"]


@pytest.mark.parametrize("event", [make_event("nobody:wants"), make_event(caller=Caller(namespace="bank", pool=POOL))])
async def test_an_event_that_starts_nothing_is_counted(engine: Engine, server: ApiServer, event: PushedEvent) -> None:
    await start_with(engine, etl=("user:create",))
    await engine.triggering.push(event)
    assert engine.metrics.registry.get_sample_value("hatchet_operator_events_unmatched_total") == 1
    assert requests_to(server, "create", "workflowruns") == 0


def make_filtered(*filters: workflows_wire.EventFilter) -> WorkflowDefinition:
    step = workflows_wire.CreateWorkflowStepOpts(readable_id="work", action="etl:work")
    job = workflows_wire.CreateWorkflowJobOpts(name="etl", steps=[step])
    opts = workflows_wire.CreateWorkflowVersionOpts(name="etl", jobs=[job], event_triggers=["order:*"])
    opts.event_filters.extend(filters)
    return workflow_definition(opts)


async def test_each_filter_that_is_true_has_its_run_whose_steps_are_given_its_payload(engine: Engine, api: Api) -> None:
    large = workflows_wire.EventFilter(expression="input.amount > 50", scope="shop", payload='{"to":"ada"}')
    always = workflows_wire.EventFilter(scope="shop")
    small = workflows_wire.EventFilter(expression="input.amount < payload.below", scope="shop", payload='{"below":50}')
    await engine.workflows.register(NAMESPACE, POOL, make_filtered(large, always, small))
    _, stream = await connect(engine, "other")
    for _ in range(2):
        event = make_event("order:paid", payload_json='{"amount":100}', scope="shop")
        runs = await engine.triggering.push(event)
    assert [run.created for run in runs] == [False, False], "the second time"
    worker = await engine.registry.register(MAIN, RegistrationRequest(name="worker", actions=("etl:work",)))
    _, stream = engine.registry.listen(MAIN, worker.id, [])
    payloads = []
    for _ in runs:
        attempt = engine.runs.attempts.get(await next_attempt(stream))
        assert attempt is not None
        record = engine.store.get(attempt.ref)
        assert record is not None
        payloads.append(json.loads(start_action(attempt, record, names=False).action_payload).get("triggers"))
    assert sorted(payloads, key=str) == [None, {"filter_payload": {"to": "ada"}}]
    assert await engine.triggering.push(make_event("order:paid", id="event-2")) == [], "without a scope"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"expression": "amount > 1"}, "filter 'amount > 1' names amount, which is not there", id="name"),
        pytest.param({"expression": "input."}, "filter 'input.' is not CEL", id="syntax"),
        pytest.param({"payload": "[1]"}, "payload of the filter '' is a JSON list; expected an object", id="payload"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused_at_registration(
    engine: Engine, given: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        await engine.workflows.register(NAMESPACE, POOL, make_filtered(workflows_wire.EventFilter(**given)))


async def test_a_persons_filter_that_makes_no_sense_is_told_on_the_workflow(engine: Engine, api: Api) -> None:
    await start_with(engine, etl=())
    triggers = [{"key": "a"}, {"key": "b", "filter": "amount > 1"}]
    await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"events": triggers}})
    engine.workflows.observe("MODIFIED", await workflow_of(api))
    await engine.workflows.reconcile(ObjectRef(NAMESPACE, "etl"))
    conditions = {each["type"]: each for each in (await workflow_of(api))["status"]["conditions"]}
    assert (conditions["Valid"]["status"], conditions["Ready"]["status"]) == ("False", "False")
    assert "spec.events[1].filter: filter 'amount > 1' names amount" in conditions["Valid"]["message"]
    assert await engine.triggering.push(make_event("b")) == []
    assert len(await engine.triggering.push(make_event("a"))) == 1


async def test_a_filter_that_can_not_be_evaluated_for_an_event_is_told_on_the_workflow(
    engine: Engine, api: Api
) -> None:
    await start_with(engine, etl=())
    triggers = [{"key": "a", "filter": "input.amount > 1"}]
    await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"events": triggers}})
    engine.workflows.observe("MODIFIED", await workflow_of(api))
    assert await engine.triggering.push(make_event("a")) == []

    async def is_told() -> bool:
        events, _ = await api.list_all(EVENTS, NAMESPACE)
        return any(event["reason"] == "FilterFailed" and "no 'amount'" in event["message"] for event in events)

    await eventually(is_told, within_seconds=SECONDS)


def make_schedule(*, request_id: str = "", **parent: Any) -> workflows_wire.ScheduleWorkflowRequest:
    request = workflows_wire.ScheduleWorkflowRequest(name="etl", input='{"a":1}', request_id=request_id, **parent)
    for year in (2098, 2099):
        request.schedules.add().FromDatetime(datetime(year, 1, 1, tzinfo=UTC))
    return request


async def schedule(engine: Engine, request: workflows_wire.ScheduleWorkflowRequest) -> list[str]:
    return [await engine.spawning.trigger(each) for each in scheduled(request, MAIN)]


async def test_a_scheduled_run_costs_nothing_until_its_time_which_may_be_changed(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        _, stream = await connect(engine, "etl")
        [first, second] = await schedule(engine, make_schedule(request_id="r"))
        assert await schedule(engine, make_schedule(request_id="r")) == [first, second]
        made = await api.get(RUNS, NAMESPACE, first)
    soon = timedelta(seconds=0.2)
    async with started(server, rejoin=soon) as engine:  # which knows nothing but the objects
        _, stream = await connect(engine, "etl")
        await api.patch(RUNS, NAMESPACE, second, {"spec": {"startAt": "2020-01-01T00:00:00Z"}})
        attempt = engine.runs.attempts.get(await next_attempt(stream))
        assert attempt is not None
        assert attempt.ref.name == second
        record = engine.store.get(attempt.ref)
        assert record is not None
        assert '"triggered_by":"schedule"' in start_action(attempt, record, names=True).action_payload
        assert [other.ref.name for other in engine.store.unfinished() if not other.attempts] == [first]
        waiting = await api.get(RUNS, NAMESPACE, first)
        assert waiting["spec"]["startAt"][:10] == "2098-01-01"
        assert waiting == made  # nobody wrote to it
    assert requests_to(server, "create", "workflowruns") == 4


async def test_a_step_schedules_children_once_however_often_it_is_tried(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("parent"))
    attempt = await next_attempt(stream)
    parent: dict[str, Any] = {"parent_id": "parent", "parent_step_run_id": attempt, "child_index": 0}
    first = await schedule(engine, make_schedule(**parent))
    assert await schedule(engine, make_schedule(**parent)) == first
    assert len(set(first)) == 2
    child = await api.get(RUNS, NAMESPACE, first[0])
    assert child["spec"]["parent"]["name"] == "parent"
    assert child["spec"]["startAt"][:10] == "2098-01-01"
