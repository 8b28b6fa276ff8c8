"""Which runs are reconciled because of a change: the policy, as one function of what changed and what is known."""

from collections.abc import Iterable
from typing import NamedTuple

from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore


class Requeued(NamedTuple):
    """Which runs to reconcile after a change.

    Attributes:
        nearest: At once: the run itself, unless it is gone, and the root of its tree, which may be final as a whole
            now, so that it is deleted when it expires.
        counting: Its parent, whose counts have changed, once they may be written. While runs are read for the first
            time, trees look smaller than they are.
        crowd: Later, as there may be many: its unfinished children, which are cancelled or closed with it.
    """

    nearest: list[RunRecord]
    counting: RunRecord | None = None
    crowd: Iterable[RunRecord] = ()


def requeued_by(change: RunChange, store: RunStore, *, loading: bool) -> Requeued:
    """Return which runs to reconcile after a change."""
    record = change.record
    nearest = [] if change.gone else [record]
    counting = store.parent_of(record) if change.counted and not loading else None
    if not (change.ended or change.cancelled or change.gone):
        return Requeued(nearest, counting)
    root = _root_of_finished_tree(record, store)
    if root is not None and root not in nearest:
        nearest.append(root)
    return Requeued(nearest, counting, () if change.gone else store.unfinished_children_of(record.uid))


def _root_of_finished_tree(record: RunRecord, store: RunStore) -> RunRecord | None:
    """Return the root above a finished run, if all between them are final; the run itself may be the root."""
    run: RunRecord | None = record
    while run is not None and (run.is_final or run.gone):
        if run.parent_uid is None:
            return None if run.gone else run
        run = store.parent_of(run)
    return None
