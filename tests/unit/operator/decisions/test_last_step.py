"""After which ends of the others the on-failure step runs, and what becomes of the run meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.last_step import runs_after, runs_after_cancel
from hatchet_operator.decisions.observed import Outcome, RunPlan
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import Phase, Reason, RunOn
from hatchet_operator.resources.run import RunStatus, StepStatus
from hatchet_operator.resources.workflow import OnFailureOverrides, WorkflowSpec
from tests.unit.operator.decisions.builders import (
    NOW,
    ago,
    failed,
    make_graph,
    make_live,
    make_observed_run,
    make_report,
    make_step,
    make_step_status,
    names,
    succeeded,
)


def status_of(plan: RunPlan) -> RunStatus:
    assert plan.status is not None
    return plan.status


STOPPED_ITSELF = make_step_status(Phase.CANCELLED, reason=Reason.CANCELLED_BY_STEP, error="stopped")
TIMED_OUT_WAITING = make_step_status(Phase.CANCELLED, reason=Reason.SCHEDULING_TIMED_OUT, error="nobody came")


@pytest.mark.parametrize(
    ("others", "want"),
    [
        pytest.param([succeeded()], {RunOn.ALWAYS}, id="success"),
        pytest.param([succeeded(), failed()], {RunOn.FAILURE, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS}, id="failure"),
        pytest.param([TIMED_OUT_WAITING], {RunOn.FAILURE, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS}, id="nobody came"),
        pytest.param([STOPPED_ITSELF], set(RunOn), id="it stopped by itself: either"),
        pytest.param(
            [STOPPED_ITSELF, failed()],
            {RunOn.FAILURE, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS},
            id="one stopped and one failed: failure",
        ),
    ],
)
def test_after_the_others_ended_by_themselves(others: list[StepStatus], want: set[RunOn]) -> None:
    assert {run_on for run_on in RunOn if runs_after(run_on, others)} == want


@pytest.mark.parametrize(
    ("steps", "is_assigned", "want"),
    [
        pytest.param([], False, set(), id="nothing had begun: nothing is to be tidied"),
        pytest.param([], True, {RunOn.CANCEL, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS}, id="a worker has a step"),
        pytest.param([succeeded()], False, {RunOn.CANCEL, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS}, id="one is over"),
    ],
)
def test_after_the_run_was_cancelled(steps: list[StepStatus], is_assigned: bool, want: set[RunOn]) -> None:
    assert {run_on for run_on in RunOn if runs_after_cancel(run_on, steps, is_assigned=is_assigned)} == want


def graph_of(run_on: RunOn | None = RunOn.CANCEL, **changes: Any) -> Graph:
    return make_graph(
        make_step("a"), make_step("b", parents=("a",)), on_failure=make_step("tidy"), run_on=run_on, **changes
    )


def test_a_cancelled_run_first_stops_its_steps_then_has_its_last_one_run_and_then_ends() -> None:
    seen = make_observed_run(graph=graph_of(), cancelled=True, live={"a": make_live(started_at=ago(5))})
    stopping = status_of(plan_run(seen, NOW))
    assert (stopping.phase, stopping.reason) == (Phase.RUNNING, Reason.CANCEL_REQUESTED)
    assert stopping.message == "spec.cancelled was set; its last step runs"
    assert {name: state.phase for name, state in stopping.steps.items()} == dict.fromkeys("ab", Phase.CANCELLED)

    tidying = make_observed_run(graph=graph_of(), cancelled=True, status=dict(stopping))
    plan = plan_run(tidying, NOW)
    assert (plan.status, names(plan.wanted)) == (None, ["tidy"])

    report = make_report(Outcome.FAILED, error="could not")
    over = make_observed_run(graph=graph_of(), cancelled=True, status=dict(stopping), reports={"tidy": report})
    end = status_of(plan_run(over, NOW))
    assert (end.phase, end.reason, end.message) == (Phase.CANCELLED, Reason.CANCEL_REQUESTED, "spec.cancelled was set")
    assert end.steps["tidy"].phase is Phase.FAILED


def test_a_cancelled_run_ends_at_once_without_such_a_step() -> None:
    live = {"a": make_live()}
    end = status_of(plan_run(make_observed_run(graph=graph_of(RunOn.FAILURE), cancelled=True, live=live), NOW))
    assert (end.phase, set(end.steps)) == (Phase.CANCELLED, {"a", "b"})


def test_a_step_that_always_runs_has_no_say_in_how_the_run_ended() -> None:
    steps = {"a": succeeded(), "b": succeeded()}
    plan = plan_run(make_observed_run(graph=graph_of(RunOn.ALWAYS), steps=steps), NOW)
    assert names(plan.wanted) == ["tidy"]
    end = status_of(plan_run(make_observed_run(graph=graph_of(RunOn.ALWAYS), steps=steps | {"tidy": failed()}), NOW))
    assert (end.phase, end.reason) == (Phase.SUCCEEDED, Reason.COMPLETED)


def test_a_persons_word_goes_over_the_codes() -> None:
    spec = WorkflowSpec(on_failure=OnFailureOverrides(run_on=RunOn.ALWAYS))
    assert graph_of(RunOn.CANCEL, spec=spec).run_on is RunOn.ALWAYS
    assert graph_of(None).run_on is RunOn.FAILURE
