"""A change of a run between two states of its object, as a value; the rooms that have to know react to it.

watch, our own writes, lists ─► observer ─► store ─► RunChange ─► reactions, in the order of the wiring's list
"""

from collections.abc import Callable
from dataclasses import dataclass

from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.resources.run import WorkflowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChange:
    """One change of one run.

    Attributes:
        record: The run as it is now.
        run: Its object; None: it was deleted. While runs are read at a start, records forget those of finished ones.
        came: It was not known before: it was created, or read at a start.
        ended: It is final, and was not (or was not known).
        cancelled: Its cancellation is requested, and was not (or it was not known).
        counted: Its parent has a different number of children, or of finished ones.
        gone: Its object was deleted.
        before: Its object before this change, if that is in memory.
        was: Its UID before this change, if it was another: a light run has a provisional one until its object is made.
    """

    record: RunRecord
    run: WorkflowRun | None = None
    came: bool = False
    ended: bool = False
    cancelled: bool = False
    counted: bool = False
    gone: bool = False
    was: str | None = None
    before: WorkflowRun | None = None


Reaction = Callable[[RunChange], None]


class RunFeed:
    """Passes every change to each reaction, one after the other."""

    def __init__(self) -> None:
        self._reactions: tuple[Reaction, ...] | None = None

    def react_with(self, *reactions: Reaction) -> None:
        """Set the reactions, and their order: once, before the first change."""
        assert self._reactions is None, "one list, readable in one place"
        self._reactions = reactions

    def publish(self, change: RunChange) -> None:
        assert self._reactions is not None, "nobody listens yet"
        for react in self._reactions:
            react(change)
