"""How programs declare whether the steps of a run go to one worker."""

from enum import IntEnum


class StickyStrategy(IntEnum):
    """Where the steps of a run go after its first one; numbers as in Hatchet's protocol."""

    SOFT = 0
    """To the same worker, if it has a free slot; otherwise to any."""
    HARD = 1
    """To the same worker and no other: they wait for it, until the schedule timeout if it is gone."""
