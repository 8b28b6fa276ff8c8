"""Which worker the steps of a sticky run go to.

    Soft: the one that last took a step of it, if that has room; otherwise any
    Hard: the one that took its first step, and no other, whatever becomes of that one

A child may be requested for a particular worker before any of its steps ran: for its parent's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from hatchet_operator.resources.reasons import Stickiness
from hatchet_operator.resources.worker_labels import StickyWorker


class Taken(NamedTuple):
    """An assigned step of the run, which began at that worker."""

    worker: StickyWorker
    at: datetime


@dataclass(frozen=True, slots=True)
class Binding:
    """What that means for a step that is to be assigned.

    Attributes:
        only: No other worker may take it.
        preferred: The id of the worker that should take it.
    """

    only: StickyWorker | None = None
    preferred: str | None = None


UNBOUND = Binding()


def sticks_to(
    sticky: Stickiness, *, written: StickyWorker | None, asked: StickyWorker | None, taken: Iterable[Taken]
) -> StickyWorker | None:
    """Return the worker that a run sticks to at this point.

    Args:
        sticky: How its workflow sticks.
        written: What its status says.
        asked: The worker that it was requested for.
        taken: Its assigned steps.
    """
    match sticky:
        case Stickiness.NONE:
            return None
        case Stickiness.SOFT:
            last = max(taken, key=lambda each: each.at, default=None)
            return last.worker if last is not None else written or asked
        case Stickiness.HARD:
            first = min(taken, key=lambda each: each.at, default=None)
            return written or (first.worker if first is not None else asked)


def binding(sticky: Stickiness, worker: StickyWorker | None) -> Binding:
    """Return what the worker that a run sticks to means for a step that is to be assigned."""
    if worker is None or sticky is Stickiness.NONE:
        return UNBOUND
    return Binding(only=worker) if sticky is Stickiness.HARD else Binding(preferred=worker.id)
