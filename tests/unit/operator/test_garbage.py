"""When Python looks for garbage."""

import asyncio
import gc
import itertools
import weakref
from collections.abc import Iterator

import pytest

from hatchet_operator import garbage


@pytest.mark.parametrize(
    ("piled_up", "busy", "want"),
    [
        pytest.param(0, 0.0, False, id="with nothing piled up, a process at rest stays at rest"),
        pytest.param(1, 0.0, True, id="a process at rest looks at what there is"),
        pytest.param(74, 0.9, False, id="a busy process goes on"),
    ],
)
def test_when_older_objects_are_looked_at(piled_up: int, busy: float, want: bool) -> None:
    assert garbage.is_due(piled_up=piled_up, busy=busy) is want


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


async def test_a_busy_process_looks_at_50_000_older_ones_at_most(generations: list[int]) -> None:
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
