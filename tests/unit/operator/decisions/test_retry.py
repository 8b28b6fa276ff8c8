"""When a step is tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hatchet_operator.decisions.retry import backoff, has_retries_left
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


@pytest.mark.parametrize(("retries", "attempt", "want"), [(0, 0, False), (1, 0, True), (1, 1, False), (3, 2, True)])
def test_retries_come_after_the_first_attempt(retries: int, attempt: int, want: bool) -> None:
    assert has_retries_left(make_step(retries=retries), attempt) is want
