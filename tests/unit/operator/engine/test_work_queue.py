"""Keys are looked at once, one at a time, and again when asked to; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.pace import TURN_SECONDS
from tests.kube.memory import kept_bytes
from tests.kube.virtual_time import VirtualTimeLoop


class Looks:
    """What a queue did, and when."""

    def __init__(
        self,
        *,
        takes: float = 0.0,
        gather: float = 0.0,
        poisoned: str | None = None,
        at_a_time: int | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self.takes = takes
        self.poisoned = poisoned
        self.seen: list[tuple[str, float]] = []
        self.failed: list[tuple[str, str]] = []
        self.under_way: set[str] = set()
        self.react: Callable[[str], None] = lambda key: None
        self.queue: WorkQueue[str] = WorkQueue(
            self.look, failed=self.fail, gather_seconds=gather, at_a_time=at_a_time, turn_seconds=turn_seconds
        )

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.seen]

    def look(self, key: str) -> Coroutine[Any, Any, None] | None:
        self.seen.append((key, asyncio.get_running_loop().time()))
        self.react(key)
        if key == self.poisoned:
            raise ValueError(f"{key} is poisoned")
        return self.work(key) if self.takes else None

    async def work(self, key: str) -> None:
        assert key not in self.under_way, "one at a time per key"
        self.under_way.add(key)
        await asyncio.sleep(self.takes)
        self.under_way.remove(key)

    def fail(self, key: str, error: Exception) -> None:
        self.failed.append((key, str(error)))


def play(looks: Looks, acts: Callable[[WorkQueue[str]], Coroutine[Any, Any, None]]) -> Looks:
    async def main() -> None:
        await acts(looks.queue)
        await asyncio.sleep(1000)
        await looks.queue.stop()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    return looks


def test_a_key_that_is_added_twice_is_looked_at_once() -> None:
    async def acts(queue: WorkQueue[str]) -> None:
        for key in ("a", "b", "a"):
            queue.add(key)

    assert play(Looks(), acts).seen == [("a", 0.0), ("b", 0.0)]


def test_nobody_is_called_from_within_their_own_call() -> None:
    looks, depth = Looks(), list[int]()

    def react(key: str) -> None:
        depth.append(len(depth))
        if len(looks.seen) < 3:
            looks.queue.add(key)
        depth.pop()
        assert not depth

    looks.react = react

    async def acts(queue: WorkQueue[str]) -> None:
        queue.add("a")
        assert not looks.seen, "not yet"

    assert play(looks, acts).keys == ["a", "a", "a"]


def test_single_keys_overtake_a_crowd_which_is_taken_as_it_is_needed() -> None:
    looks, taken = Looks(), []

    def crowd() -> Any:
        for number in range(3):
            taken.append(number)
            yield f"crowd-{number}"

    looks.react = lambda key: looks.queue.add("urgent") if key == "crowd-0" else None

    async def acts(queue: WorkQueue[str]) -> None:
        queue.add_all(crowd())
        assert not taken

    assert play(looks, acts).keys == ["crowd-0", "urgent", "crowd-1", "crowd-2"]


def test_what_is_due_at_one_moment_leaves_the_loop_to_others_in_between() -> None:
    looks = Looks(turn_seconds=0.0)

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            touched.append(self)
            return super().__hash__()

    touched: list[str] = []

    async def acts(queue: WorkQueue[str]) -> None:
        for number in range(100):
            queue.add_after(Key(f"key-{number}"), 5)
        most, pause = 0, 5
        while len(looks.seen) < 100:
            touched.clear()
            await asyncio.sleep(pause)
            most, pause = max(most, len({str(key) for key in touched})), 0
        assert 0 < most <= 3, "they are not all taken out of the line in one turn"

    assert len(play(looks, acts).seen) == 100


def test_a_crowd_leaves_the_loop_to_others_in_between() -> None:
    looks = Looks(turn_seconds=0.0)

    async def acts(queue: WorkQueue[str]) -> None:
        queue.add_all(["a", "b", "c"])
        for looked_at in range(1, 4):
            await asyncio.sleep(0)
            assert len(looks.seen) == looked_at

    play(looks, acts)


def test_the_earliest_of_several_times_counts() -> None:
    async def acts(queue: WorkQueue[str]) -> None:
        queue.add_after("a", 30)
        queue.add_after("b", 20)
        queue.add_after("a", 10)
        queue.add_after("a", 40)

    assert play(Looks(), acts).seen == [("a", 10.0), ("b", 20.0)]


@pytest.mark.parametrize("poisoned", [pytest.param(None, id="all go well"), pytest.param("b", id="one does not")])
def test_no_more_keys_are_busy_than_may_be(poisoned: str | None) -> None:
    looks = Looks(takes=10, at_a_time=2, poisoned=poisoned)

    async def acts(queue: WorkQueue[str]) -> None:
        for key in ("a", "b", "c"):
            queue.add(key)
        queue.add_all(["d", "e"])
        await asyncio.sleep(5)
        assert queue.is_busy("a")
        queue.add("a")  # it comes again, in its turn
        for _ in range(20):
            assert len(looks.under_way) <= 2
            await asyncio.sleep(5)
        assert not queue.is_busy("a")

    assert sorted(play(looks, acts).keys) == ["a", "a", "b", "c", "d", "e"]


def test_what_is_forgotten_is_looked_at_no_more() -> None:
    async def acts(queue: WorkQueue[str]) -> None:
        queue.add("a")
        queue.add_after("b", 10)
        queue.add_after("c", 10)
        queue.forget("a")
        queue.forget("b")

    assert play(Looks(), acts).keys == ["c"]


def test_times_that_are_superseded_take_no_memory() -> None:
    looks = Looks()

    async def acts(queue: WorkQueue[str]) -> None:
        with kept_bytes() as kept:
            for seconds in range(10_000, 100, -1):
                queue.add_after("a", seconds)
            await asyncio.sleep(0)  # the loop drops timers that were cancelled
            assert kept() < 500_000, "a million, if all are kept"

    play(looks, acts)


def test_what_is_added_while_its_key_is_busy_is_looked_at_once_more_afterwards() -> None:
    async def acts(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await asyncio.sleep(1)
        for _ in range(3):
            queue.add("a")
            queue.add("b")
            await asyncio.sleep(0)

    looks = Looks(takes=5)
    assert play(looks, acts).seen == [("a", 0.0), ("b", 1.0), ("a", 5.0), ("b", 6.0)]


def test_many_changes_within_a_moment_lead_to_one_look() -> None:
    async def acts(queue: WorkQueue[str]) -> None:
        for _ in range(10):
            queue.add("a")
            await asyncio.sleep(0.01)

    assert play(Looks(gather=0.5), acts).seen == [("a", 0.5)]


@pytest.mark.parametrize("takes", [0.0, 1.0])
def test_a_poisoned_key_is_told_of_and_stops_nobody(takes: float) -> None:
    looks = Looks(poisoned="a")

    async def work(key: str) -> None:
        await asyncio.sleep(takes)
        raise ValueError(f"{key} is poisoned")

    if takes:
        looks.poisoned = None
        looks.work = work  # type: ignore[method-assign]  # all of them are
        looks.takes = takes

    async def acts(queue: WorkQueue[str]) -> None:
        queue.add("a")
        queue.add("b")

    assert play(looks, acts).keys == ["a", "b"]
    assert looks.failed[0] == ("a", "a is poisoned")


def test_after_the_stop_nothing_goes_on_and_nothing_begins() -> None:
    looks = Looks(takes=100)

    async def acts(queue: WorkQueue[str]) -> None:
        queue.add("busy")
        await asyncio.sleep(1)
        queue.add("soon")
        queue.add_all(["rest"])
        queue.add_after("later", 1)
        await queue.stop()
        queue.add("late")
        queue.add_after("late", 1)
        queue.add_all(["late"])

    assert play(looks, acts).keys == ["busy"]
    assert looks.under_way == {"busy"}, "it was cut off, not finished"
