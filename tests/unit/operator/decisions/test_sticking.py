"""Which worker a sticky run goes to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.sticking import Binding, Taken, binding, sticks_to
from hatchet_operator.resources.reasons import Stickiness
from hatchet_operator.resources.worker_labels import StickyWorker
from tests.unit.operator.decisions.builders import NOW, later

A, B, C = (StickyWorker(id=name) for name in "abc")


@pytest.mark.parametrize(
    ("sticky", "written", "asked", "taken", "want"),
    [
        pytest.param(Stickiness.NONE, A, B, [Taken(C, NOW)], None, id="one that is not sticky goes anywhere"),
        pytest.param(Stickiness.SOFT, None, None, [], None, id="the first step goes anywhere"),
        pytest.param(Stickiness.SOFT, None, A, [], A, id="unless it was asked for somewhere"),
        pytest.param(Stickiness.SOFT, A, B, [], A, id="where it went counts more than where it was to go"),
        pytest.param(Stickiness.SOFT, A, None, [Taken(B, NOW)], B, id="soft: where it went last"),
        pytest.param(Stickiness.SOFT, None, None, [Taken(A, later(1)), Taken(B, NOW)], A, id="soft: the later of two"),
        pytest.param(Stickiness.HARD, None, A, [], A, id="hard: where it was asked for"),
        pytest.param(Stickiness.HARD, None, None, [Taken(A, later(1)), Taken(B, NOW)], B, id="hard: the first of two"),
        pytest.param(Stickiness.HARD, A, B, [Taken(C, NOW)], A, id="hard: what is written stays"),
    ],
)
def test_where_it_sticks(
    sticky: Stickiness,
    written: StickyWorker | None,
    asked: StickyWorker | None,
    taken: list[Taken],
    want: StickyWorker | None,
) -> None:
    assert sticks_to(sticky, written=written, asked=asked, taken=taken) == want


@pytest.mark.parametrize(
    ("sticky", "worker", "want"),
    [
        pytest.param(Stickiness.NONE, A, Binding(), id="not sticky"),
        pytest.param(Stickiness.HARD, None, Binding(), id="nothing to stick to yet"),
        pytest.param(Stickiness.SOFT, A, Binding(preferred="a"), id="soft: a wish"),
        pytest.param(Stickiness.HARD, A, Binding(only=A), id="hard: no other"),
    ],
)
def test_what_that_means(sticky: Stickiness, worker: StickyWorker | None, want: Binding) -> None:
    assert binding(sticky, worker) == want


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=20),
    asked=st.sampled_from([None, A, B]),
)
def test_a_hard_run_never_sees_a_second_worker(steps: list[tuple[str, bool]], asked: StickyWorker | None) -> None:
    """Steps go out one after the other; some are written down at once, some later, and an operator may begin anew."""
    written: StickyWorker | None = None
    taken: list[Taken] = []
    seen: set[str] = set()
    for number, (wherever, is_written) in enumerate(steps):
        bound = binding(Stickiness.HARD, sticks_to(Stickiness.HARD, written=written, asked=asked, taken=taken))
        worker = bound.only or StickyWorker(id=wherever)
        seen.add(worker.id)
        taken.append(Taken(worker, NOW + timedelta(seconds=number)))
        if is_written:
            written = sticks_to(Stickiness.HARD, written=written, asked=asked, taken=taken)
            taken.clear()
    assert len(seen) == 1
    assert asked is None or seen == {asked.id}
