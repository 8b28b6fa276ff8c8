"""A worker must not be able to take one step for another, whatever they are named."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatchet_operator.decisions.actions import OfferedStep, action_conflict, conflict_message, offered_steps
from hatchet_operator.resources.names import action_id
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition

NAMES = st.text(st.sampled_from("ab:_.- %AΣİẞ\0"), min_size=1, max_size=5) | st.text(min_size=1, max_size=8)


def make_definition(
    name: str, *steps: str, action: str | None = None, on_failure: str | None = None
) -> WorkflowDefinition:
    def make_step(step: str) -> StepDefinition:
        return StepDefinition(name=step, action=action or action_id(name, step), timeout=timedelta(seconds=1))

    return WorkflowDefinition(
        name=name,
        steps=tuple(map(make_step, steps)),
        on_failure=make_step(on_failure) if on_failure else None,
        schedule_timeout=timedelta(minutes=5),
    )


@pytest.mark.parametrize(
    ("one", "other", "want"),
    [
        pytest.param(make_definition("a:b", "c"), make_definition("a", "b:c"), True, id="a colon in either name"),
        pytest.param(make_definition("A:B", "C"), make_definition("a", "b:c"), True, id="in any case"),
        pytest.param(make_definition("a:b", "c"), make_definition("a", "b", on_failure="b:c"), True, id="on failure"),
        pytest.param(make_definition("a", "b", "c"), make_definition("b", "b", "c"), False, id="two workflows"),
        pytest.param(make_definition("a:b", "c"), make_definition("a", "b"), False, id="a colon that harms nobody"),
        pytest.param(
            make_definition("x", "s", action="shared:code"),
            make_definition("y", "s", action="shared:code"),
            False,
            id="one function for two workflows, as its author chose",
        ),
        pytest.param(
            make_definition("x", "s", action="y:s"), make_definition("y", "s"), True, id="a chosen id that is a name"
        ),
    ],
)
def test_what_a_worker_could_take_for_another(one: WorkflowDefinition, other: WorkflowDefinition, want: bool) -> None:
    for mine, others in ((one, other), (other, one)):
        found = action_conflict(offered_steps("mine", mine), offered_steps("other", others))
        assert (found is not None) is want


def test_steps_of_one_workflow_that_are_one_action() -> None:
    steps = offered_steps("x", make_definition("x", "Load", "load"))
    found = action_conflict(steps, [])
    assert found is not None
    assert conflict_message(*found) == (
        'step "load" of workflow "x" and step "Load" of workflow "x" are both the action "x:load", since workflow and '
        'step are joined by ":" and compared in lower case; a worker could not tell them apart: rename one of them'
    )


@given(st.lists(st.tuples(NAMES, st.lists(NAMES, min_size=1, max_size=3)), min_size=1, max_size=5))
@example([("a:b", ["c"]), ("a", ["b:c"])])
def test_registered_steps_have_actions_of_their_own(workflows: list[tuple[str, list[str]]]) -> None:
    """Register one after the other, as the operator does; an object of a Workflow is named after its lower case."""
    registered: dict[str, list[OfferedStep]] = {}
    for name, steps in workflows:
        mine = offered_steps(name.lower(), make_definition(name, *steps))
        others = [step for key, known in registered.items() if key != name.lower() for step in known]
        if action_conflict(mine, others) is None:
            registered[name.lower()] = mine
    everything = [step for steps in registered.values() for step in steps]
    for one, other in combinations(everything, 2):
        same = (one.workflow, one.step) == (other.workflow, other.step)
        assert same or one.action != other.action
