"""Attempts that a decision wants: made, queued, moved with their run's placement, and taken back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from hatchet_operator.decisions.expressions import UnusableKeyError
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.losses import trial_of
from hatchet_operator.decisions.observed import (
    Outcome,
    Report,
    WantedAttempt,
)
from hatchet_operator.decisions.step_limits import needs_of
from hatchet_operator.decisions.sticking import Binding
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.attempts import Attempts
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.definitions import Definitions
from hatchet_operator.engine.runs.hold import Hold
from hatchet_operator.engine.runs.placement import placement_of
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources import labels
from hatchet_operator.resources.reasons import Execution, Reason


class Wanted:
    """Brings the attempts of a run in line with what is wanted of them.

    Args:
        attempts: Where they are.
        definitions: What runs execute.
        workflows: Which pool a workflow has now.
        hold: Which runs wait for workers from before the start.
        buckets: The rate limits.
        metrics: Counts refused limits.
        requeue: Has a run reconciled.
    """

    def __init__(
        self,
        *,
        attempts: Attempts,
        definitions: Definitions,
        workflows: Workflows,
        hold: Hold,
        buckets: Buckets,
        metrics: Metrics,
        requeue: Callable[[RunRecord], None],
    ) -> None:
        self._attempts = attempts
        self._definitions = definitions
        self._workflows = workflows
        self._hold = hold
        self._buckets = buckets
        self._metrics = metrics
        self._requeue = requeue

    def apply(self, record: RunRecord, wanted: tuple[WantedAttempt, ...], now: datetime) -> None:
        """Queue what is wanted and new, and take back what is no longer wanted."""
        wanted_ids = {attempt.id for attempt in wanted}
        for attempt in [attempt for attempt in record.attempts.values() if attempt.id not in wanted_ids]:
            self._attempts.take_back(attempt)
        if self._hold.holds(record):
            return  # a worker may have them; it says so when it listens, and if that takes long, that is reported
        if record.graph is not None:
            self.follow_placement(record, record.graph, now)
        for want in wanted:
            if want.step.name not in record.attempts:
                self._enqueue(record, want, now)

    def _enqueue(self, record: RunRecord, want: WantedAttempt, now: datetime) -> None:
        try:
            needs = needs_of(want.step, record.run) if want.step.rate_limits else ()
        except UnusableKeyError as error:
            # the same for every attempt of this run
            report = Report(
                attempt_id=want.id,
                outcome=Outcome.FAILED,
                at=now,
                error=str(error),
                may_retry=False,
                reason=Reason.INVALID_RATE_LIMIT,
            )
            if record.reports.setdefault(want.step.name, report) is report:
                self._metrics.limits_refused.inc()
            self._requeue(record)
            return
        attempt = self.make(record, want.step.name, want.id, now)
        attempt.units = self._buckets.of_needs(record.ref.namespace, needs) if needs else ()
        self._attempts.enqueue(attempt, now)

    def make(self, record: RunRecord, step: str, identity: str, now: datetime) -> Attempt:
        """Create an attempt, neither queued nor assigned yet; this pins the run's definition."""
        graph = record.graph = self._definitions.graph_of(record)
        assert graph is not None, "an attempt is wanted of a graph"
        definition, state = graph.step(step), record.run.status.steps.get(step)
        assert definition is not None, "an attempt is wanted of a step of the graph"
        placement = placement_of(record, graph, definition)
        attempt = Attempt(
            id=identity,
            ref=record.ref,
            step=definition,
            number=state.attempt if state else 0,
            graph=graph,
            priority=placement.priority,
            tree=record.run.metadata.labels.get(labels.ROOT_UID, record.uid),
            is_root=record.run.spec.parent is None,
            queued_at=now,
            desired=placement.desired,
            required=placement.required,
            bound_to=placement.binding.only,
            preferred_worker=placement.binding.preferred,
            of_run=record.attempts,
            run_uid=record.uid if graph.execution is Execution.POD else None,
            trial=trial_of(state) if state else None,
        )
        self._attempts.keep(attempt)
        return attempt

    def follow_placement(self, record: RunRecord, graph: Graph, now: datetime) -> None:
        """Move waiting attempts to where they may go now: a person changed the run, or it now sticks to a worker."""
        queue = self._attempts.queue
        waiting = (attempt for attempt in record.attempts.values() if attempt.lane is not None or attempt.is_aside)
        for attempt in list(waiting):
            placement = placement_of(record, graph, attempt.step)
            is_as_urgent = placement.priority == attempt.priority
            if is_as_urgent and placement.binding == Binding(attempt.bound_to, attempt.preferred_worker):
                continue
            if is_as_urgent and not attempt.units:
                placement.apply(attempt)
                queue.place_again(attempt, now)
            else:  # among others, so at the end of these
                queue.withdraw(attempt)
                placement.apply(attempt)
                queue.add(attempt, now)

    def follow_pool(self, record: RunRecord) -> None:
        """Move unassigned attempts to the pool that the workflow has now; the others finish where they are."""
        graph, current = record.graph, self._workflows.graph_of(record.run)
        if graph is None or current is None or graph.pool == current.pool:
            return
        record.graph = replace(graph, pool=current.pool)
        self._attempts.leave_queue(record.attempts)  # and enter the other one with the next decision
        self._attempts.queue.on_demand(record.ref.namespace, graph.pool, None)  # the demand is lower now
