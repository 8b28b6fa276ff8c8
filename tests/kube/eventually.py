"""Wait for a state of the world that only time can bring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_seconds: float = 90.0) -> None:
    """Return once ``holds`` returns true; fail when it does not in time."""
    async with asyncio.timeout(within_seconds):
        while not await holds():  # noqa: ASYNC110  # another process makes it true, no event of ours does
            await asyncio.sleep(0.05)
