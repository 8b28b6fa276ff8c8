"""The attempts that a worker has: from their assignment until their outcome is acknowledged."""

import asyncio
from collections.abc import Iterator

from hatchet_sdk._runner.execution import Attempt


class HeldAttempts:
    """Attempts by their ids."""

    def __init__(self) -> None:
        self._attempts: dict[str, Attempt] = {}
        self.changed = asyncio.Event()
        """Set whenever one is gone or no longer worth waiting for."""

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._attempts.values()))  # a copy, as other threads look at it too

    def get(self, attempt_id: str) -> Attempt | None:
        return self._attempts.get(attempt_id)

    def add(self, attempt: Attempt) -> None:
        self._attempts[attempt.id] = attempt

    def drop(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.id, None)
        self.changed.set()

    def unfinished(self) -> list[Attempt]:
        """Return what is worth waiting for; a cancelled step that does not end is not."""
        return [attempt for attempt in self if attempt.cancelled_at is None]

    def going_on(self) -> list[Attempt]:
        """Return what is being executed, without ended attempts whose report is not acknowledged."""
        return [attempt for attempt in self if not attempt.has_ended]
