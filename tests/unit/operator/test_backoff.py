"""How long what failed is waited for."""

from __future__ import annotations

import pytest

from hatchet_operator import backoff
from hatchet_operator.backoff import BackOff

ALL = {name: value for name, value in vars(backoff).items() if isinstance(value, BackOff)}


def test_a_pause_is_twice_as_long_after_each_failure_up_to_the_longest() -> None:
    pauses = BackOff(first=0.1, longest=1)
    assert [round(pauses.after(failures), 3) for failures in (1, 2, 3, 4, 5, 6)] == [0.1, 0.2, 0.4, 0.8, 1, 1]


@pytest.mark.parametrize("pauses", ALL.values(), ids=ALL)
def test_a_pause_is_within_its_bounds_after_any_number_of_failures(pauses: BackOff) -> None:
    for failures in (1, 2, 10, 100_000):
        assert pauses.first <= pauses.after(failures) <= pauses.longest
        assert pauses.after(failures) / 2 <= pauses.jittered_after(failures) <= pauses.after(failures)
    assert pauses.after(100_000) == pauses.longest
