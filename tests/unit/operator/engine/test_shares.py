"""Trees of runs share a pool's slots, whatever each of them has queued."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.shares import FairShares
from hatchet_operator.engine.dispatch.worker import Worker
from tests.kube.memory import kept_bytes
from tests.unit.operator.engine.test_queue import Desk


class Shop:
    """One worker of one slot, whose attempts end one after the other."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.worker: Worker = self.desk.connect()
        self._names = 0

    def add(self, tree: str, count: int = 1, *, priority: int = 1, is_root: bool = False) -> list[Attempt]:
        names = [f"{tree}{self._names + number}" for number in range(count)]
        self._names += count
        return self.desk.add(*names, tree=tree, is_root=is_root, priority=priority)

    @property
    def waiting(self) -> list[Attempt]:
        return self.desk.queue.waiting_in("default", "main")

    def serve(self, count: int) -> str:
        """End what runs, so often; return the trees that were given a slot for it."""
        before = len(self.desk.given)
        for _ in range(count):
            for attempt in list(self.worker.assigned.values()):
                self.desk.ends(self.worker, attempt)
        return "".join(name[0] for name in self.desk.given[before:])


def play(acts: Callable[[], None]) -> None:
    async def main() -> None:
        acts()  # streams belong to a loop

    asyncio.run(main())


async def test_a_run_that_comes_after_a_fan_out_stands_beside_it() -> None:
    shop = Shop()
    shop.add("a", 1000)
    shop.serve(500)
    shop.add("b", 3)
    assert shop.serve(8).count("b") == 3
    assert set(shop.serve(10)) == {"a"}


async def test_within_a_tree_the_older_goes_first() -> None:
    shop = Shop()
    names = [attempt.id for attempt in shop.add("a", 5)]
    shop.serve(4)
    assert shop.desk.given == names


async def test_a_higher_priority_goes_before_all_of_a_lower_one() -> None:
    shop = Shop()
    shop.add("a", 5)
    shop.add("b", 3, priority=3)
    assert shop.serve(4) == "bbba"


async def test_a_tree_that_was_alone_for_long_owes_the_others_nothing() -> None:
    shop = Shop()
    shop.add("a", 100)
    shop.serve(100)
    shop.add("a", 4)
    shop.add("b", 4)
    shares = Counter(shop.serve(7))
    assert shares["a"] >= 3
    assert shares["b"] >= 3


async def test_what_was_withdrawn_is_not_charged() -> None:
    shop = Shop()
    shop.add("a")
    for attempt in reversed(shop.add("b", 1000)):
        shop.desk.queue.withdraw(attempt)
    shop.add("a", 4)
    shop.add("b", 4)
    assert shop.serve(5).count("b") >= 2


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("abcde"), st.integers(1, 30)),
            st.tuples(st.just("serve"), st.just(""), st.integers(1, 10)),
        ),
        max_size=25,
    )
)
def test_nobody_waits_for_more_than_one_of_each_other_tree(acts: list[tuple[str, str, int]]) -> None:
    def act() -> None:
        shop = Shop()
        for what, tree, count in acts:
            if what == "add":
                shop.add(tree, count)
            else:
                shop.serve(count)
        others = {attempt.tree for attempt in shop.waiting}
        if shop.waiting:
            shop.add("n")
            served = shop.serve(len(others) + 1)
            assert "n" in served, f"{served} before a newcomer, with {sorted(others)} waiting"

    play(act)


@given(counts=st.lists(st.integers(20, 200), min_size=2, max_size=6))
def test_trees_that_have_enough_to_do_get_the_same(counts: list[int]) -> None:
    def act() -> None:
        shop = Shop()
        for tree, count in zip("abcdef", counts, strict=False):
            shop.add(tree, count)
        shares = Counter(shop.serve(10 * len(counts)))
        assert max(shares.values()) - min(shares.values()) <= 1

    play(act)


def test_trees_that_the_time_has_overtaken_are_forgotten() -> None:
    shares, pool = FairShares(), ("default", "main")
    with kept_bytes() as kept:
        for number in range(10_000):
            shares.served(pool, 1, shares.tag(pool, 1, f"tree-{number}") + 1)
        assert kept() < 400_000, "more than a million, if all are kept"


@pytest.mark.parametrize("queued", [10, 10_000])
def test_a_tag_costs_the_same_however_much_is_queued(queued: int) -> None:
    shares, pool = FairShares(), ("default", "main")
    with kept_bytes() as kept:
        for _ in range(queued):
            shares.tag(pool, 1, "fan-out")
        assert kept() < 10_000
    assert shares.tag(pool, 1, "later") == 0.0
