"""Who is tried first when a quota has room again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.waiting_line import Place, WaitingLines
from tests.unit.operator.decisions.builders import later


def place(uid: str, seconds: float = 0, *, priority: int = 1, shape: str = "a", namespace: str = "default") -> Place:
    return Place(uid=uid, line=(namespace, shape), priority=priority, since=later(seconds), name=uid)


def lines(*places: Place) -> WaitingLines:
    made = WaitingLines()
    for each in places:
        made.join(each)
    return made


@pytest.mark.parametrize(
    ("places", "want"),
    [
        pytest.param([place("b", 2), place("a", 1)], ["a"], id="the one that came first"),
        pytest.param([place("b", 1), place("a", 1)], ["a"], id="of one second, the first by name"),
        pytest.param([place("a", 1), place("b", 2, priority=3)], ["b"], id="the more urgent one"),
        pytest.param([place("a", 2), place("b", 1, shape="b")], ["b", "a"], id="the first of each kind of pod"),
        pytest.param([place("a"), place("b", namespace="other")], ["a"], id="nobody of another namespace"),
        pytest.param([], [], id="nobody"),
    ],
)
def test_when_something_is_freed_it_is_the_turn_of(places: list[Place], want: list[str]) -> None:
    assert lines(*places).firsts("default") == want


@pytest.mark.parametrize(
    ("new", "want"),
    [
        pytest.param(place("c", 3), "a", id="behind others it waits"),
        pytest.param(place("c", 0), None, id="an older one is tried"),
        pytest.param(place("c", 3, priority=2), None, id="a more urgent one is tried"),
        pytest.param(place("c", 3, shape="b"), None, id="one with another pod is tried"),
        pytest.param(place("a", 1), None, id="the first one itself is tried"),
        pytest.param(place("b", 2), "a", id="one in the line waits"),
    ],
)
def test_who_is_tried_instead_of_one_that_comes(new: Place, want: str | None) -> None:
    assert lines(place("a", 1), place("b", 2)).first_before(new) == want


def test_the_next_is_told_when_the_first_leaves_and_nobody_when_another_does() -> None:
    waiting = lines(place("a", 1), place("b", 2), place("c", 3))
    assert waiting.leave("b") is None
    assert waiting.leave("a") == "c"
    assert waiting.leave("a") is None
    assert waiting.leave("c") is None
    assert waiting.firsts("default") == []


def test_a_run_whose_pod_is_another_now_stands_in_another_line() -> None:
    waiting = lines(place("a", 1), place("b", 2))
    waiting.join(place("a", 1, shape="b"))
    assert waiting.firsts("default") == ["a", "b"]
    assert list(waiting.behind("b")) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from("ab")), max_size=12), st.data())
def test_all_leave_in_their_order_whatever_happened_before(runs: list[tuple[int, int, str]], data: Any) -> None:
    places = [place(f"r{n}", s, priority=p, shape=shape) for n, (s, p, shape) in enumerate(runs)]
    waiting = lines(*places)
    gone = data.draw(st.sets(st.sampled_from(places))) if places else set()
    for each in gone:
        waiting.leave(each.uid)
    for shape in "ab":
        want = sorted((each for each in places if each not in gone and each.line[1] == shape), key=lambda p: p.order)
        for each in want:
            assert waiting.first_before(each) is None
            assert each.uid in waiting.firsts("default")
            waiting.leave(each.uid)
    assert waiting.firsts("default") == []
