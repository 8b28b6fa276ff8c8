"""How long finished runs are kept: for their own TTL, or their workflow's, or the operator's."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from hatchet_operator.engine.runs.expiry import Expiry
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase


class Lifetimes:
    """Has finished runs deleted.

    Args:
        store: All runs.
        observer: Says whether all of them are known yet.
        workflows: Say how long their runs are kept.
        expiry: Calls back when they expire, and deletes them.
        run_ttl: How long runs are kept if nothing else is specified.
        failed_run_ttl: The same, for those that failed.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        observer: RunObserver,
        workflows: Workflows,
        expiry: Expiry,
        run_ttl: timedelta,
        failed_run_ttl: timedelta,
    ) -> None:
        self._store = store
        self._observer = observer
        self._workflows = workflows
        self._expiry = expiry
        self._run_ttl = run_ttl
        self._failed_run_ttl = failed_run_ttl
        self._of_workflows: dict[ObjectRef, timedelta] = {}

    def workflow_changed(self, workflow: ObjectRef) -> Iterable[RunRecord]:
        """Return the finished runs of a workflow, if its TTL has changed; there may be many."""
        ttl = self._workflows.ttl_of(workflow)
        has_changed = self._of_workflows.pop(workflow, None) != ttl
        if ttl is not None:
            self._of_workflows[workflow] = ttl
        if not has_changed:
            return ()
        return (
            record for record in self._store if record.is_final and record.parent_uid is None and record.is_of(workflow)
        )

    def delete_when_expired(self, record: RunRecord, now: datetime) -> None:
        """Delete a finished root run that has expired and whose whole tree is final; children are deleted with it."""
        if self._observer.loading or record.parent_uid is not None or record.finished_at is None or record.is_deleting:
            return
        ttl = record.ttl
        if ttl is None:
            by_default = self._failed_run_ttl if record.phase is Phase.FAILED else self._run_ttl
            ttl = self._workflows.ttl_of(record.workflow_ref) or by_default
        expires_at = record.finished_at + ttl.total_seconds()
        if now.timestamp() < expires_at:
            self._expiry.look_at(record, expires_at)
        elif self._tree_is_final(record):
            self._expiry.delete(record)

    def _tree_is_final(self, record: RunRecord) -> bool:
        return record.is_final and all(run.is_final for run in self._store.below(record.uid))
