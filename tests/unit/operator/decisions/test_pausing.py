"""Runs that pause when a step has no retries left, and what a person does about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.observed import LiveAttempt, ObservedRun, Outcome, Report, RunPlan, Wait
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import LossKind, OnRetriesExhausted, Phase, Reason
from hatchet_operator.resources.run import RunStatus, StepStatus
from hatchet_operator.resources.workflow import WorkflowSpec
from tests.unit.operator.decisions.builders import (
    NOW,
    SECOND,
    ago,
    id_of,
    later,
    make_graph,
    make_live,
    make_observed_run,
    make_report,
    make_step,
    make_step_status,
    names,
)

PAUSE = WorkflowSpec(on_retries_exhausted=OnRetriesExhausted.PAUSE)
STEP = make_step(retries=1)
PAUSING = make_graph(STEP, spec=PAUSE)
LAST = make_step_status(Phase.RUNNING, attempt=1, worker="pod-1", started_at=ago(5))


def look(status: RunStatus, graph: Any = PAUSING, **spec: Any) -> RunPlan:
    seen = make_observed_run(graph=graph, **spec)
    run = seen.run.model_copy(update={"status": status})
    return plan_run(ObservedRun(run=run, graph=graph, policy=seen.policy), later(3600))


def ending(
    outcome: Outcome = Outcome.FAILED, *, graph: Any = PAUSING, old: StepStatus = LAST, **report: Any
) -> RunPlan:
    reports = {"work": make_report(outcome, error="it broke", **report)}
    status = {"started_at": ago(5)}
    live = {"work": make_live(started_at=ago(5))}
    return plan_run(
        make_observed_run(
            phase=Phase.RUNNING, graph=graph, steps={"work": old}, live=live, reports=reports, status=status
        ),
        NOW,
    )


def paused_status() -> RunStatus:
    status = ending().status
    assert status is not None
    return status


@pytest.mark.parametrize(
    "report",
    [
        pytest.param({}, id="it failed"),
        pytest.param({"may_retry": False}, id="it said that no retry would help"),
        pytest.param({"outcome": Outcome.LOST, "loss": LossKind.CRASH}, id="its worker died too often"),
    ],
)
def test_a_step_without_retries_left_waits_for_a_person(report: dict[str, Any]) -> None:
    old = LAST.model_copy(update={"losses": 2})
    status = ending(old=old, **report).status
    assert status is not None
    assert (status.phase, status.reason, status.finished_at) == (Phase.RUNNING, Reason.PAUSED, None)
    step = status.steps["work"]
    assert (step.phase, step.attempt, step.paused_at) == (Phase.PENDING, 2, NOW)
    assert {c.type: c.status for c in status.conditions} == {"Ready": "False", "Paused": "True", "Stalled": "True"}


def test_it_says_which_step_why_and_what_to_do() -> None:
    assert paused_status().message == (
        'step "work" failed in attempt 2, and has no retries left: it broke; it is tried again when spec.resumes is '
        "above 0 (or cancel the run)"
    )


def test_a_timeout_pauses_too() -> None:
    live = {"work": make_live(started_at=ago(61))}
    plan = plan_run(make_observed_run(phase=Phase.RUNNING, graph=PAUSING, steps={"work": LAST}, live=live), NOW)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.steps["work"].reason) == (Reason.PAUSED, Reason.TIMED_OUT)


def test_a_step_with_retries_left_is_retried_first() -> None:
    status = ending(old=make_step_status(Phase.RUNNING, worker="pod-1", started_at=ago(5))).status
    assert status is not None
    assert (status.reason, status.steps["work"].paused_at, status.steps["work"].attempt) == (None, None, 1)


@pytest.mark.parametrize("days", [0, 1, 1000])
def test_nothing_but_a_person_ends_the_pause(days: int) -> None:
    seen = make_observed_run(graph=PAUSING, age=timedelta(days=2000))
    run = seen.run.model_copy(update={"status": paused_status()})
    plan = plan_run(ObservedRun(run=run, graph=PAUSING, policy=seen.policy), NOW + timedelta(days=days))
    assert (plan.status, plan.wanted, plan.recheck_at) == (None, (), None)


def test_a_resumed_step_is_tried_again_with_all_of_its_retries() -> None:
    resumed = look(paused_status(), resumes=1).status
    assert resumed is not None
    assert (resumed.reason, resumed.message, resumed.resumes) == (None, None, 1)
    step = resumed.steps["work"]
    assert (step.paused_at, step.attempt, step.retries_from) == (None, 2, 2)
    assert {condition.type for condition in resumed.conditions} == {"Ready"}
    wanted = look(resumed, resumes=1).wanted
    assert [(attempt.step.name, attempt.attempt) for attempt in wanted] == [("work", 2)]
    again = ending(old=step).status
    assert again is not None
    assert (again.steps["work"].attempt, again.steps["work"].paused_at) == (3, None)
    last = ending(old=again.steps["work"]).status
    assert last is not None
    assert (last.steps["work"].attempt, last.steps["work"].paused_at) == (4, NOW)


def test_a_resumption_counts_once() -> None:
    resumed = look(paused_status(), resumes=1).status
    assert resumed is not None
    run = make_observed_run(graph=PAUSING, resumes=1).run.model_copy(update={"status": resumed})
    attempt = id_of(ObservedRun(run=run, graph=PAUSING, policy=make_observed_run().policy))
    no_retries = make_graph(make_step(retries=0), spec=PAUSE)
    seen = ObservedRun(
        run=run,
        graph=no_retries,
        policy=make_observed_run().policy,
        live={"work": LiveAttempt(id=attempt, worker="w", started_at=NOW, deadline=NOW + SECOND)},
        reports={"work": Report(attempt_id=attempt, outcome=Outcome.FAILED, at=NOW, error="still broken")},
    )
    paused = plan_run(seen, NOW).status
    assert paused is not None
    assert paused.reason == Reason.PAUSED
    assert look(paused, no_retries, resumes=1).status is None


def test_a_resumption_before_the_pause_has_no_effect_on_it() -> None:
    seen = make_observed_run(
        phase=Phase.RUNNING,
        graph=PAUSING,
        steps={"work": LAST},
        live={"work": make_live(started_at=ago(5))},
        reports={"work": make_report(Outcome.FAILED, error="it broke")},
        resumes=3,
    )
    paused = plan_run(seen, NOW).status
    assert paused is not None
    assert (paused.reason, paused.resumes) == (Reason.PAUSED, 3)
    assert look(paused, resumes=3).status is None


def test_other_branches_go_on() -> None:
    graph = make_graph(make_step("a"), make_step("b"), make_step("c", parents=("a",)), spec=PAUSE)
    paused = make_step_status(attempt=1, paused_at=NOW, reason=Reason.STEP_FAILED, error="it broke")
    seen = make_observed_run(phase=Phase.RUNNING, graph=graph, steps={"a": paused}, status={"started_at": ago(5)})
    told = plan_run(seen, NOW).status
    assert told is not None
    assert names(look(told, graph).wanted) == ["b"]


def test_a_paused_run_can_be_cancelled() -> None:
    status = look(paused_status(), cancelled=True).status
    assert status is not None
    assert (status.phase, status.steps["work"].phase, status.steps["work"].paused_at) == (
        Phase.CANCELLED,
        Phase.CANCELLED,
        None,
    )


def test_the_on_failure_step_runs_only_where_nothing_pauses() -> None:
    graph = make_graph(make_step(), on_failure=make_step("tidy"), spec=PAUSE)
    status = ending(graph=graph, old=make_step_status(Phase.RUNNING, worker="pod-1", started_at=ago(5))).status
    assert status is not None
    assert look(status, graph).wanted == ()


def test_a_schedule_timeout_does_not_pause() -> None:
    wait = Wait(queued_at=ago(301), unserved_since=ago(301))
    status = plan_run(make_observed_run(graph=PAUSING, waits={"work": wait}), NOW).status
    assert status is not None
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.SCHEDULING_TIMED_OUT)
