"""Which of the workers that could take an attempt gets it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hatchet_operator.decisions.scheduling import choose_worker


@dataclass(frozen=True)
class Somebody:
    name: str
    free_slots: int
    revisions: frozenset[str]


def make_worker(name: str, free_slots: int, *revisions: str) -> Somebody:
    return Somebody(name, free_slots, frozenset(revisions))


@pytest.mark.parametrize(
    ("workers", "want"),
    [
        pytest.param([make_worker("a", 1, "etl-1"), make_worker("b", 3, "etl-1")], "b", id="the emptiest"),
        pytest.param([make_worker("a", 1, "etl-1"), make_worker("b", 3, "etl-2")], "a", id="the same code comes first"),
        pytest.param([make_worker("a", 1), make_worker("b", 3, "etl-2")], "b", id="other code is better than waiting"),
    ],
)
def test_who_gets_it(workers: list[Somebody], want: str) -> None:
    assert choose_worker(workers, revision="etl-1").name == want
