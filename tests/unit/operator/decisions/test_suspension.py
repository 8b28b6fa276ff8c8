"""Suspended runs: what they wait for, what they say, and when timeouts count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.observed import ObservedRun
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus
from tests.unit.operator.decisions.builders import (
    NOW,
    later,
    make_graph,
    make_live,
    make_observed_run,
    make_report,
    make_run,
    make_step,
    names,
    succeeded,
)

TWO = make_graph(make_step("a"), make_step("b", parents=("a",)))


def after(seen: ObservedRun, status: RunStatus, **spec: Any) -> ObservedRun:
    """Return what is seen once a status was written, with other fields of the spec."""
    return ObservedRun(run=make_run(status=status, **spec), graph=seen.graph, policy=seen.policy)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="a new run"),
        pytest.param({"start_at": later(60)}, id="a run whose time has not come"),
        pytest.param({"without_workflow": True}, id="a run whose workflow is not there"),
        pytest.param({"without_workflow": True, "age": timedelta(days=3)}, id="however long that takes"),
    ],
)
def test_a_run_that_is_suspended_from_the_start_waits_for_nothing_else_and_says_so_once(spec: dict[str, Any]) -> None:
    seen = make_observed_run(suspended_run=True, **spec)
    plan = plan_run(seen, NOW)
    assert plan.status is not None
    assert (plan.status.phase, plan.status.reason, plan.wanted) == (Phase.PENDING, Reason.SUSPENDED, ())
    assert {c.type: (c.status, c.reason) for c in plan.status.conditions} == {
        "Ready": ("False", "Suspended"),
        "Suspended": ("True", "Suspended"),
    }
    again = plan_run(after(seen, plan.status, suspended=True), later(3600))
    assert (again.status, again.wanted, again.recheck_at) == (None, (), None)


def test_a_bad_input_is_told_before_a_run_is_let_go() -> None:
    plan = plan_run(make_observed_run(suspended_run=True, input_json="[]"), NOW)
    assert plan.status is not None
    assert plan.status.reason == Reason.INVALID_INPUT


def test_a_suspended_run_can_be_cancelled() -> None:
    plan = plan_run(make_observed_run(suspended_run=True, cancelled=True), NOW)
    assert plan.status is not None
    assert plan.status.phase is Phase.CANCELLED


def test_a_running_step_goes_on_and_no_other_begins() -> None:
    seen = make_observed_run(suspended_run=True, graph=TWO, live={"a": make_live()})
    plan = plan_run(seen, NOW)
    assert plan.status is not None
    assert plan.status.reason == Reason.SUSPENDED
    told = make_observed_run(
        suspended_run=True,
        graph=TWO,
        live={"a": make_live()},
        status={name: getattr(plan.status, name) for name in ("reason", "message", "definition", "conditions", "steps")}
        | {"observed_generation": 1},
    )
    assert names(plan_run(told, NOW).wanted) == ["a"]
    ended = make_observed_run(suspended_run=True, graph=TWO, steps={"a": succeeded()})
    assert plan_run(ended, NOW).wanted == ()


def test_a_run_whose_last_step_ends_while_it_is_suspended_ends() -> None:
    seen = make_observed_run(suspended_run=True, live={"work": make_live()}, reports={"work": make_report()})
    plan = plan_run(seen, NOW)
    assert plan.status is not None
    assert plan.status.phase is Phase.SUCCEEDED


def test_a_resumed_run_says_so_and_goes_on() -> None:
    seen = make_observed_run(suspended_run=True)
    told = plan_run(seen, NOW).status
    assert told is not None
    resumed = plan_run(after(seen, told), later(3600)).status
    assert resumed is not None
    assert (resumed.phase, resumed.reason, resumed.message) == (Phase.PENDING, None, None)
    assert {c.type: (c.status, c.reason) for c in resumed.conditions} == {
        "Ready": ("False", "Pending"),
        "Suspended": ("False", "Resumed"),
    }
    assert names(plan_run(after(seen, resumed), later(3601)).wanted) == ["work"]


def test_a_resumed_run_waits_for_its_workflow_from_then_on() -> None:
    seen = make_observed_run(suspended_run=True, without_workflow=True)
    told = plan_run(seen, NOW).status
    assert told is not None
    resumed = plan_run(after(seen, told), later(3600)).status
    assert resumed is not None
    missing = plan_run(after(seen, resumed), later(3601)).status
    assert missing is not None
    assert missing.reason == Reason.WORKFLOW_MISSING
    assert missing.phase is Phase.PENDING
    assert plan_run(after(seen, missing), later(3600 + 299)).status is None
    gone = plan_run(after(seen, missing), later(3600 + 300)).status
    assert gone is not None
    assert gone.phase is Phase.FAILED


def test_a_run_that_was_never_suspended_has_no_such_condition() -> None:
    seen = make_observed_run(live={"work": make_live()}, reports={"work": make_report()})
    status = plan_run(seen, NOW).status
    assert status is not None
    assert "Suspended" not in {condition.type for condition in status.conditions}
