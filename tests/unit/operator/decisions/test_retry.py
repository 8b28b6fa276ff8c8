"""When a step is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.retry import asked_wait, backoff, has_retries_left
from tests.unit.operator.decisions.builders import make_step


@pytest.mark.parametrize(
    ("factor", "longest", "failed_attempt", "want"),
    [
        pytest.param(None, None, 0, 0, id="no backoff: at once"),
        pytest.param(None, 9, 3, 0, id="a longest wait alone is none"),
        pytest.param(2.0, None, 0, 2, id="the first retry waits factor^1"),
        pytest.param(2.0, None, 3, 16, id="the fourth factor^4"),
        pytest.param(1.0, None, 9, 1, id="a factor of one is a constant"),
        pytest.param(2.0, 10, 3, 10, id="capped"),
        pytest.param(2.0, 0, 3, 0, id="capped to nothing"),
        pytest.param(2.0, None, 30, 86_400, id="never longer than a day"),
        pytest.param(10.0, None, 2**31, 86_400, id="nor an overflow"),
    ],
)
def test_backoff(factor: float | None, longest: int | None, failed_attempt: int, want: int) -> None:
    step = make_step(backoff_factor=factor, backoff_max_seconds=longest)
    assert backoff(step, failed_attempt) == timedelta(seconds=want)


@pytest.mark.parametrize(
    ("failed_attempt", "want"),
    [(0, 1), (1, 60), (2, 300), pytest.param(9, 300, id="the last counts for all that come after")],
)
def test_a_list_says_each_wait(failed_attempt: int, want: int) -> None:
    step = make_step(backoff_delays=("1s", "1m", "5m"), backoff_factor=2.0)
    assert backoff(step, failed_attempt) == timedelta(seconds=want)


def test_a_list_is_capped_as_a_factor_is() -> None:
    assert backoff(make_step(backoff_delays=("2d",)), 0) == timedelta(days=1)
    assert backoff(make_step(backoff_delays=("1h",), backoff_max_seconds=9), 0) == timedelta(seconds=9)


@given(jitter=st.floats(0, 1), seed=st.text())
def test_chance_shortens_a_wait_by_its_share_at_most_and_is_the_same_for_a_seed(jitter: float, seed: str) -> None:
    step = make_step(backoff_factor=10.0, backoff_jitter=jitter)
    wait = backoff(step, 0, seed=seed)
    assert timedelta(seconds=10 * (1 - jitter)) - timedelta(milliseconds=1) <= wait <= timedelta(seconds=10)
    assert wait == backoff(step, 0, seed=seed)


def test_waits_of_many_runs_are_spread() -> None:
    step = make_step(backoff_factor=100.0, backoff_jitter=1.0)
    waits = sorted(backoff(step, 0, seed=str(number)).total_seconds() for number in range(1000))
    assert waits[0] < 5
    assert 40 < waits[500] < 60
    assert waits[-1] > 95


@pytest.mark.parametrize(
    ("milliseconds", "want"), [(1500, 1.5), (-5, 0), (2**62, 86_400), pytest.param(0, 0, id="at once")]
)
def test_what_an_error_may_ask_for(milliseconds: int, want: float) -> None:
    assert asked_wait(milliseconds) == timedelta(seconds=want)


@pytest.mark.parametrize(("retries", "attempt", "want"), [(0, 0, False), (1, 0, True), (1, 1, False), (3, 2, True)])
def test_retries_come_after_the_first_attempt(retries: int, attempt: int, want: bool) -> None:
    assert has_retries_left(make_step(retries=retries), attempt) is want
