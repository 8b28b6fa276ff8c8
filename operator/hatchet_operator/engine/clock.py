"""The clocks that an operator uses, as one value that each part of it is given.

`now` is the time of day: it is persisted and compared with what other machines wrote, and it may be adjusted.
`boot_time` only goes up, also while this process or its machine is paused: with it is measured what may be believed for
some time only.
`loop_time` is the event loop's: it is monotonic, timers fire by it, and it means nothing outside this process.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from hatchet_operator.cluster.leases import monotonic


def _time_of_day() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Tells what time it is.

    Attributes:
        now: The time of day, in UTC.
        boot_time: Seconds that also pass while this process is paused.
    """

    now: Callable[[], datetime] = _time_of_day
    boot_time: Callable[[], float] = monotonic

    def timestamp(self) -> float:
        """Return the time of day in seconds since the epoch."""
        return self.now().timestamp()

    @staticmethod
    def loop_time() -> float:
        """Return the running event loop's time, in seconds."""
        return asyncio.get_running_loop().time()
