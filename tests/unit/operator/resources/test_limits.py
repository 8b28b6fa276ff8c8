from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.resources.limits import MAX_ERROR_BYTES, cut_error
from hatchet_operator.resources.run import StepStatus

LONG = st.builds(
    lambda unit, count: unit * count, st.text(min_size=1, max_size=40), st.integers(0, MAX_ERROR_BYTES // 4)
)


@given(LONG)
def test_an_error_fits_whatever_it_is_made_of(text: str) -> None:
    cut = cut_error(text)
    assert len(cut.encode()) <= MAX_ERROR_BYTES
    assert StepStatus(error=cut).error == cut


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_short_error_stays_as_it_is(text: str) -> None:
    assert cut_error(text) == text


def test_a_lone_surrogate_is_replaced_since_no_json_can_hold_it() -> None:
    assert cut_error("a\ud800b") == "a?b"


def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    cut = cut_error("Traceback\n" + "é" * MAX_ERROR_BYTES + "\nValueError: why")
    assert cut.startswith("Traceback")
    assert cut.endswith("ValueError: why")
    assert "bytes cut" in cut


def test_cutting_twice_cuts_once() -> None:
    once = cut_error("x" * 10 * MAX_ERROR_BYTES)
    assert cut_error(once) == once
