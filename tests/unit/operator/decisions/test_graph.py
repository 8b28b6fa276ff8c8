"""Definitions that make no sense are refused by name; a person's overrides lie over what a worker registered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.graph import (
    InvalidDefinitionError,
    check_definition,
    effective_graph,
    unknown_overrides,
)
from hatchet_operator.decisions.retry import backoff
from hatchet_operator.resources.reasons import ScheduleTimeoutCounts
from hatchet_operator.resources.workflow import ConcurrencyLimit, StepOverrides, WorkflowDefinition, WorkflowSpec
from tests.unit.operator.decisions.builders import make_definition, make_graph, make_step


@pytest.mark.parametrize(
    ("definition", "want"),
    [
        pytest.param(make_definition(steps=()), 'workflow "etl" has no steps; expected at least one', id="no steps"),
        pytest.param(
            make_definition(make_step("a"), make_step("a")),
            'workflow "etl" has two steps named "a"; expected each name once',
            id="two of one name",
        ),
        pytest.param(
            make_definition(make_step("a"), on_failure=make_step("a")),
            'workflow "etl" has two steps named "a"; expected each name once',
            id="the on-failure step has a name of its own",
        ),
        pytest.param(
            make_definition(make_step("load", parents=("extract",)), make_step("transform")),
            'workflow "etl": step "load" names parent "extract", which is not defined (defined: load, transform)',
            id="unknown parent",
        ),
        pytest.param(
            make_definition(make_step("a"), make_step("b", parents=("tidy",)), on_failure=make_step("tidy")),
            'workflow "etl": step "b" names parent "tidy", which is not defined (defined: a, b)',
            id="the on-failure step is nobody's parent",
        ),
        pytest.param(
            make_definition(make_step("a", parents=("a",))),
            'workflow "etl": its steps wait for each other in a cycle (a -> a); remove one of these parents',
            id="its own parent",
        ),
        pytest.param(
            make_definition(make_step("a", parents=("b",)), make_step("b", parents=("a",))),
            'workflow "etl": its steps wait for each other in a cycle',
            id="a cycle of two",
        ),
    ],
)
def test_a_definition_that_is_no_graph_is_refused(definition: WorkflowDefinition, want: str) -> None:
    with pytest.raises(InvalidDefinitionError) as caught:
        check_definition(definition)
    assert str(caught.value).startswith(want)


@st.composite
def definitions(draw: st.DrawFn) -> WorkflowDefinition:
    """Draw a DAG whose steps stand in any order."""
    count = draw(st.integers(1, 8))
    steps = [
        make_step(f"s{n}", parents=tuple(f"s{m}" for m in sorted(draw(st.sets(st.integers(0, n - 1)))) if n))
        if n
        else make_step("s0")
        for n in range(count)
    ]
    return make_definition(*draw(st.permutations(steps)))


@given(definitions())
def test_steps_of_a_graph_come_after_their_parents(definition: WorkflowDefinition) -> None:
    graph = effective_graph("etl", WorkflowSpec(), definition, revision="r", pool=None)
    order = [step.name for step in graph.steps]
    assert sorted(order) == sorted(step.name for step in definition.steps)
    assert all(order.index(parent) < order.index(step.name) for step in graph.steps for parent in step.parents)


@given(definitions(), st.data())
def test_an_edge_that_closes_a_cycle_is_found(definition: WorkflowDefinition, data: st.DataObject) -> None:
    graph = effective_graph("etl", WorkflowSpec(), definition, revision="r", pool=None)
    child = data.draw(st.sampled_from(graph.steps))
    ancestors = {child.name}
    for step in reversed(graph.steps):
        if step.name in ancestors:
            ancestors |= set(step.parents)
    ancestor = data.draw(st.sampled_from(sorted(ancestors)))
    closed = [
        step.model_copy(update={"parents": (*step.parents, child.name)}) if step.name == ancestor else step
        for step in definition.steps
    ]
    with pytest.raises(InvalidDefinitionError, match="cycle"):
        check_definition(definition.model_copy(update={"steps": tuple(closed)}))


def test_overrides_lie_over_what_was_registered() -> None:
    spec = WorkflowSpec(
        steps={"a": StepOverrides(timeout=timedelta(seconds=5), retries=7)},
        schedule_timeout=timedelta(seconds=9),
        schedule_timeout_counts=ScheduleTimeoutCounts.QUEUE,
        priority=3,
    )
    graph = make_graph(
        make_step("a", retries=1, backoff_factor=2.0), make_step("b", retries=1), spec=spec, default_priority=2
    )
    a, b = graph.steps
    assert (a.timeout, a.retries, a.backoff_factor) == (timedelta(seconds=5), 7, 2.0)
    assert (b.timeout, b.retries) == (timedelta(minutes=1), 1)
    assert (graph.schedule_timeout, graph.counts, graph.priority) == (timedelta(seconds=9), "Queue", 3)


@pytest.mark.parametrize(
    ("registered", "override", "want"),
    [
        ({"backoff_factor": 2.0}, {"backoff_delays": (timedelta(seconds=9),)}, 9),
        ({"backoff_delays": (timedelta(seconds=9),)}, {"backoff_factor": 3.0}, 3),
        ({"backoff_delays": (timedelta(seconds=9),)}, {"retries": 4}, 9),
    ],
)
def test_a_persons_backoff_goes_over_the_other_kind_of_the_code(
    registered: dict[str, Any], override: dict[str, Any], want: int
) -> None:
    spec = WorkflowSpec(steps={"a": StepOverrides(**override)})
    [step] = make_graph(make_step("a", **registered), spec=spec).steps
    assert backoff(step, 0) == timedelta(seconds=want)


def test_the_on_failure_step_can_be_overridden_too() -> None:
    spec = WorkflowSpec(steps={"tidy": StepOverrides(retries=4)})
    graph = make_graph(make_step("a"), on_failure=make_step("tidy"), spec=spec)
    assert graph.on_failure is not None
    assert graph.on_failure.retries == 4
    assert graph.step("tidy") is graph.on_failure
    assert graph.step("nobody") is None


def test_a_retry_count_of_zero_is_an_override() -> None:
    graph = make_graph(make_step("a", retries=3), spec=WorkflowSpec(steps={"a": StepOverrides(retries=0)}))
    assert graph.steps[0].retries == 0


@pytest.mark.parametrize(("default", "want"), [(None, 1), (2, 2)])
def test_the_priority_is_the_workflows_or_else_one(default: int | None, want: int) -> None:
    assert make_graph(default_priority=default).priority == want


def test_overrides_of_steps_that_nobody_registered_are_found() -> None:
    spec = WorkflowSpec(
        steps={"x": StepOverrides(), "a": StepOverrides(), "tidy": StepOverrides(), "b": StepOverrides()}
    )
    definition = make_definition(make_step("a"), on_failure=make_step("tidy"))
    assert unknown_overrides(spec, definition) == ["b", "x"]


def make_grouped() -> WorkflowDefinition:
    method = make_step("group-key").model_copy(update={"action": "etl:group"})
    limit = {"expression": "group_key"}
    given = make_definition(make_step("extract"), make_step("load", parents=("extract",)))
    return given.model_copy(update={"group_key": method, "concurrency": (ConcurrencyLimit.model_validate(limit),)})


def test_a_method_that_names_the_group_is_a_step_before_all_others() -> None:
    graph = effective_graph("etl", WorkflowSpec(), make_grouped(), revision="r", pool=None)
    assert [(step.name, step.parents) for step in graph.steps] == [
        ("group-key", ()),
        ("extract", ("group-key",)),
        ("load", ("extract",)),
    ]
    assert graph.asks_for_group


def test_a_persons_limits_take_the_place_of_the_method() -> None:
    spec = WorkflowSpec.model_validate({"concurrency": [{"expression": "input.user"}]})
    graph = effective_graph("etl", spec, make_grouped(), revision="r", pool=None)
    assert ([step.name for step in graph.steps], graph.asks_for_group) == (["extract", "load"], False)


def test_without_a_method_no_expression_names_what_it_says() -> None:
    with pytest.raises(InvalidDefinitionError, match="names group_key, which is not there"):
        check_definition(make_grouped().model_copy(update={"group_key": None}))
