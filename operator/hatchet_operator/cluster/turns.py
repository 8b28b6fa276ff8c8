"""Long work in short turns, so that heartbeats, results and renewals of the Lease wait for none of it."""

import asyncio
import time

_TURN_SECONDS = 0.005


class Turns:
    """What one piece of long work has taken of the event loop since others had it."""

    def __init__(self) -> None:
        self._over_at = time.perf_counter() + _TURN_SECONDS

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self._over_at

    async def give_way(self) -> None:
        """Let others go on, if it is their turn; to be called after each small step."""
        if self.is_over:
            await asyncio.sleep(0)
            self._over_at = time.perf_counter() + _TURN_SECONDS
