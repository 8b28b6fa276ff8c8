"""Signals: what rooms tell rooms above them."""

import pytest

from hatchet_operator.engine.signals import Signal


def test_all_that_are_connected_hear_it_in_the_order_of_the_wiring() -> None:
    heard: list[tuple[str, str]] = []
    changed: Signal[[str]] = Signal("something changed")
    changed.connect(lambda what: heard.append(("first", what)), lambda what: heard.append(("second", what)))
    changed("pool")
    assert heard == [("first", "pool"), ("second", "pool")]


def test_a_forgotten_connection_is_an_error_and_not_silence() -> None:
    changed: Signal[[str]] = Signal("a pool's demand changed")
    with pytest.raises(AssertionError, match="a pool's demand changed is connected to nobody"):
        changed("pool")


def test_what_hears_it_is_said_in_one_place() -> None:
    changed: Signal[[]] = Signal("something changed")
    changed.connect(lambda: None)
    with pytest.raises(AssertionError, match="connected in two places"):
        changed.connect(lambda: None)
