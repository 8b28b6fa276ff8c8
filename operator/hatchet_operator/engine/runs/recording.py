"""Writing what was decided about a run, and when a light one gets its object."""

import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.status_writer import StatusWriter
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import Refused
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus

log = logging.getLogger(__name__)

_TOLD_AGAIN = (Reason.WAITING_FOR_WORKER, Reason.WAITING_FOR_RATE_LIMIT)


class Recording:
    """Writes statuses, one at a time per run.

    Args:
        writer: Writes them.
        store: All runs.
        observer: Observes the results.
        events: Records on a run that its status was refused.
        clock: Tells the time.
        requeue: Has a run reconciled.
        requeue_all: Has runs reconciled.
    """

    def __init__(
        self,
        writer: StatusWriter,
        *,
        store: RunStore,
        observer: RunObserver,
        events: EventRecorder,
        clock: Clock,
        requeue: Callable[[RunRecord], None],
        requeue_all: Callable[[Iterable[RunRecord]], None],
    ) -> None:
        self._writer = writer
        self._store = store
        self._observer = observer
        self._events = events
        self._clock = clock
        self._requeue = requeue
        self._requeue_all = requeue_all

    def write(self, record: RunRecord, status: RunStatus) -> Coroutine[Any, Any, None]:
        """Return what writes a status over the version of its object that it was decided for."""
        record.being_written = frozenset(report.attempt_id for report in record.reports.values())
        if status.children is not None:
            record.children_written_at = self._clock.now()
        if status.reason in _TOLD_AGAIN and status.message != record.run.status.message:
            record.waiting_told_at = self._clock.now()
        version = record.run.metadata.resource_version  # read now: in a moment, the record may have a newer object
        return self._put(record, status, over=version)

    def awaits_children(self, record: RunRecord, status: RunStatus) -> bool:
        """Have a run's light children recorded before its own end: after that, nobody would spawn them again."""
        if status.phase not in (Phase.SUCCEEDED, Phase.FAILED) or record.is_final:
            return False
        found = [child.light for child in self._store.unfinished_children_of(record.uid) if child.light is not None]
        for light in found:
            light.must_be_recorded = True
        if found:
            self._requeue_all(self._store.unfinished_children_of(record.uid))
        return bool(found)

    def outlives_parent(self, record: RunRecord) -> bool:
        """Whether a run goes on though its parent is final, so that nobody would spawn it again."""
        parent = self._store.parent_of(record)
        return parent is not None and parent.is_final

    async def record_now(self, record: RunRecord) -> None:
        """Return when a light run has its object, or will have none."""
        if record.light is not None:
            record.light.must_be_recorded = True
            self._requeue(record)
            await record.light.is_over.wait()

    async def _put(self, record: RunRecord, status: RunStatus, *, over: str) -> None:
        is_awaited = record.light is not None and record.light.must_be_recorded
        try:
            newest = await self._writer.write(record, status, over=over)
        except Refused as error:
            self._refused(record, error)
            return
        finally:
            record.being_written = None
        if newest is None:
            self._observer.forget(record)
            return
        self._observer.observe("MODIFIED", newest)
        self._requeue(record)  # even if the answer brought nothing new: what came during the write waits
        if is_awaited and (parent := self._store.parent_of(record)) is not None:
            self._requeue(parent)  # which may wait for that with its own end

    def _refused(self, record: RunRecord, error: Refused) -> None:
        if record.light is None:
            record.refused = True
            self._events.warn(record.run, Reason.STATUS_REFUSED, error.message)
            return
        record.light.lost = f"run {record.ref.name} could not be recorded: {error.message}"
        log.error("light run not recorded", extra={"run": str(record.ref), "error": error.message[:1000]})
        if (parent := self._store.parent_of(record)) is not None:
            self._events.warn(parent.subject, Reason.STATUS_REFUSED, record.light.lost[:1000])
        self._observer.forget(record)
