"""Wait for a state of the cluster that only time can bring."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], *, within_seconds: float = 120.0) -> T:
    """Return the first true answer of ``look``; an assertion in it that fails is tried again until time is up."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            if answer := look():
                return answer
            said = f"still {answer!r}"
        except AssertionError as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds:.0f} s: {said}")
        time.sleep(0.2)
