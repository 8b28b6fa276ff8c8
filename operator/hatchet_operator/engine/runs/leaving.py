"""Attempts that are no longer wanted leave the queue at once, before others give slots back at that moment."""

from collections.abc import Callable, Iterable
from itertools import chain

from hatchet_operator.engine.dispatch.attempts import Attempts
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore


class Leaving:
    """Withdraws attempts of runs that ended, were cancelled, or are deleted with their tree.

    Args:
        store: All runs.
        attempts: What they have in flight.
        requeue_all: Has runs reconciled.
    """

    def __init__(
        self, store: RunStore, attempts: Attempts, *, requeue_all: Callable[[Iterable[RunRecord]], None]
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._requeue_all = requeue_all

    def follow(self, change: RunChange) -> None:
        """React to a change: what is no longer wanted takes no slot that others give back at this moment."""
        record = change.record
        if change.gone:
            self._drop(record)
        elif self._goes_with_parent(record) != record.above_is_gone:
            self._set_above_is_gone([record], not record.above_is_gone)
        if change.ended:  # told to stop before another starts in its place
            for attempt in list(record.attempts.values()):
                self._attempts.take_back(attempt)
        if change.cancelled:
            # a finished child can no longer be cancelled, and so does not cancel what is below it
            for descendant in self._store.below(record.uid, through=lambda run: not run.is_final):
                self._attempts.leave_queue(descendant.attempts)

    def _drop(self, record: RunRecord) -> None:
        """Withdraw the attempts of a run whose object is gone."""
        children = (child for child in self._store.children_of(record.uid) if not child.above_is_gone)
        going = [child for child in children if child.owner_uid == record.uid or self._goes_with_parent(child)]
        if going:
            self._set_above_is_gone(going, True)
        for attempt in list(record.attempts.values()):
            self._attempts.take_back(attempt)

    def _goes_with_parent(self, record: RunRecord) -> bool:
        """Whether garbage collection deletes the run; one that was orphaned on purpose lost its owner before that."""
        if record.owner_uid is None:
            return False
        parent = self._store.by_uid(record.owner_uid)
        return parent.above_is_gone if parent is not None else self._store.was_deleted(record.owner_uid)

    def _set_above_is_gone(self, records: list[RunRecord], above_is_gone: bool) -> None:
        """Keep runs and those below them from taking the slots that a deleted tree gives back; or let them again."""
        unfinished = []
        for run in chain(records, self._store.below(*[record.uid for record in records])):
            run.above_is_gone = above_is_gone
            if not run.is_final:
                unfinished.append(run)
        if not above_is_gone:
            self._requeue_all(unfinished)
            return
        for run in unfinished:
            self._attempts.leave_queue(run.attempts)
        self._requeue_all([run for run in unfinished if run.light is not None])  # which are forgotten
