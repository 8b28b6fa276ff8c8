"""How long to wait before a retry: twice as long after each failure. All pauses of this kind.

Those that many may wait for at once are jittered, so that they don't all retry at once.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BackOff:
    """Pauses that double.

    Attributes:
        first: The pause after the first failure, in seconds.
        longest: The longest pause, in seconds.
    """

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Return how many seconds to wait after this many consecutive failures, at least one."""
        # 2**20 times the first is longer than any limit; a day of failures would be too large for a float
        return min(self.first * 2.0 ** min(failures - 1, 20), self.longest)

    def jittered_after(self, failures: int) -> float:
        """Return at most as many seconds as `after`, and at least half of them."""
        return self.after(failures) * random.uniform(0.5, 1)  # noqa: S311  # jitter


NO_ANSWER = BackOff(first=0.1, longest=5)
"""The API server did not answer, or asked for patience."""
NO_PAGE = BackOff(first=0.1, longest=1)
"""A page of a list did not come; the list expires some time after its first page."""
NO_WATCH = BackOff(first=0.1, longest=10)
"""A list or a watch broke."""
CONFLICT = BackOff(first=0.1, longest=5)
"""Somebody else wrote the object meanwhile, and keeps doing so."""
POOL_POD_REFUSED = BackOff(first=1.6, longest=30)
"""A right may be granted meanwhile, without our knowing; the same applies to the next one."""
RUN_POD_REFUSED = BackOff(first=3.2, longest=30)
POOL_POD_ENDED = BackOff(first=1, longest=300)
"""A pod of a pool ended soon after it began; counted with the pods before it that did so."""
RUN_POD_ENDED = BackOff(first=1, longest=60)
"""A pod of a run ended by itself."""

STORE_AWAY = BackOff(first=0.1, longest=5)
"""The payload store did not answer, and a client waits for it."""
NOT_REMOVED = BackOff(first=1, longest=60)
"""The store did not answer, and nobody waits for it."""

FORBIDDEN_SECONDS = 5.0
"""The pause between two tries of what a missing right forbids, until somebody restores it."""
