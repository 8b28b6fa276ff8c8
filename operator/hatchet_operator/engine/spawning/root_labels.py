"""Labels of root runs created by people, by which their children are found: one selector for a whole tree."""

import logging

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import Conflict, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import root_label
from hatchet_operator.resources.reasons import Reason

log = logging.getLogger(__name__)


class RootLabels:
    """Labels roots once they spawn: this costs a write, so a run that spawns nothing has none; its name finds it."""

    def __init__(self, api: Api, observer: RunObserver, events: EventRecorder) -> None:
        self._api = api
        self._observer = observer
        self._events = events
        self._work: WorkQueue[RunRecord] = WorkQueue(self._label, failed=self._failed)

    def spawned(self, parent: RunRecord) -> None:
        """Ensure that a run with a child is found by the child's label."""
        run = parent.whole
        if run is None or run.spec.parent is not None or labels.ROOT in run.metadata.labels or parent.is_labelled:
            return
        parent.is_labelled = True  # only once: if somebody removes the label again, that is on purpose
        self._work.add(parent)

    async def _label(self, record: RunRecord) -> None:
        run = record.whole
        if run is None:
            return
        own = {labels.ROOT: root_label(record.ref.name), labels.WORKFLOW: run.spec.workflow}
        wanted = {**own, labels.ROOT_UID: record.uid, **run.metadata.labels}
        ref, patch = record.ref, {"metadata": {"uid": record.uid, "labels": wanted}}
        try:
            answer = await self._api.until_answered(self._api.patch, RUNS, ref.namespace, ref.name, patch)
        except (NotFound, Conflict):
            return  # deleted meanwhile
        except Refused as error:
            log.warning("run not labelled", extra={"run": str(ref), "error": str(error)})
            return
        self._observer.observe("MODIFIED", answer)

    def _failed(self, record: RunRecord, error: Exception) -> None:
        log.error("run can't be labelled", extra={"run": str(record.ref)}, exc_info=error)
        self._events.warn(record.subject, Reason.INTERNAL_ERROR, f"the operator can't label this run: {error!r}")

    async def stop(self) -> None:
        await self._work.stop()
