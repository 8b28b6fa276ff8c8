"""Long work in short turns, so that heartbeats, results and renewals of the Lease do not wait for it."""

import asyncio
import time

_TURN_SECONDS = 0.005


class Turns:
    """How long a piece of work has occupied the event loop since others last had it."""

    def __init__(self) -> None:
        self._over_at = time.perf_counter() + _TURN_SECONDS

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self._over_at

    async def give_way(self) -> None:
        """Yield to others, if it is their turn; call this after each small step."""
        if self.is_over:
            await asyncio.sleep(0)
            self._over_at = time.perf_counter() + _TURN_SECONDS
