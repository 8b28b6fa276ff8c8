"""Counts runs that come and end, for Prometheus: a reaction to their changes."""

from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.workflows.workflows import Workflows


class RunCounter:
    """Counts runs per workflow; what is read at a start was counted by an operator before."""

    def __init__(self, metrics: Metrics, *, observer: RunObserver, workflows: Workflows) -> None:
        self._metrics = metrics
        self._observer = observer
        self._workflows = workflows

    def run_changed(self, change: RunChange) -> None:
        """React to a change."""
        if self._observer.loading or not (change.came or change.ended):
            return
        workflow = change.record.workflow_ref
        is_known = self._workflows.get(workflow) is not None
        if change.came:
            self._metrics.run_came(workflow, is_known=is_known)
        if change.ended and change.run is not None:
            self._metrics.run_ended(workflow, change.run.status, is_known=is_known)
