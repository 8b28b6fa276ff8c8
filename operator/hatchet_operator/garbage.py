"""When Python looks for garbage: the policy of this process, all of it.

Almost nothing here is garbage in the collector's sense, which is objects that refer to each other in a circle; the rest
goes as soon as nobody refers to it. So most of what the collector does is to look at what lives, while the event loop
stands still.

    while_importing   nothing is looked at: a tenth of the time that our modules take would go into that
    freeze            what there is stays until the term ends, and is not looked at
    the youngest      looked at as always, when there are 700 objects more: what this finds is most of all there is; and
                      ten times a second, since those that take the place of old ones are new and not more
    the next older    looked at when the process is at rest, or at the latest when 30,000 have piled up
    the oldest        looked at when they have become a quarter more; or, if they are so many that the loop would stand
                      still for too long, never again, as what there was at the start

Of thousands of runs that wait, a look at the oldest took 0.4 s. What is not looked at again and is garbage later, in a
circle, is kept until the term ends: of what was frozen while a worker was connected, a few kilobytes a worker.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_BEFORE = gc.get_threshold()
_YOUNGEST = 700
"""Objects more until they are looked at. Python has this itself until 3.12, and 2,000 since."""
_NEVER = 1_000_000_000
_AT_REST = 0.25
"""Of a core: less than this since the last look counts as rest."""
_PILED_UP = 45
"""Collections of the youngest until the next older have theirs."""
_MOST = 30_000
"""And so many of the next older, however many each collection of the youngest left."""
_LOOKS = 10
"""At rest, after so many collections of the youngest, which is a second."""


@contextmanager
def while_importing() -> Iterator[None]:
    """Look at nothing meanwhile, nor later at what is there then."""
    gc.disable()
    try:
        yield
    finally:
        freeze()
        gc.enable()


def freeze() -> None:
    """Never look at what there is now: there is much of it, and none of it is garbage."""
    gc.freeze()


def end_of_term() -> None:
    """Look at everything: what the term knew is garbage now, and another term may read as much again."""
    gc.unfreeze()
    gc.collect()


async def collect_at_rest(
    cpu_seconds: Callable[[], float] = time.process_time, *, look_seconds: float = 0.1, many: int = 20_000
) -> None:
    """Choose when older objects are looked at, until cancelled.

    Args:
        cpu_seconds: Tells what this process has used so far.
        look_seconds: How long it is measured before each look.
        many: The oldest objects are looked at together only if there are no more of them; it takes 2 to 15 ms.
    """
    gc.set_threshold(_YOUNGEST, _PILED_UP, _NEVER)
    seen = 0
    try:
        while True:
            used = cpu_seconds()
            await asyncio.sleep(look_seconds)
            gc.collect(0)
            piled_up, older = gc.get_count()[1], len(gc.get_objects(generation=1))
            if is_due(piled_up=piled_up, older=older, busy=(cpu_seconds() - used) / look_seconds):
                gc.collect(1)
                await asyncio.sleep(0)
                seen = _look_at_the_oldest(seen, many)
    finally:
        gc.set_threshold(*_BEFORE)


def _look_at_the_oldest(seen: int, many: int) -> int:
    """Look at the oldest objects, or never again if they are many, once they are a quarter more than those seen last.

    Returns:
        How many there are now.
    """
    oldest = len(gc.get_objects(generation=2))
    if oldest > many:
        freeze()
        return 0
    if oldest <= seen * 5 // 4:
        return seen
    return oldest - gc.collect()


def is_due(*, piled_up: int, older: int, busy: float) -> bool:
    """Decide whether older objects are looked at now.

    Args:
        piled_up: How often the youngest were looked at since.
        older: How many objects that left.
        busy: Which part of a core this process has used since the last look.
    """
    return older > _MOST or (piled_up >= _LOOKS and busy < _AT_REST)
