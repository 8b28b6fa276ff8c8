"""Fair shares of a pool's slots: among trees of runs, however much each has queued.

Start-time fair queueing: each attempt gets a tag when it is queued, the later of the pool's time and the end of its
tree's last tag, and the lowest tag goes first. The pool's time is the tag that was served last. So ten thousand
attempts of one tree are spread over the time to come, and a tree that comes later queues beside their next attempt, not
behind their last. This costs one addition per attempt, however much is queued.

    tree A, a fan-out:     0  1  2  3  4  5 …
    tree B, comes later:         2  3  4            when A's tag 2 is about to be served

Each priority has tags of its own, so slots are shared fairly within each priority.
"""

from dataclasses import dataclass, field

_SWEPT_FROM = 1_000


@dataclass(slots=True)
class _Clock:
    """The time of a pool at one priority, and how far each of its trees has advanced."""

    now: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)
    sweep_at: int = _SWEPT_FROM

    def sweep(self) -> None:
        """Forget trees that the time has overtaken: they begin again at the current time."""
        if len(self.ends) >= self.sweep_at:
            self.ends = {tree: end for tree, end in self.ends.items() if end > self.now}
            self.sweep_at = max(2 * len(self.ends), _SWEPT_FROM)


class FairShares:
    """The clocks of all pools."""

    def __init__(self) -> None:
        self._clocks: dict[tuple[str, str | None, int], _Clock] = {}

    def tag(self, pool: tuple[str, str | None], priority: int, tree: str) -> float:
        """Return when an attempt of a tree is due."""
        clock = self._clocks.setdefault((*pool, priority), _Clock())
        tag = max(clock.now, clock.ends.get(tree, 0.0))
        clock.ends[tree] = tag + 1.0
        clock.sweep()
        return tag

    def served(self, pool: tuple[str, str | None], priority: int, tag: float) -> None:
        """Advance the time to the tag of an attempt that was assigned."""
        if (clock := self._clocks.get((*pool, priority))) is not None:
            clock.now = max(clock.now, tag)

    def withdrawn(self, pool: tuple[str, str | None], priority: int, tree: str, tag: float) -> None:
        """Give back the share of an attempt that is no longer wanted, if it was its tree's last one."""
        clock = self._clocks.get((*pool, priority))
        if clock is not None and clock.ends.get(tree) == tag + 1.0:
            clock.ends[tree] = tag
