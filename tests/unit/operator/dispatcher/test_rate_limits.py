"""Rate limits between the wire and our types, of clients of each age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.graph import InvalidDefinitionError, check_definition
from hatchet_operator.dispatcher.v0.translation.rate_limits import rate_limit
from hatchet_operator.dispatcher.v0.translation.workflows import workflow_definition
from hatchet_operator.dispatcher.v1.translation import registration
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.rate_limit import StepRateLimit
from hatchet_sdk.contracts import admin_v1_pb2 as v1
from hatchet_sdk.contracts import workflows_pb2 as v0

FORTNIGHT: Any = 9  # a number that the contract has no name for


def registered(limit: v0.CreateStepRateLimit) -> StepRateLimit:
    step = v0.CreateWorkflowStepOpts(readable_id="work", action="etl:work", rate_limits=[limit])
    job = v0.CreateWorkflowJobOpts(name="etl", steps=[step])
    (found,) = workflow_definition(v0.CreateWorkflowVersionOpts(name="etl", jobs=[job])).steps[0].rate_limits or ()
    return found


@pytest.mark.parametrize(
    ("sent", "want"),
    [
        pytest.param({"key": "api", "units": 2}, StepRateLimit(key="api", units=2), id="0.36"),
        pytest.param(
            {"key": "input.user", "key_expr": "input.user", "units": 1, "limit_values_expr": "10", "duration": v0.HOUR},
            StepRateLimit(key_expression="input.user", units=1, limit_expression="10", window=timedelta(hours=1)),
            id="0.47, which sends an expression as the key too",
        ),
        pytest.param(
            {"key": "api", "units_expr": "input.n", "duration": v0.MINUTE},
            StepRateLimit(key="api", units_expression="input.n"),
            id="a duration of a limit that others set says nothing",
        ),
        pytest.param(
            {"key": "api", "units": 1, "limit_values_expr": "-1", "duration": v0.MINUTE},
            StepRateLimit(key="api", units=1),
            id="1.43, whose -1 is no limit",
        ),
        pytest.param({"key": "api"}, StepRateLimit(key="api"), id="units that are not said are one"),
    ],
)
def test_what_clients_send(sent: dict[str, Any], want: StepRateLimit) -> None:
    assert registered(v0.CreateStepRateLimit(**sent)) == want


def test_a_task_of_v1_says_the_same() -> None:
    limit = v0.CreateStepRateLimit(key="api", units=3)
    task = v1.CreateTaskOpts(readable_id="work", action="etl:work", rate_limits=[limit])
    definition = workflow_definition(registration(v1.CreateWorkflowVersionRequest(name="etl", tasks=[task])))
    assert definition.steps[0].rate_limits == (StepRateLimit(key="api", units=3),)


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        pytest.param({}, InvalidRequest, 'step "work" has a rate limit without a key', id="no key"),
        pytest.param({"key": "api", "units": -1}, InvalidRequest, '"api" needs -1 units', id="negative units"),
        pytest.param({"key": "x" * 257}, InvalidRequest, "at most 256 characters", id="a long key"),
        pytest.param(
            {"key": "api", "limit_values_expr": "1", "duration": FORTNIGHT}, Unsupported, "duration 9", id="a duration"
        ),
    ],
)
def test_what_makes_no_sense_names_the_step(sent: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        registered(v0.CreateStepRateLimit(**sent))


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (v0.CreateStepRateLimit(key_expr="input."), "is not CEL"),
        (v0.CreateStepRateLimit(key="api", units_expr="input.items.map(i, i)"), "loops with map"),
        (v0.CreateStepRateLimit(key="api", units_expr="headers.n"), "names headers, which is not there"),
    ],
)
def test_an_expression_that_is_none_is_refused_at_registration(limit: v0.CreateStepRateLimit, words: str) -> None:
    step = v0.CreateWorkflowStepOpts(readable_id="work", action="etl:work", rate_limits=[limit])
    job = v0.CreateWorkflowJobOpts(name="etl", steps=[step])
    definition = workflow_definition(v0.CreateWorkflowVersionOpts(name="etl", jobs=[job]))
    with pytest.raises(InvalidDefinitionError, match=f'step "work": rate limit 0: rate limit expression .*{words}'):
        check_definition(definition)


@pytest.mark.parametrize(
    ("duration", "want"),
    [(v0.SECOND, 1), (v0.MINUTE, 60), (v0.HOUR, 3600), (v0.DAY, 86400), (v0.WEEK, 604800), (v0.MONTH, 2592000)],
)
def test_a_limit_that_a_program_sets(duration: v0.RateLimitDuration.ValueType, want: int) -> None:
    request = v0.PutRateLimitRequest(key="api", limit=5, duration=duration)
    assert rate_limit(request) == ("api", 5, timedelta(seconds=want))


@pytest.mark.parametrize(("key", "limit", "words"), [("", 1, "expected 1 to 256"), ("api", -1, "can't be -1")])
def test_a_limit_that_makes_no_sense(key: str, limit: int, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        rate_limit(v0.PutRateLimitRequest(key=key, limit=limit))
