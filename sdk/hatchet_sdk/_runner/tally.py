"""What a worker counts: attempts by action, how they ended, how long they took. Plain numbers, read by any thread."""

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, float("inf"))
"""Upper bounds of durations, in seconds."""


@dataclass(slots=True)
class Durations:
    """A histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Tally:
    """Counts since the worker's start, by action id.

    Attributes:
        started: Attempts that were begun.
        ended: Attempts that ended, by action and "completed", "failed", "cancelled" or "abandoned".
        durations: How long they took.
    """

    started: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: defaultdict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))

    def begin(self, action: str) -> None:
        self.started[action] += 1

    def end(self, action: str, how: str, seconds: float) -> None:
        self.ended[action, how] += 1
        self.durations[action].add(seconds)
