"""When Python looks for garbage."""

import asyncio
import gc
import itertools
import weakref
from collections.abc import Iterator

import pytest

from hatchet_operator import garbage


@pytest.mark.parametrize(
    ("piled_up", "older", "busy", "want"),
    [
        pytest.param(9, 30_000, 0.0, False, id="a process at rest does not look at each moment"),
        pytest.param(10, 1, 0.0, True, id="a process at rest looks at what there is"),
        pytest.param(44, 30_000, 0.9, False, id="a busy process goes on"),
        pytest.param(1, 30_001, 0.9, True, id="unless a look would take long"),
    ],
)
def test_when_older_objects_are_looked_at(piled_up: int, older: int, busy: float, want: bool) -> None:
    assert garbage.is_due(piled_up=piled_up, older=older, busy=busy) is want


class _Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def generations() -> Iterator[list[int]]:
    """The generations that were collected, as it happens."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_nothing_is_looked_at_while_importing_nor_what_came_by_it_later(generations: list[int]) -> None:
    with garbage.while_importing():
        kept = [_Knot() for _ in range(20_000)]
        assert not generations
    assert gc.get_freeze_count() >= len(kept)
    assert gc.isenabled()
    gc.unfreeze()


async def test_a_busy_process_looks_only_at_the_youngest(generations: list[int]) -> None:
    before = gc.get_threshold()
    gc.collect()
    generations.clear()
    collecting = asyncio.create_task(
        garbage.collect_at_rest(cpu_seconds=itertools.count().__next__, look_seconds=0.001)
    )
    await asyncio.sleep(0)
    kept = [_Knot() for _ in range(20_000)]
    assert generations
    assert set(generations) == {0}
    assert kept
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    assert gc.get_threshold() == before, "what others in this process rely on"


async def test_a_busy_process_looks_at_30_000_older_ones_at_most(generations: list[int]) -> None:
    collecting = asyncio.create_task(garbage.collect_at_rest(cpu_seconds=itertools.count().__next__))
    await asyncio.sleep(0)
    gc.collect()
    generations.clear()
    kept = [_Knot() for _ in range(120_000)]
    assert kept
    assert generations.count(1) >= 2
    assert 2 not in generations
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


async def test_what_takes_the_place_of_old_objects_is_looked_at_before_it_is_much() -> None:
    old: list[list[object]] = [[] for _ in range(50_000)]
    gc.collect()
    youngest: list[int] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            youngest.append(len(gc.get_objects(generation=0)))

    collecting = asyncio.create_task(garbage.collect_at_rest(cpu_seconds=itertools.count().__next__, look_seconds=1e-9))
    await asyncio.sleep(0)
    gc.callbacks.append(note)
    for number in range(len(old)):
        old[number] = []  # one goes for each that comes
        if number % 1_000 == 0:
            await asyncio.sleep(0)
    gc.collect(0)
    gc.callbacks.remove(note)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    assert max(youngest) < 10_000


async def test_a_process_at_rest_finds_what_survived_its_youth() -> None:
    collecting = asyncio.create_task(garbage.collect_at_rest(cpu_seconds=lambda: 0.0, look_seconds=0.001))
    await asyncio.sleep(0)
    knot, found = _Knot(), asyncio.Event()
    weakref.finalize(knot, found.set)
    gc.collect(0)
    del knot
    async with asyncio.timeout(60):
        await found.wait()
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)


@pytest.mark.parametrize(
    ("many", "is_frozen"),
    [
        pytest.param(1_000, True, id="many are frozen instead"),
        pytest.param(1_000_000_000, False, id="few are looked at"),
    ],
)
async def test_when_the_oldest_are_looked_at(generations: list[int], many: int, is_frozen: bool) -> None:
    gc.freeze()
    collecting = asyncio.create_task(garbage.collect_at_rest(lambda: 0.0, look_seconds=0.001, many=many))
    await asyncio.sleep(0)
    generations.clear()
    frozen, kept = gc.get_freeze_count(), [_Knot() for _ in range(5_000)]
    for _ in range(1_000_000):  # of turns of the loop
        if 2 in generations or gc.get_freeze_count() >= frozen + len(kept):
            break
        await asyncio.sleep(0)
    assert (2 in generations, gc.get_freeze_count() >= frozen + len(kept)) == (not is_frozen, is_frozen)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)
    gc.unfreeze()
