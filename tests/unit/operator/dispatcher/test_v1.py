"""Registrations of v1 in the words of v0, what only v1 can say and is refused, and the details of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.dispatcher.v0.translation.workflows import workflow_definition
from hatchet_operator.dispatcher.v1.translation import registration, run_details
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.reasons import LimitStrategy, Phase, Reason
from hatchet_operator.resources.run import StepStatus
from hatchet_operator.resources.workflow import MAX_INPUT_SCHEMA
from hatchet_sdk.contracts import admin_v1_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as v0
from tests.unit.operator.decisions.builders import make_graph, make_observed_run, make_step


def task(name: str = "work", **changes: Any) -> wire.CreateTaskOpts:
    fields: dict[str, Any] = {
        "readable_id": name,
        "action": f"etl:{name}",
        "timeout": "1m",
        "schedule_timeout": "5m",
        "slot_requests": {"default": 1},
    }
    return wire.CreateTaskOpts(**fields | changes)


def request(*tasks: wire.CreateTaskOpts, **changes: Any) -> wire.CreateWorkflowVersionRequest:
    return wire.CreateWorkflowVersionRequest(name="Etl", tasks=tasks or (task(),), **changes)


def test_a_registration_becomes_the_same_definition() -> None:
    asked = request(
        task("load", retries=3, backoff_factor=2.0, backoff_max_seconds=9),
        task("save", parents=["load"], schedule_timeout="1h"),
        description="moves rows",
        version="7",
        default_priority=2,
        on_failure_task=task("tidy"),
    )
    definition = workflow_definition(registration(asked))
    assert (definition.name, definition.description, definition.version) == ("Etl", "moves rows", "7")
    assert [step.name for step in definition.steps] == ["load", "save"]
    load, save = definition.steps
    assert (load.action, load.retries, load.backoff_factor, load.backoff_max_seconds) == ("etl:load", 3, 2.0, 9)
    assert save.parents == ("load",)
    assert definition.on_failure is not None
    assert definition.on_failure.name == "tidy"
    assert (definition.schedule_timeout, definition.default_priority) == (timedelta(hours=1), 2), "the longest of all"


@pytest.mark.parametrize(
    ("given", "want"),
    [
        pytest.param(b'{"type": "object"}', '{"type": "object"}', id="it is kept as it is"),
        pytest.param(b"\xff", "\N{REPLACEMENT CHARACTER}", id="what is no text keeps no workflow from running"),
        pytest.param(b"x" * (MAX_INPUT_SCHEMA + 1), None, id="a longer one than an object should have is left out"),
        pytest.param(b"", None, id="empty"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_the_schema_of_an_input(given: bytes | None, want: str | None) -> None:
    definition = workflow_definition(registration(request(input_json_schema=given)))
    assert definition.input_schema == want
    assert ("inputSchema" in definition.to_wire()) == (want is not None), "others keep their revision"


@pytest.mark.parametrize("of_task", [False, True])
def test_limits_of_a_workflow_and_of_its_only_task_are_the_same(of_task: bool) -> None:
    limits = [
        wire.Concurrency(expression="input.user", max_runs=2, limit_strategy=v0.GROUP_ROUND_ROBIN),
        wire.Concurrency(expression="'all'"),
    ]
    asked = request(task(concurrency=limits)) if of_task else request(concurrency_arr=limits)
    found = workflow_definition(registration(asked)).concurrency
    assert found is not None
    assert [(each.expression, each.max_runs, each.strategy) for each in found] == [
        ("input.user", 2, LimitStrategy.GROUP_ROUND_ROBIN),
        ("'all'", 1, LimitStrategy.CANCEL_IN_PROGRESS),
    ]


ANYTHING = wire.Anything()
CANCEL_QUEUED_EXCEPT_OLDEST: Any = 6  # a number that the contract has no name for


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param(
            request(task(is_durable=True)),
            'task "work" asks for durable execution (durable_task), which this version does not have: make it a task',
            id="durable",
        ),
        pytest.param(
            request(task(batch=ANYTHING)),
            "asks for batches, which this version does not have: spawn a child for each item",
            id="batches",
        ),
        pytest.param(
            request(task(conditions=wire.TaskConditions(sleep_conditions=[ANYTHING]))),
            "asks for conditions (wait_for, skip_if, cancel_if), which this version does not have: return early",
            id="waits",
        ),
        pytest.param(
            request(task("a", concurrency=[wire.Concurrency(expression="'x'")]), task("b")),
            "limits the concurrency of single tasks",
            id="limits of one task of several",
        ),
        pytest.param(
            request(on_failure_task=task("tidy", concurrency=[wire.Concurrency(expression="'x'")])),
            "limits the concurrency of single tasks",
            id="limits of the on-failure task",
        ),
        pytest.param(
            request(concurrency_arr=[wire.Concurrency(expression="'x'", limit_strategy=CANCEL_QUEUED_EXCEPT_OLDEST)]),
            "asks for concurrency strategy 6, which this version does not have; use one of CancelInProgress",
            id="a strategy that is not there",
        ),
        pytest.param(
            request(concurrency_arr=[wire.Concurrency(expression="'x'", is_tenant_scoped=True)]),
            "over all workflows (tenant-scoped), which this version does not have: let a rate limit",
            id="tenant",
        ),
    ],
)
def test_what_only_v1_can_say_is_refused_by_name(asked: wire.CreateWorkflowVersionRequest, words: str) -> None:
    with pytest.raises(Unsupported, match='workflow "Etl"') as caught:
        workflow_definition(registration(asked))
    assert words in str(caught.value)


def test_empty_conditions_ask_for_nothing() -> None:
    assert registration(request(task(conditions=wire.TaskConditions()))).jobs[0].steps[0].readable_id == "work"


def test_a_schedule_timeout_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(InvalidRequest, match='workflow "Etl": its schedule timeout'):
        registration(request(task(schedule_timeout="soon")))


@dataclass(frozen=True)
class Told:
    status: int
    error: str | None


def test_the_details_of_a_failed_run_have_one_error() -> None:
    graph = make_graph(make_step("a"), make_step("b", parents=("a",)), on_failure=make_step("tidy"))
    steps = {
        "a": StepStatus(phase=Phase.FAILED, error="it broke"),
        "b": StepStatus(phase=Phase.CANCELLED, reason=Reason.PREVIOUS_STEP_FAILED, error="a step before it failed"),
        "tidy": StepStatus(phase=Phase.SUCCEEDED, output="{}"),
    }
    run = make_observed_run(phase=Phase.FAILED, steps=steps, graph=graph, input={"a": 1}).run
    details = run_details(run, graph)
    assert (details.done, details.status, details.input) == (True, wire.FAILED, b'{"a":1}')
    told = {
        name: Told(each.status, each.error if each.HasField("error") else None)
        for name, each in details.task_runs.items()
    }
    assert told == {"a": Told(wire.FAILED, "it broke"), "b": Told(wire.CANCELLED, None)}


def test_the_details_of_a_run_that_goes_on() -> None:
    steps = {"a": StepStatus(phase=Phase.SUCCEEDED, output='{"n": 1}'), "b": StepStatus(phase=Phase.RUNNING)}
    details = run_details(make_observed_run(phase=Phase.RUNNING, steps=steps).run, None)
    assert (details.done, details.status) == (False, wire.RUNNING)
    assert details.task_runs["a"].output == b'{"n": 1}'
    assert not details.task_runs["b"].HasField("output")
