"""Priorities: the highest first, and none of them waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.turns import BOUND, after_turn, whose_turn


@pytest.mark.parametrize(
    ("waiting", "passed_over", "want"),
    [
        pytest.param({1}, {}, 1, id="the only one"),
        pytest.param({1, 2, 3}, {}, 3, id="the highest first"),
        pytest.param({1, 3}, {1: 7}, 3, id="one that can wait a little longer"),
        pytest.param({1, 3}, {1: 8}, 1, id="one that was passed over too often"),
        pytest.param({1, 2, 3}, {1: 9, 2: 8}, 1, id="of two such the one that was passed over more often"),
        pytest.param({1, 2, 3}, {1: 8, 2: 8}, 2, id="of two alike the higher"),
        pytest.param({2, 3}, {1: 99}, 3, id="what does not wait has no turn"),
    ],
)
def test_whose_turn_it_is(waiting: set[int], passed_over: dict[int, int], want: int) -> None:
    assert whose_turn(waiting, passed_over) == want


def test_a_turn_is_counted_for_those_that_waited() -> None:
    assert after_turn({1, 3}, {1: 4, 2: 5, 3: 1}, turn=3) == {1: 5, 2: 5, 3: 0}


@given(waiting=st.lists(st.sets(st.integers(1, 3), min_size=1), max_size=200))
def test_of_every_ten_slots_that_it_waits_for_a_priority_gets_one(waiting: list[set[int]]) -> None:
    passed_over: dict[int, int] = {}
    since = dict.fromkeys((1, 2, 3), 0)  # its last turn, in slots that it waited for
    for there in waiting:
        turn = whose_turn(there, passed_over)
        assert turn in there
        passed_over = after_turn(there, passed_over, turn=turn)
        since = {priority: count + (priority in there) for priority, count in since.items()} | {turn: 0}
        assert max(since.values()) < BOUND


@given(rounds=st.integers(1, 50))
def test_the_highest_has_most_of_them(rounds: int) -> None:
    passed_over: dict[int, int] = {}
    turns = []
    for _ in range(BOUND * rounds):
        turn = whose_turn({1, 2, 3}, passed_over)
        passed_over = after_turn({1, 2, 3}, passed_over, turn=turn)
        turns.append(turn)
    assert turns.count(3) >= (BOUND - 3) * rounds
