"""What an attempt needs of limits, what is wrong with what a step says of them, and what its run and Workflow tell."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.expressions import UnusableKeyError
from hatchet_operator.decisions.observed import ObservedRun, Wait
from hatchet_operator.decisions.rate_limits import Limit, Window, why_it_waits
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.decisions.step_limits import Need, limits_problem, needs_of
from hatchet_operator.decisions.workflow_status import workflow_conditions
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.rate_limit import StepRateLimit
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.workflow import StepOverrides, Workflow, WorkflowSpec
from tests.unit.operator.decisions.builders import NOW, later, make_graph, make_observed_run, make_step

KEPT = Wait(queued_at=NOW, unserved_since=None, limited='rate limit "api" is used up')
HOPELESS = replace(KEPT, limited='there is no RateLimit "api"', impossible_since=NOW)


def needs(*limits: StepRateLimit, **input: Any) -> tuple[Need, ...]:  # the field
    step = make_step("work", parents=("count",)).model_copy(update={"rate_limits": limits})
    run = make_observed_run(
        input=input,
        additional_metadata={"plan": "large"},
        status={"steps": {"count": {"phase": "Succeeded", "output": '{"tokens": 7}'}}},
    ).run
    return needs_of(step, run)


@pytest.mark.parametrize(
    ("limits", "want"),
    [
        pytest.param((), (), id="no limits, no needs"),
        pytest.param((StepRateLimit(key="api"),), (Need(key="api", units=1),), id="one unit by default"),
        pytest.param((StepRateLimit(key="api", units=0),), (), id="of no units nothing is needed"),
        pytest.param(
            (StepRateLimit(key="api"), StepRateLimit(key="api", units=2)),
            (Need(key="api", units=3),),
            id="units of a key that is named twice add up",
        ),
        pytest.param(
            (StepRateLimit(key_expression="input.user", units_expression="input.n * 2"),),
            (Need(key="ada", units=4),),
            id="key and units of the input",
        ),
        pytest.param(
            (StepRateLimit(key="api", units_expression="parents.count.tokens"),),
            (Need(key="api", units=7),),
            id="units of what a parent returned",
        ),
        pytest.param(
            (StepRateLimit(key="api", limit_expression="additional_metadata.plan == 'large' ? 100 : 10"),),
            (Need(key="api", units=1, limit=Limit(units=100, seconds=60.0)),),
            id="a limit of metadata, in a minute by default",
        ),
        pytest.param(
            (StepRateLimit(key="api", limit_expression="5", window=timedelta(hours=1)),),
            (Need(key="api", units=1, limit=Limit(units=5, seconds=3600.0)),),
            id="a limit that is a number",
        ),
        pytest.param(
            (StepRateLimit(key="api", units_expression="input.half * 2.0"),),
            (Need(key="api", units=3),),
            id="3.0 is whole",
        ),
    ],
)
def test_what_an_attempt_needs(limits: tuple[StepRateLimit, ...], want: tuple[Need, ...]) -> None:
    assert needs(*limits, user="ada", n=2, half=1.5) == want


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        pytest.param(StepRateLimit(key="api", units_expression="input.half"), "yields 1.5 from", id="a fraction"),
        pytest.param(StepRateLimit(key="api", units_expression="-1"), "yields -1 from", id="less than nothing"),
        pytest.param(StepRateLimit(key="api", units_expression="true"), "yields True from", id="a truth value"),
        pytest.param(StepRateLimit(key="api", limit_expression="'ten'"), "yields 'ten' from", id="a text for a limit"),
        pytest.param(StepRateLimit(key_expression="[1]"), "yields a list from", id="a list for a key"),
        pytest.param(StepRateLimit(key_expression="input.nobody"), "can't be evaluated for this run", id="not there"),
        pytest.param(StepRateLimit(key_expression="input."), "is not CEL", id="no CEL"),
    ],
)
def test_what_is_of_no_use_says_why(limit: StepRateLimit, words: str) -> None:
    with pytest.raises(UnusableKeyError, match=words):
        needs(limit, half=1.5)


def test_a_limit_needs_one_key() -> None:
    for limit in (StepRateLimit(), StepRateLimit(key="a", key_expression="input.a")):
        assert "rate limit 1 needs one of key" in (limits_problem((StepRateLimit(key="api"), limit)) or "")
    assert limits_problem((StepRateLimit(key="api"),)) is None


def test_a_workflows_spec_with_a_bad_expression_is_not_valid() -> None:
    limits = (StepRateLimit(key_expression="input.items.map(i, i)"),)
    spec = WorkflowSpec(steps={"work": StepOverrides(rate_limits=limits)})
    conditions = workflow_conditions(Workflow(metadata=ObjectMeta(name="etl"), spec=spec), NOW)
    (valid,) = (each for each in conditions if each.type == "Valid")
    assert (valid.status, valid.reason) == ("False", Reason.INVALID_SPEC)
    assert "spec.steps.work.rateLimits: rate limit 0: rate limit expression" in valid.message


def waiting(wait: Wait, **status: Any) -> ObservedRun:
    return replace(make_observed_run(graph=make_graph(), status=status), waits={"work": wait})


def test_a_run_says_after_a_while_which_limit_keeps_it() -> None:
    young = plan_run(waiting(KEPT), later(1))
    assert young.status is None
    assert young.recheck_at == later(3)
    status = plan_run(waiting(KEPT), later(4)).status
    assert status is not None
    assert (status.phase, status.reason, status.message) == (Phase.PENDING, Reason.WAITING_FOR_RATE_LIMIT, KEPT.limited)


def test_it_is_told_anew_once_in_a_minute_and_at_once_when_nothing_helps_any_more() -> None:
    told = {"reason": Reason.WAITING_FOR_RATE_LIMIT, "message": "it was another window"}
    seen = replace(waiting(KEPT, **told), waiting_told_at=later(10))
    soon = plan_run(seen, later(20))
    assert (soon.status, soon.recheck_at) == (None, later(70))
    assert plan_run(seen, later(71)).status is not None
    hopeless = plan_run(replace(seen, waits={"work": HOPELESS}), later(20)).status
    assert hopeless is not None
    assert "it gives up at" in (hopeless.message or "")


def test_one_that_may_not_tell_writes_nothing() -> None:
    assert plan_run(waiting(replace(KEPT, may_tell=False)), later(60)).status is None


def test_what_no_window_brings_is_given_up_after_the_schedule_timeout() -> None:
    timeout = make_graph().schedule_timeout.total_seconds()
    before = plan_run(waiting(HOPELESS), later(timeout - 1)).status
    assert before is not None
    assert before.phase is Phase.PENDING
    status = plan_run(waiting(HOPELESS), later(timeout)).status
    assert status is not None
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.SCHEDULING_TIMED_OUT)
    assert 'SCHEDULING_TIMED_OUT: there is no RateLimit "api"' in (status.message or "")
    kept = plan_run(waiting(KEPT), later(10 * timeout)).status
    assert kept is not None
    assert kept.phase is Phase.PENDING, "units that come back are waited for"


@pytest.mark.parametrize(
    ("units", "limit", "window", "want"),
    [
        pytest.param(1, None, None, 'there is no RateLimit "api" in its namespace', id="nobody made it"),
        pytest.param(
            3,
            Limit(units=1, seconds=60),
            None,
            'it needs 3 units of rate limit "api", which has only 1 unit per 1m; raise the limit, or use fewer',
            id="more than the limit",
        ),
        pytest.param(
            1,
            Limit(units=5, seconds=60),
            Window(started_at=0.0, used=5),
            'rate limit "api" has 5 units per 1m, of which 5 are used, and it needs 1; they come back at 00:01:00 UTC',
            id="a full window",
        ),
        pytest.param(
            1,
            Limit(units=5, seconds=86400),
            Window(started_at=0.0, used=5),
            "they come back at 1970-01-02 00:00:00 UTC",
            id="a day's window says which day",
        ),
        pytest.param(
            1, Limit(units=5, seconds=60), None, "it goes on when the next of them are reserved", id="not reserved yet"
        ),
    ],
)
def test_why_it_waits(units: int, limit: Limit | None, window: Window | None, want: str) -> None:
    assert want in why_it_waits("api", units, limit, window, 30.0)
