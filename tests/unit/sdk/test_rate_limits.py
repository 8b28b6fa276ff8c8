"""Rate limits, from the decorator to the wire."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_sdk import Context, Hatchet, InvalidDefinition, RateLimit, RateLimitDuration
from hatchet_sdk._client.rate_limits import put_rate_limit_request
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk._runner.registration import put_workflow_request
from hatchet_sdk.contracts import workflows_pb2 as wire

hatchet = Hatchet()


def registered(limits: Any) -> list[wire.CreateStepRateLimit]:
    @hatchet.workflow(name="Etl")
    class Etl:
        @hatchet.step(rate_limits=limits)
        def work(self, context: Context) -> None: ...

    (step,) = put_workflow_request(definition_of(Etl()), prefix="").opts.jobs[0].steps
    return list(step.rate_limits)


@pytest.mark.parametrize(
    ("limit", "want"),
    [
        pytest.param(RateLimit("api"), wire.CreateStepRateLimit(key="api", units=1), id="one unit"),
        pytest.param(RateLimit("api", 3), wire.CreateStepRateLimit(key="api", units=3), id="as in the oldest SDK"),
        pytest.param(
            RateLimit(static_key="api", units="input.units"),
            wire.CreateStepRateLimit(key="api", units_expr="input.units"),
            id="units by an expression",
        ),
        pytest.param(
            RateLimit(dynamic_key="input.user", limit=10),
            wire.CreateStepRateLimit(
                key="input.user", key_expr="input.user", units=1, limit_values_expr="10", duration=wire.MINUTE
            ),
            id="a key by an expression, with a limit of its own",
        ),
        pytest.param(
            RateLimit(dynamic_key="input.user", limit="input.limit", duration=RateLimitDuration.HOUR),
            wire.CreateStepRateLimit(
                key="input.user", key_expr="input.user", units=1, limit_values_expr="input.limit", duration=wire.HOUR
            ),
            id="a limit by an expression",
        ),
    ],
)
def test_a_limit_travels_as_hatchets_does(limit: RateLimit, want: wire.CreateStepRateLimit) -> None:
    assert registered([limit]) == [want]


def test_without_limits_nothing_is_said() -> None:
    assert registered(None) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param("api", "expected a list of RateLimit", id="a text"),
        pytest.param(["api"], "expected a RateLimit", id="texts"),
        pytest.param([RateLimit()], "has 0 keys .expected one of key, static_key and dynamic_key", id="no key"),
        pytest.param([RateLimit("a", dynamic_key="b")], "has 2 keys", id="two keys"),
        pytest.param([RateLimit("")], "has the key '' .expected a text", id="an empty key"),
        pytest.param([RateLimit("x" * 257)], "has a key of 257 characters", id="a long key"),
        pytest.param([RateLimit("api", -1)], '"api" has units=-1 .expected a whole number from 0', id="negative units"),
        pytest.param([RateLimit("api", 1.5)], '"api" has units=1.5', id="a fraction"),  # type: ignore[arg-type]
        pytest.param([RateLimit("api", " ")], "has units=' '", id="an empty expression"),
        pytest.param([RateLimit("api", limit=2**31)], "has limit=2147483648", id="a limit that is too high"),
        pytest.param(
            [RateLimit("api", duration="FORTNIGHT")],  # type: ignore[arg-type]  # as somebody may write it
            "expected a RateLimitDuration",
            id="a duration that is none",
        ),
        pytest.param([RateLimit("api")] * 11, "has 11 entries .expected at most 10", id="too many"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidDefinition, match=f'workflow "Etl", step "work": .*{words}'):
        registered(wrong)


def test_setting_a_limit_says_what_is_wrong_before_it_asks() -> None:
    assert put_rate_limit_request("api", 5, RateLimitDuration.WEEK).duration == wire.WEEK
    for key, limit, duration, words in (
        ("", 5, RateLimitDuration.DAY, "got the key ''"),
        ("api", -5, RateLimitDuration.DAY, "limit=-5"),
        ("api", 5, "SOON", "duration='SOON'"),
    ):
        with pytest.raises(ValueError, match=words):
            put_rate_limit_request(key, limit, duration)  # type: ignore[arg-type]
