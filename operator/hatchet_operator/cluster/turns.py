"""Long work in short turns, so that heartbeats, results and renewals of the Lease do not wait for it."""

import asyncio
import time

from hatchet_operator.pace import TURN_SECONDS


class Turns:
    """How long a piece of work has occupied the event loop since others last had it.

    Args:
        seconds: How long a turn is.
    """

    def __init__(self, seconds: float = TURN_SECONDS) -> None:
        self._seconds = seconds
        self._over_at = time.perf_counter() + seconds

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self._over_at

    async def give_way(self) -> None:
        """Yield to others, if it is their turn; call this after each small step."""
        if self.is_over:
            await asyncio.sleep(0)
            self._over_at = time.perf_counter() + self._seconds
