"""What is kept in memory, as anybody can see it: without a look into the objects that keep it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def alive(kind: type) -> int:
    """Count the objects of a class that somebody still refers to."""
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


@contextmanager
def kept_bytes() -> Iterator[Callable[[], int]]:
    """Tell how much of what was allocated within the block is still there; it takes several times as long."""

    def kept() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield kept
    finally:
        tracemalloc.stop()
