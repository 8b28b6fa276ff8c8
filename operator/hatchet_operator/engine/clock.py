"""The two clocks that the engine uses, as one value that each room is given.

`now` is the time of day: it is persisted and compared with what other machines wrote, and it may be adjusted.
`loop_time` is the event loop's: it is monotonic, timers fire by it, and it means nothing outside this process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _time_of_day() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Tells what time it is.

    Attributes:
        now: The time of day, in UTC.
    """

    now: Callable[[], datetime] = _time_of_day

    @staticmethod
    def loop_time() -> float:
        """Return the running event loop's time, in seconds."""
        return asyncio.get_running_loop().time()
