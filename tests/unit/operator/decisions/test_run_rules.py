"""The rules of a run and of its steps, as tables."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.observed import LiveAttempt, Outcome, ParentState, Report, RunPlan, Wait
from hatchet_operator.decisions.run_rules import RUN_RULES, plan_run
from hatchet_operator.decisions.step_rules import STEP_RULES
from hatchet_operator.resources.limits import MAX_ERROR_BYTES
from hatchet_operator.resources.nesting import read_json
from hatchet_operator.resources.reasons import OnParentClose, Phase, Reason, ScheduleTimeoutCounts
from hatchet_operator.resources.run import MAX_EARLIER, ChildCounts, RunStatus, StepStatus
from hatchet_operator.resources.workflow import Workflow, WorkflowSpec
from tests.unit.operator.decisions.builders import (
    NOW,
    SECOND,
    ago,
    failed,
    id_of,
    later,
    make_graph,
    make_live,
    make_observed_run,
    make_report,
    make_step,
    make_step_status,
    names,
    succeeded,
)

CANCELLED_PARENT = ParentState(cancelled=True, closed=False)
CLOSED_PARENT = ParentState(cancelled=False, closed=True)
RUNNING_PARENT = ParentState(cancelled=False, closed=False)
DEEP = '{"a":' * 300 + "1" + "}" * 300
FINAL = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


def status_of(plan: RunPlan) -> RunStatus:
    assert plan.status is not None
    return plan.status


def step_of(plan: RunPlan, name: str = "work") -> StepStatus:
    return status_of(plan).steps[name]


# --- The rules of the run, and their order


def test_the_order_of_the_rules_is_the_policy() -> None:
    want = [
        "rerun_when_asked",
        "keep_finished_run",
        "cancel_when_asked",
        "cancel_with_parent",
        "fail_on_bad_input",
        "wait_while_suspended",
        "tell_resumed",
        "wait_for_children_of_replay",
        "wait_until_start",
        "wait_for_workflow",
        "respect_group",
        "advance_steps",
    ]
    assert [rule.__name__ for rule in RUN_RULES] == want


def test_the_order_of_the_step_rules() -> None:
    want = [
        "keep_finished_step",
        "wait_for_a_person",
        "believe_report",
        "watch_live_attempt",
        "skip_after_failed_parent",
        "wait_for_parents",
        "wait_for_backoff",
        "begin_nothing_while_suspended",
        "cancel_after_schedule_timeout",
        "wait_for_slot",
    ]
    assert [rule.__name__ for rule in STEP_RULES] == want


@pytest.mark.parametrize(
    ("observed", "want_phase", "want_reason"),
    [
        pytest.param(
            {"phase": Phase.FAILED, "reruns": 1, "cancelled": True},
            Phase.PENDING,
            None,
            id="executing again comes before keeping a finished run and before cancelling",
        ),
        pytest.param(
            {"cancelled": True, "parent": CANCELLED_PARENT, "input_json": "[]", "without_workflow": True},
            Phase.CANCELLED,
            Reason.CANCEL_REQUESTED,
            id="what a person asked comes before everything that may be wrong",
        ),
        pytest.param(
            {"parent": CANCELLED_PARENT, "input_json": "[]", "without_workflow": True},
            Phase.CANCELLED,
            Reason.PARENT_CANCELLED,
            id="the parent's end comes before a bad input",
        ),
        pytest.param(
            {"input_json": "[]", "without_workflow": True},
            Phase.FAILED,
            Reason.INVALID_INPUT,
            id="a bad input is not kept waiting for a workflow",
        ),
        pytest.param(
            {"without_workflow": True},
            Phase.PENDING,
            Reason.WORKFLOW_MISSING,
            id="without a workflow nothing can be started",
        ),
    ],
)
def test_the_first_rule_with_an_opinion_wins(
    observed: dict[str, Any], want_phase: Phase, want_reason: Reason | None
) -> None:
    status = status_of(plan_run(make_observed_run(**observed), NOW))
    assert (status.phase, status.reason) == (want_phase, want_reason)


@pytest.mark.parametrize("phase", FINAL)
def test_a_final_phase_never_changes_within_one_execution(phase: Phase) -> None:
    seen = make_observed_run(
        phase=phase,
        cancelled=True,
        parent=CANCELLED_PARENT,
        reports={"work": make_report()},
        live={"work": make_live()},
    )
    assert plan_run(seen, NOW) == RunPlan()


@pytest.mark.parametrize("phase", FINAL)
def test_a_raised_execution_begins_anew_and_keeps_the_children(phase: Phase) -> None:
    children = ChildCounts(total=2, succeeded=2, summary="2/2")
    seen = make_observed_run(
        phase=phase,
        reruns=1,
        steps={"work": failed()},
        status={"message": "old", "finished_at": ago(9), "definition": "etl-0", "children": children},
    )
    status = status_of(plan_run(seen, NOW))
    assert {c.type: (c.status, c.reason, c.last_transition_time) for c in status.conditions} == {
        "Ready": ("False", "Pending", NOW)
    }
    want = RunStatus(reruns=1, children=children, observed_generation=1)
    assert status.model_copy(update={"conditions": ()}) == want


def test_another_execution_has_other_attempts() -> None:
    first, second = make_observed_run(), make_observed_run(reruns=1, status={"reruns": 1})
    assert id_of(first) != id_of(second)


def test_cancelling_ends_every_step_that_is_not_final_and_starts_nothing() -> None:
    graph = make_graph(make_step("a"), make_step("b", parents=("a",)), make_step("c", parents=("b",)))
    seen = make_observed_run(
        phase=Phase.RUNNING,
        graph=graph,
        cancelled=True,
        steps={"a": succeeded('{"n":1}')},
        live={"b": make_live(started_at=ago(3))},
    )
    plan = plan_run(seen, NOW)
    status = status_of(plan)
    assert plan.wanted == ()
    assert status.phase is Phase.CANCELLED
    assert status.finished_at == NOW
    assert status.steps["a"] == succeeded('{"n":1}')
    want = "this step run was cancelled due to JOB_RUN_CANCELLED"
    assert [(status.steps[name].phase, status.steps[name].error) for name in "bc"] == [(Phase.CANCELLED, want)] * 2
    assert status.steps["b"].worker == "pod-1"
    assert {c.type: c.status for c in status.conditions} == {
        "Ready": "False",
        "Finished": "True",
        "Succeeded": "False",
        "Stalled": "True",
    }


def test_cancelling_keeps_what_the_on_failure_step_says() -> None:
    graph = make_graph(make_step(), on_failure=make_step("tidy"))
    seen = make_observed_run(
        phase=Phase.RUNNING, graph=graph, cancelled=True, steps={"work": failed()}, live={"tidy": make_live()}
    )
    steps = status_of(plan_run(seen, NOW)).steps
    assert {name: state.phase for name, state in steps.items()} == {"work": Phase.FAILED, "tidy": Phase.CANCELLED}


def test_cancelling_a_run_that_waits_for_its_workflow() -> None:
    status = status_of(plan_run(make_observed_run(cancelled=True, without_workflow=True), NOW))
    assert (status.phase, status.steps) == (Phase.CANCELLED, {})


@pytest.mark.parametrize(
    ("parent", "on_parent_close", "want"),
    [
        pytest.param(RUNNING_PARENT, OnParentClose.CANCEL, None, id="a running parent means nothing"),
        pytest.param(CANCELLED_PARENT, OnParentClose.ABANDON, Reason.PARENT_CANCELLED, id="cancelling always cascades"),
        pytest.param(CLOSED_PARENT, OnParentClose.ABANDON, None, id="a parent that finished leaves its children"),
        pytest.param(CLOSED_PARENT, OnParentClose.CANCEL, Reason.PARENT_CLOSED, id="unless the child is to go with it"),
        pytest.param(
            ParentState(cancelled=True, closed=True),
            OnParentClose.CANCEL,
            Reason.PARENT_CANCELLED,
            id="cancelled is the stronger word",
        ),
    ],
)
@pytest.mark.parametrize(
    "state",
    [
        pytest.param({}, id="queued"),
        pytest.param({"live": {"work": make_live()}, "phase": Phase.RUNNING}, id="running"),
        pytest.param({"steps": {"work": make_step_status(attempt=1, retry_at=later(60))}}, id="backing off"),
        pytest.param({"suspended": True}, id="suspended"),
    ],
)
def test_a_child_observes_its_parent(
    parent: ParentState, on_parent_close: OnParentClose, want: Reason | None, state: dict[str, Any]
) -> None:
    plan = plan_run(make_observed_run(parent=parent, on_parent_close=on_parent_close, **state), NOW)
    got = plan.status.reason if plan.status and plan.status.phase is Phase.CANCELLED else None
    assert got == want


def test_a_child_whose_parent_is_not_there_goes_on() -> None:
    orphan = replace(make_observed_run(parent=RUNNING_PARENT), parent=None)
    assert names(plan_run(orphan, NOW).wanted) == ["work"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("nonsense", "spec.inputJson is not JSON", id="no JSON"),
        pytest.param("[1]", "spec.inputJson is a JSON list; expected an object", id="a list"),
        pytest.param("null", "spec.inputJson is a JSON NoneType; expected an object", id="null"),
        pytest.param(DEEP, "spec.inputJson is nested deeper than 100 levels", id="nested too deep"),
        pytest.param(DEEP * 3, "spec.inputJson is not JSON", id="no JSON, and deep"),
    ],
)
def test_an_input_that_is_no_object_fails_the_run(text: str, want: str) -> None:
    status = status_of(plan_run(make_observed_run(input_json=text), NOW))
    assert status.phase is Phase.FAILED
    assert status.reason == Reason.INVALID_INPUT
    assert want in (status.message or "")


@pytest.mark.parametrize(
    ("size", "want"),
    [pytest.param(256 * 1024, None, id="all that is taken"), pytest.param(256 * 1024 + 1, "262145", id="a byte more")],
)
@pytest.mark.parametrize("field", ["input", "additionalMetadata", "inputJson"])
def test_one_limit_for_inputs_however_they_are_given(field: str, size: int, want: str | None) -> None:
    given: Any = {"a": "é" * (size // 2 - 5) + "x" * (size % 2 + 2)}
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    assert len(text.encode()) == size
    fields: dict[str, Any] = {field: text if field == "inputJson" else given}
    plan = plan_run(make_observed_run(**fields), NOW)
    if want is None:
        assert names(plan.wanted) == ["work"]
    else:
        status = status_of(plan)
        assert (status.phase, status.reason) == (Phase.FAILED, Reason.INVALID_INPUT)
        assert f"spec.{field} has {want} bytes of JSON; at most 262144 (256 KiB) are taken" in (status.message or "")


@pytest.mark.parametrize("field", ["input", "additionalMetadata"])
def test_what_is_nested_too_deep_fails_the_run(field: str) -> None:
    status = status_of(plan_run(make_observed_run(**{field: read_json(DEEP)}), NOW))
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.INVALID_INPUT)
    assert f"spec.{field} is nested deeper than 100 levels" in (status.message or "")


def test_a_run_whose_time_has_not_come_costs_no_write() -> None:
    assert plan_run(make_observed_run(start_at=later(60)), NOW) == RunPlan(recheck_at=later(60))
    assert plan_run(make_observed_run(start_at=later(60), without_workflow=True), NOW).status is None


def test_the_clock_is_looked_at_now_and_then() -> None:
    assert plan_run(make_observed_run(start_at=later(86_400)), NOW).recheck_at == later(3600)


def test_a_run_whose_time_has_come_starts() -> None:
    assert [wanted.step.name for wanted in plan_run(make_observed_run(start_at=NOW), NOW).wanted] == ["work"]


def test_a_run_that_has_begun_does_not_stop_for_a_later_time() -> None:
    seen = make_observed_run(start_at=later(60), live={"work": make_live()})
    assert [wanted.step.name for wanted in plan_run(seen, NOW).wanted] == ["work"]


def test_a_scheduled_run_may_be_cancelled_before_its_time() -> None:
    assert status_of(plan_run(make_observed_run(start_at=later(60), cancelled=True), NOW)).phase is Phase.CANCELLED


def test_a_workflow_is_waited_for_from_the_start_on() -> None:
    seen = make_observed_run(start_at=ago(1), without_workflow=True, age=timedelta(days=1))
    assert status_of(plan_run(seen, NOW)).phase is Phase.PENDING


def test_a_run_waits_for_its_workflow_and_says_so_once() -> None:
    seen = make_observed_run(without_workflow=True, age=timedelta(seconds=10))
    plan = plan_run(seen, NOW)
    status = status_of(plan)
    assert status.phase is Phase.PENDING
    assert {c.type: c.status for c in status.conditions} == {"Ready": "False", "WorkflowMissing": "True"}
    assert 'no worker has registered workflow "etl" yet' in (status.message or "")
    assert plan.recheck_at == NOW + timedelta(seconds=290)
    again = make_observed_run(
        without_workflow=True, age=timedelta(seconds=10), status={"conditions": status.conditions}
    )
    assert plan_run(again, NOW) == RunPlan(recheck_at=plan.recheck_at)


def test_a_workflow_that_never_comes_fails_the_run() -> None:
    seen = make_observed_run(without_workflow=True, age=timedelta(minutes=5))
    status = status_of(plan_run(seen, NOW))
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.WORKFLOW_MISSING)
    want = 'no worker registered workflow "etl" within 5m; check spec.workflow'
    assert (status.message or "").startswith(want)


def test_a_workflow_that_came_is_missing_no_more() -> None:
    waiting = status_of(plan_run(make_observed_run(without_workflow=True), NOW))
    seen = make_observed_run(
        status={"conditions": waiting.conditions, "reason": waiting.reason, "message": waiting.message}
    )
    status = status_of(plan_run(seen, NOW))
    assert [c.type for c in status.conditions] == ["Ready"]
    assert (status.reason, status.message) == (None, None)


# --- Starting steps

DIAMOND = (
    make_step("top"),
    make_step("left", parents=("top",)),
    make_step("right", parents=("top",)),
    make_step("bottom", parents=("left", "right")),
)


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param({}, ["top"], id="first the steps without parents"),
        pytest.param({"top": succeeded()}, ["left", "right"], id="then both branches at once"),
        pytest.param({"top": succeeded(), "left": succeeded()}, ["right"], id="the bottom waits for both"),
        pytest.param({"top": succeeded(), "left": succeeded(), "right": succeeded()}, ["bottom"], id="then the bottom"),
    ],
)
def test_steps_start_when_their_parents_succeeded(steps: dict[str, StepStatus], want: list[str]) -> None:
    plan = plan_run(make_observed_run(graph=make_graph(*DIAMOND), steps=steps), NOW)
    assert plan.status is None
    assert names(plan.wanted) == want


def test_a_failing_branch_skips_what_needs_it_and_lets_the_other_finish() -> None:
    graph = make_graph(*DIAMOND)
    seen = make_observed_run(
        graph=graph, steps={"top": succeeded(), "left": failed()}, live={"right": make_live(started_at=ago(0.5))}
    )
    status = status_of(plan_run(seen, NOW))
    assert status.phase is Phase.RUNNING
    assert (status.steps["bottom"].phase, status.steps["bottom"].reason) == (
        Phase.CANCELLED,
        Reason.PREVIOUS_STEP_FAILED,
    )
    after = make_observed_run(graph=graph, steps=status.steps, live={"right": make_live(started_at=ago(0.5))})
    assert names(plan_run(after, NOW).wanted) == ["right"]


@pytest.mark.parametrize(
    ("parent", "want"),
    [
        pytest.param(failed(), "PREVIOUS_STEP_FAILED", id="failed"),
        pytest.param(
            failed(Reason.TIMED_OUT, "TIMED_OUT: timeout 1m of step work"), "PREVIOUS_STEP_TIMED_OUT", id="timed out"
        ),
        pytest.param(
            make_step_status(Phase.CANCELLED, reason=Reason.CANCELLED_BY_STEP),
            "PREVIOUS_STEP_CANCELLED",
            id="cancelled itself",
        ),
    ],
)
def test_a_skipped_step_says_why(parent: StepStatus, want: str) -> None:
    graph = make_graph(make_step("a"), make_step("b", parents=("a",)))
    step = step_of(plan_run(make_observed_run(graph=graph, steps={"a": parent}), NOW), "b")
    assert step.error == f"this step run was cancelled due to {want}"


def test_a_suspended_workflow_starts_nothing_and_lets_running_steps_finish() -> None:
    graph = make_graph(make_step("a"), make_step("b"))
    seen = make_observed_run(graph=graph, suspended=True, live={"a": make_live()})
    status = status_of(plan_run(seen, NOW))
    assert (status.phase, status.reason) == (Phase.PENDING, Reason.WORKFLOW_SUSPENDED)
    assert status.message == 'workflow "etl" is suspended: no step starts until its spec.suspended is false'
    told = {"reason": status.reason, "message": status.message, "definition": status.definition}
    steps = {"a": status.steps["a"]}
    again = make_observed_run(graph=graph, suspended=True, live={"a": make_live()}, steps=steps, status=told)
    assert names(plan_run(again, NOW).wanted) == ["a"]
    resumed = make_observed_run(graph=graph, live={"a": make_live()}, steps=steps, status=told)
    assert (status_of(plan_run(resumed, NOW)).reason, status_of(plan_run(resumed, NOW)).message) == (None, None)


def test_a_run_that_will_be_collected_starts_nothing_and_tells_nobody() -> None:
    assert plan_run(make_observed_run(above_is_gone=True), NOW) == RunPlan()


def test_the_on_failure_step_runs_after_all_others_ended() -> None:
    graph = make_graph(make_step("a"), make_step("b"), on_failure=make_step("tidy"))
    some = make_observed_run(graph=graph, steps={"a": failed()}, live={"b": make_live()})
    assert names(plan_run(some, NOW).wanted) == ["b"]
    all_of_them = make_observed_run(graph=graph, steps={"a": failed(), "b": succeeded()})
    assert names(plan_run(all_of_them, NOW).wanted) == ["tidy"]


def test_the_on_failure_step_does_not_run_after_success() -> None:
    graph = make_graph(make_step("a"), on_failure=make_step("tidy"))
    status = status_of(plan_run(make_observed_run(graph=graph, steps={"a": succeeded()}), NOW))
    assert status.phase is Phase.SUCCEEDED
    assert "tidy" not in status.steps


@pytest.mark.parametrize("tidied", [succeeded(), failed(error="tidying broke")])
def test_the_on_failure_step_does_not_change_how_the_run_ended(tidied: StepStatus) -> None:
    graph = make_graph(make_step("a"), on_failure=make_step("tidy"))
    status = status_of(plan_run(make_observed_run(graph=graph, steps={"a": failed(), "tidy": tidied}), NOW))
    assert (status.phase, status.message) == (Phase.FAILED, 'step "a" (attempt 1): it broke')


# --- Reports


def test_a_result_ends_the_run_in_one_write() -> None:
    seen = make_observed_run(
        live={"work": make_live(started_at=ago(0.25))}, reports={"work": make_report(output='{"n":1}')}
    )
    status = status_of(plan_run(seen, NOW))
    assert (status.phase, status.reason, status.duration) == (Phase.SUCCEEDED, Reason.COMPLETED, "250ms")
    assert (status.started_at, status.finished_at, status.definition) == (ago(0.25), NOW, "etl-1")
    assert status.steps["work"].output == '{"n":1}'
    assert status.steps["work"].worker == "pod-1"
    assert {c.type: c.status for c in status.conditions} == {"Ready": "True", "Finished": "True", "Succeeded": "True"}


def test_a_result_that_is_here_beats_the_timeout() -> None:
    live = make_live(started_at=ago(100), timeout=SECOND)
    seen = make_observed_run(live={"work": live}, reports={"work": make_report()})
    assert step_of(plan_run(seen, NOW)).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("step", "report", "attempt", "want"),
    [
        pytest.param({"retries": 1}, {}, 0, (Phase.PENDING, 1, None), id="retries left: again, at once"),
        pytest.param({"retries": 1}, {}, 1, (Phase.FAILED, 1, None), id="none left: failed"),
        pytest.param({}, {}, 0, (Phase.FAILED, 0, None), id="no retries wanted: failed"),
        pytest.param({"retries": 1}, {"may_retry": False}, 0, (Phase.FAILED, 0, None), id="the step said: never again"),
        pytest.param(
            {"retries": 5, "backoff_factor": 2.0}, {}, 2, (Phase.PENDING, 3, later(8)), id="the third retry waits 2^3 s"
        ),
        pytest.param(
            {"retries": 5, "backoff_factor": 2.0, "backoff_max_seconds": 5},
            {},
            2,
            (Phase.PENDING, 3, later(5)),
            id="no longer than the longest backoff",
        ),
        pytest.param(
            {"retries": 5, "backoff_factor": 2.0},
            {"retry_after": timedelta(seconds=30)},
            0,
            (Phase.PENDING, 1, later(30)),
            id="the step said when",
        ),
    ],
)
def test_a_failed_attempt(
    step: dict[str, Any], report: dict[str, Any], attempt: int, want: tuple[Phase, int, datetime | None]
) -> None:
    seen = make_observed_run(
        graph=make_graph(make_step(**step)),
        steps={"work": make_step_status(attempt=attempt)},
        reports={"work": make_report(Outcome.FAILED, error="it broke", **report)},
    )
    got = step_of(plan_run(seen, NOW))
    assert (got.phase, got.attempt, got.retry_at) == want
    assert (got.reason, got.error) == (Reason.STEP_FAILED, "it broke")


def test_a_step_that_backs_off_is_not_started_before_its_time() -> None:
    seen = make_observed_run(steps={"work": make_step_status(attempt=1, retry_at=later(3))})
    assert plan_run(seen, NOW) == RunPlan(recheck_at=later(3))
    assert names(plan_run(seen, later(3)).wanted) == ["work"]


def test_an_error_is_cut_and_keeps_its_end() -> None:
    seen = make_observed_run(reports={"work": make_report(Outcome.FAILED, error="x" * 100_000 + "the end")})
    error = step_of(plan_run(seen, NOW)).error or ""
    assert len(error.encode()) <= MAX_ERROR_BYTES
    assert error.endswith("the end")
    assert "bytes cut" in error


def test_a_worker_that_says_cancelled_after_a_timeout_costs_an_attempt_and_not_the_run() -> None:
    live = {"work": make_live(started_at=ago(60), cancel_sent_at=NOW)}
    graph = make_graph(make_step(retries=1))
    seen = make_observed_run(graph=graph, live=live, reports={"work": make_report(Outcome.CANCELLED)})
    step = status_of(plan_run(seen, NOW)).steps["work"]
    assert (step.phase, step.attempt, step.reason) == (Phase.PENDING, 1, Reason.TIMED_OUT)


def test_a_step_that_cancels_itself_cancels_the_run() -> None:
    status = status_of(plan_run(make_observed_run(reports={"work": make_report(Outcome.CANCELLED)}), NOW))
    assert (status.phase, status.reason) == (Phase.CANCELLED, Reason.CANCELLED_BY_STEP)
    assert status.steps["work"].error == "this step run was cancelled due to CANCELLED_BY_STEP"


@pytest.mark.parametrize(
    ("losses", "want"),
    [
        pytest.param(0, (Phase.PENDING, 1, 1, "its worker died"), id="the first: given out anew"),
        pytest.param(1, (Phase.PENDING, 2, 1, "its worker died 2 times while the step ran"), id="the second too"),
        pytest.param(
            2, (Phase.FAILED, 3, 0, "WORKER_LOST: its worker died 3 times while the step ran"), id="the third is final"
        ),
    ],
)
def test_a_lost_worker_uses_no_retry(losses: int, want: tuple[Phase, int, int, str]) -> None:
    seen = make_observed_run(
        steps={"work": make_step_status(losses=losses)}, reports={"work": make_report(Outcome.LOST)}
    )
    step = step_of(plan_run(seen, NOW))
    assert (step.phase, step.losses, step.dispatch, step.error) == want
    assert step.attempt == 0
    assert step.reason == Reason.WORKER_LOST


def test_an_attempt_that_may_be_out_somewhere_goes_out_under_another_id() -> None:
    seen = make_observed_run(reports={"work": make_report(Outcome.UNKNOWN)})
    status = status_of(plan_run(seen, NOW))
    step = status.steps["work"]
    assert (step.dispatch, step.losses, step.attempt, step.error) == (1, 0, 0, None)
    assert id_of(make_observed_run(steps=status.steps)) != id_of(seen)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(make_report(Outcome.FAILED, error="no"), id="an attempt that failed"),
        pytest.param(make_report(Outcome.LOST), id="a worker that died"),
    ],
)
@pytest.mark.parametrize(("known", "want"), [(0, [(0, "pod-1")]), (12, [(0, "old")] * 9 + [(0, "pod-1")])])
def test_who_had_a_step_before_stays_known(report: Report, known: int, want: list[tuple[int, str]]) -> None:
    earlier = [{"attempt": 0, "worker": "old"}] * min(known, MAX_EARLIER)
    seen = make_observed_run(
        graph=make_graph(make_step(retries=1)),
        steps={"work": make_step_status(earlier=earlier)},
        live={"work": make_live()},
        reports={"work": report},
    )
    step = step_of(plan_run(seen, NOW))
    assert step.phase is Phase.PENDING
    assert [(each.attempt, each.worker) for each in step.earlier] == want


# --- While an attempt is out


@pytest.mark.parametrize(
    ("live", "retries", "want_stop", "want_recheck"),
    [
        pytest.param(make_live(), 0, (), later(1), id="young: look again when Running is worth a write"),
        pytest.param(
            make_live(started_at=ago(61)), 1, ("work",), later(1), id="timed out with retries: stop, then the grace"
        ),
        pytest.param(
            make_live(started_at=ago(61), cancel_sent_at=ago(0.5)), 1, (), later(0.5), id="within the grace: wait"
        ),
    ],
)
def test_a_live_attempt_stays_wanted(
    live: LiveAttempt, retries: int, want_stop: tuple[str, ...], want_recheck: datetime
) -> None:
    running = make_step_status(Phase.RUNNING, worker="pod-1") if live.started_at < ago(1) else make_step_status()
    seen = make_observed_run(graph=make_graph(make_step(retries=retries)), steps={"work": running}, live={"work": live})
    plan = plan_run(seen, NOW)
    assert plan.status is None
    assert names(plan.wanted) == ["work"]
    assert plan.tell_to_stop == want_stop
    assert plan.recheck_at == want_recheck


def test_running_is_written_for_what_lasts() -> None:
    plan = plan_run(make_observed_run(live={"work": make_live(started_at=ago(1))}), NOW)
    status = status_of(plan)
    assert (status.phase, status.started_at, status.definition) == (Phase.RUNNING, ago(1), "etl-1")
    assert (status.steps["work"].phase, status.steps["work"].worker) == (Phase.RUNNING, "pod-1")
    assert plan.recheck_at == later(59)


def test_a_timeout_without_retries_is_final_at_once() -> None:
    step = step_of(plan_run(make_observed_run(live={"work": make_live(started_at=ago(60))}), NOW))
    assert (step.phase, step.reason, step.error) == (
        Phase.FAILED,
        Reason.TIMED_OUT,
        "TIMED_OUT: timeout 1m of step work",
    )


def test_after_the_grace_the_next_attempt_follows() -> None:
    graph = make_graph(make_step(retries=1, backoff_factor=3.0))
    live = make_live(started_at=ago(61), cancel_sent_at=ago(1))
    step = step_of(plan_run(make_observed_run(graph=graph, live={"work": live}), NOW))
    assert (step.phase, step.attempt, step.reason, step.retry_at) == (Phase.PENDING, 1, Reason.TIMED_OUT, later(3))


def test_what_is_left_of_an_earlier_attempt_says_nothing_of_the_current_one() -> None:
    stale = make_live(identity="earlier", started_at=ago(90), cancel_sent_at=ago(2))
    seen = make_observed_run(
        graph=make_graph(make_step(retries=1)),
        steps={"work": make_step_status(attempt=1)},
        live={"work": stale},
        reports={"work": make_report(Outcome.FAILED, attempt_id="earlier")},
    )
    plan = plan_run(seen, NOW)
    assert plan.status is None
    assert [wanted.attempt for wanted in plan.wanted] == [1]


def test_a_completion_within_the_grace_counts() -> None:
    graph = make_graph(make_step(retries=1))
    live = make_live(started_at=ago(61), cancel_sent_at=ago(0.9))
    seen = make_observed_run(graph=graph, live={"work": live}, reports={"work": make_report()})
    assert status_of(plan_run(seen, NOW)).phase is Phase.SUCCEEDED


# --- The schedule timeout

MINUTES = timedelta(minutes=5)
BY_QUEUE = WorkflowSpec(schedule_timeout_counts=ScheduleTimeoutCounts.QUEUE)


@pytest.mark.parametrize(
    ("spec", "wait", "want"),
    [
        pytest.param(WorkflowSpec(), Wait(queued_at=ago(9999), unserved_since=None), None, id="Worker: a long queue"),
        pytest.param(
            WorkflowSpec(),
            Wait(queued_at=ago(9999), unserved_since=ago(299)),
            later(1),
            id="Worker: nobody there for a while",
        ),
        pytest.param(
            WorkflowSpec(), Wait(queued_at=ago(9999), unserved_since=ago(300)), "no worker", id="Worker: nobody there"
        ),
        pytest.param(
            WorkflowSpec(),
            Wait(queued_at=ago(10), unserved_since=ago(9999)),
            later(290),
            id="Worker: nobody was there before it came",
        ),
        pytest.param(
            BY_QUEUE, Wait(queued_at=ago(299), unserved_since=None), later(1), id="Queue: a while in the queue"
        ),
        pytest.param(
            BY_QUEUE, Wait(queued_at=ago(300), unserved_since=None), "it was in the queue", id="Queue: too long in it"
        ),
    ],
)
def test_the_schedule_timeout(spec: WorkflowSpec, wait: Wait, want: datetime | str | None) -> None:
    plan = plan_run(make_observed_run(graph=make_graph(spec=spec), waits={"work": wait}), NOW)
    if not isinstance(want, str):
        assert (plan.status, names(plan.wanted), plan.recheck_at) == (None, ["work"], want)
        return
    status = status_of(plan)
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.SCHEDULING_TIMED_OUT)
    assert status.steps["work"].phase is Phase.CANCELLED
    assert want in (status.message or "")


def test_who_enters_the_queue_is_looked_at_again_when_there_may_be_something_to_tell() -> None:
    assert plan_run(make_observed_run(), NOW).recheck_at == later(3)
    short = make_observed_run(graph=make_graph(schedule_timeout=timedelta(seconds=1)))
    assert plan_run(short, NOW).recheck_at == later(1)


def test_the_schedule_timeout_says_what_kept_workers_from_coming() -> None:
    wait = Wait(queued_at=ago(400), unserved_since=ago(400), trouble="pod main-x: ErrImagePull: no such image")
    status = status_of(plan_run(make_observed_run(waits={"work": wait}), NOW))
    assert (status.message or "").endswith("was connected for 5m; pod main-x: ErrImagePull: no such image")


# --- What a run says while it waits

TOLD = "no worker is there to take it: "
STARTING = "workers are on their way: "


def waits(seconds: float, trouble: str | None = "x", *, served: bool = False, **other: Any) -> dict[str, Wait]:
    since = None if served else ago(seconds)
    return {"work": Wait(queued_at=ago(seconds), unserved_since=since, trouble=trouble, **other)}


def gives_up(seconds: float) -> str:
    """What follows the words of one that has waited so long."""
    return f"; it gives up at {ago(seconds) + timedelta(minutes=5):%H:%M:%S} UTC (schedule timeout)"


@pytest.mark.parametrize(
    ("wait", "want"),
    [
        pytest.param(waits(3), TOLD + "x" + gives_up(3), id="after a few seconds"),
        pytest.param(waits(3, None, starting="0 of 1"), STARTING + "0 of 1" + gives_up(3), id="workers are to come"),
        pytest.param(waits(3, starting="0 of 1"), TOLD + "x" + gives_up(3), id="workers that do not come"),
        pytest.param(waits(3, may_tell=False), None, id="one of many"),
        pytest.param(waits(2.9), None, id="not before"),
        pytest.param(waits(99, None), None, id="nothing is known to be wrong"),
        pytest.param(waits(99, served=True), None, id="the workers are only busy"),
    ],
)
def test_a_run_that_waits_says_why(wait: dict[str, Wait], want: str | None) -> None:
    plan = plan_run(make_observed_run(waits=wait), NOW)
    if want is None:
        assert (plan.status, names(plan.wanted)) == (None, ["work"])
        return
    status = status_of(plan)
    assert (status.phase, status.reason, status.message) == (Phase.PENDING, Reason.WAITING_FOR_WORKER, want)


def test_the_end_of_the_first_seconds_is_looked_at() -> None:
    assert plan_run(make_observed_run(waits=waits(1)), NOW).recheck_at == later(2)


@pytest.mark.parametrize(
    ("trouble", "told_ago", "want", "want_recheck"),
    [
        pytest.param("x", 1, None, None, id="the same words are written once"),
        pytest.param("y", 59, None, 1, id="others not before a minute"),
        pytest.param("y", 60, TOLD + "y" + gives_up(100), None, id="others after a minute"),
        pytest.param("y", None, TOLD + "y" + gives_up(100), None, id="by an operator that told nothing yet"),
        pytest.param(None, 1, None, None, id="what is over is not unsaid by a write of its own"),
    ],
)
def test_what_was_told_stands_for_a_while(
    trouble: str | None, told_ago: float | None, want: str | None, want_recheck: float | None
) -> None:
    seen = make_observed_run(
        status={"reason": Reason.WAITING_FOR_WORKER, "message": TOLD + "x" + gives_up(100)},
        waits=waits(100, trouble),
        waiting_told_at=None if told_ago is None else ago(told_ago),
    )
    plan = plan_run(seen, NOW)
    assert (plan.status.message if plan.status else None) == want
    if want_recheck is not None:
        assert plan.recheck_at == later(want_recheck)


def test_what_is_wrong_is_told_at_once_after_what_was_to_come() -> None:
    told = {"reason": Reason.WAITING_FOR_WORKER, "message": STARTING + "0 of 1"}
    seen = make_observed_run(status=told, waits=waits(10, starting="0 of 1"), waiting_told_at=ago(1))
    assert status_of(plan_run(seen, NOW)).message == TOLD + "x" + gives_up(10)


def test_a_run_says_once_that_it_waits_for_a_slot() -> None:
    busy = waits(9, None, served=True, busy="all 2 slots are busy")
    status = status_of(plan_run(make_observed_run(waits=busy), NOW))
    assert (status.phase, status.reason, status.message) == (
        Phase.PENDING,
        Reason.WAITING_FOR_SLOT,
        "all 2 slots are busy",
    )
    later_on = waits(99, None, served=True, busy="other numbers")
    again = make_observed_run(status=status.model_dump(), waits=later_on)
    assert plan_run(again, NOW).status is None


def test_a_workflow_that_is_missing_may_be_another_ones_misspelt_name() -> None:
    seen = make_observed_run(without_workflow=True, age=timedelta(seconds=10))
    seen = replace(seen, known_workflows=("other", "etl-2"))
    message = status_of(plan_run(seen, NOW)).message or ""
    assert 'no worker has registered workflow "etl" yet (did you mean "etl-2"?)' in message
    assert f"gives up at {NOW + timedelta(seconds=290):%H:%M:%S} UTC" in message


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({}, " (its Workflow is there); the run starts", id="somebody made it"),
        pytest.param(
            {"pool": "etl", "scheduleTimeout": "30s"},
            ' (its Workflow names pool "etl": kubectl describe wp etl); the run starts',
            id="for a pool whose workers do not come",
        ),
    ],
)
def test_a_workflow_that_nobody_registered_is_not_taken_for_a_misspelt_one(spec: dict[str, str], want: str) -> None:
    workflow = Workflow.model_validate({"metadata": {"name": "etl"}, "spec": spec})
    seen = make_observed_run(without_workflow=True, age=timedelta(seconds=10))
    seen = replace(seen, known_workflows=("etl", "etl-2"), without_graph=workflow)
    message = status_of(plan_run(seen, NOW)).message or ""
    assert f'no worker has registered workflow "etl" yet{want}' in message


def test_a_workflow_that_nobody_registered_is_waited_for_as_long_as_it_says() -> None:
    workflow = Workflow.model_validate({"metadata": {"name": "etl"}, "spec": {"scheduleTimeout": "30s"}})
    seen = make_observed_run(without_workflow=True, age=timedelta(seconds=10))
    seen = replace(seen, without_graph=workflow)
    assert plan_run(seen, NOW).recheck_at == NOW + timedelta(seconds=20)
    assert f"gives up at {NOW + timedelta(seconds=20):%H:%M:%S} UTC" in (status_of(plan_run(seen, NOW)).message or "")
    ended = status_of(plan_run(seen, NOW + timedelta(seconds=20)))
    assert (ended.phase, ended.reason) == (Phase.FAILED, Reason.WORKFLOW_MISSING)
    assert 'no worker registered workflow "etl" within 30s' in (ended.message or "")


def test_what_was_told_goes_with_the_next_write() -> None:
    seen = make_observed_run(
        status={"reason": Reason.WAITING_FOR_WORKER, "message": TOLD + "x"}, live={"work": make_live(started_at=ago(2))}
    )
    status = status_of(plan_run(seen, NOW))
    assert (status.phase, status.reason, status.message) == (Phase.RUNNING, None, None)


def test_the_schedule_timeout_says_which_worker_was_missing() -> None:
    wait = Wait(queued_at=ago(400), unserved_since=ago(400))
    status = status_of(plan_run(make_observed_run(waits={"work": wait}), NOW))
    want = (
        'step "work" (attempt 1): this step run was cancelled due to SCHEDULING_TIMED_OUT: no worker of pool "main" '
        'that offers "etl:work" was connected for 5m; look at the pool (kubectl describe wp) and its pods'
    )
    assert status.message == want


# --- Children


@pytest.mark.parametrize(
    ("written_at", "want_written", "want_recheck"),
    [
        pytest.param(None, True, None, id="never written: at once"),
        pytest.param(ago(1), True, None, id="a second ago: again"),
        pytest.param(ago(0.4), False, later(0.6), id="just now: when the second is over"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.SUCCEEDED])
def test_children_are_counted_once_a_second(
    phase: Phase, written_at: datetime | None, want_written: bool, want_recheck: datetime | None
) -> None:
    children = ChildCounts(total=3, succeeded=1, summary="1/3")
    live = {} if phase.is_final else {"work": make_live()}
    seen = make_observed_run(phase=phase, live=live, children=children, children_written_at=written_at)
    plan = plan_run(seen, NOW)
    assert (plan.status is not None) is want_written
    if plan.status is not None:
        assert plan.status.children == children
    elif phase.is_final:
        assert plan.recheck_at == want_recheck
    else:
        assert plan.recheck_at == min(want_recheck or later(1), later(1))


def test_the_final_status_carries_the_newest_counts() -> None:
    children = ChildCounts(total=3, succeeded=3, summary="3/3")
    seen = make_observed_run(children=children, children_written_at=ago(0.1), reports={"work": make_report()})
    assert status_of(plan_run(seen, NOW)).children == children


# --- How a run ended, in a person's words


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param(
            {
                "a": failed(error="first line\nsecond"),
                "b": make_step_status(Phase.CANCELLED, reason="PreviousStepFailed"),
            },
            (Phase.FAILED, "StepFailed", 'step "a" (attempt 1): first line'),
            id="the culprit, not what was skipped because of it",
        ),
        pytest.param(
            {"a": make_step_status(Phase.CANCELLED, reason="CancelledByStep", error="x"), "b": succeeded()},
            (Phase.CANCELLED, "CancelledByStep", 'step "a" (attempt 1): x'),
            id="a step that wanted it so",
        ),
        pytest.param(
            {"a": make_step_status(Phase.CANCELLED, reason="CancelledByStep", error="x"), "b": failed()},
            (Phase.FAILED, "StepFailed", 'step "b" (attempt 1): it broke'),
            id="a failure weighs more than a wish",
        ),
    ],
)
def test_how_a_run_ended(steps: dict[str, StepStatus], want: tuple[Phase, str, str]) -> None:
    graph = make_graph(make_step("a"), make_step("b"))
    status = status_of(plan_run(make_observed_run(graph=graph, steps=steps), NOW))
    assert (status.phase, status.reason, status.message) == want


@pytest.mark.parametrize(
    ("duration", "want"),
    [
        (timedelta(milliseconds=12), "12ms"),
        (timedelta(seconds=3.44), "3.4s"),
        (timedelta(seconds=125), "2m5s"),
        (timedelta(hours=3, minutes=2), "3h2m"),
        (timedelta(seconds=-1), "0s"),
    ],
)
def test_durations_are_rounded_to_what_a_person_reads(duration: timedelta, want: str) -> None:
    seen = make_observed_run(live={"work": make_live(started_at=NOW - duration)}, reports={"work": make_report()})
    status = status_of(plan_run(seen, NOW))
    assert status.duration == want
    assert status.duration_milliseconds == max(duration / timedelta(milliseconds=1), 0)


def test_a_plan_has_a_status_or_wants_attempts_never_both() -> None:
    graph = make_graph(make_step("a"), make_step("b"))
    seen = make_observed_run(graph=graph, reports={"a": make_report()}, live={"b": make_live()})
    plan = plan_run(seen, NOW)
    assert plan.status is not None
    assert plan.wanted == ()
    assert plan.tell_to_stop == ()


def test_a_run_says_once_that_its_pod_is_being_deleted() -> None:
    live = {"work": make_live(started_at=ago(5), ending="pod etl is being deleted")}
    told = plan_run(make_observed_run(live=live), NOW).status
    assert told is not None
    assert (told.phase, told.reason, told.message) == (Phase.RUNNING, Reason.POD_ENDING, "pod etl is being deleted")
    seen = make_observed_run(phase=told.phase, steps=told.steps, live=live, status=told.model_dump(exclude={"steps"}))
    assert plan_run(seen, NOW).status is None
    ended = make_observed_run(
        phase=told.phase,
        steps=told.steps,
        live=live,
        reports={"work": make_report(Outcome.LOST, error="its pod was deleted")},
        status=told.model_dump(exclude={"steps"}),
    )
    after = plan_run(ended, NOW).status
    assert after is not None
    assert (after.reason, after.message) == (None, None)
