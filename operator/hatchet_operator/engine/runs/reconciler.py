"""One run: decide, apply.

    object changed, report came, attempt assigned, time is up, parent or workflow changed
        └─► reconcile ─► plan_run (pure) ─┬─► status to write: one PUT at a time, then settle and reconcile again
                                          └─► attempts wanted: queue new ones, cancel those no longer wanted

Whatever follows from a status happens after it was written: a plan with a status starts nothing. A report stays with
the record until the written status includes it; only then is the worker's call answered. So a conflict, a lost answer
or a crash leads back to the same decision, from the actual state.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import Policy, Report
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.attempts import Attempts
from hatchet_operator.engine.dispatch.queue import OnActivity, OnDemand
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.definitions import Definitions
from hatchet_operator.engine.runs.expiry import Expiry
from hatchet_operator.engine.runs.groups import Groups
from hatchet_operator.engine.runs.hold import Hold
from hatchet_operator.engine.runs.leaving import Leaving
from hatchet_operator.engine.runs.lifetimes import Lifetimes
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reactions import requeued_by
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.recording import Recording
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.replays import Replays, is_replayed
from hatchet_operator.engine.runs.reports import Reports
from hatchet_operator.engine.runs.sight import Sight
from hatchet_operator.engine.runs.status_writer import StatusWriter
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.runs.wanted import Wanted
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import Refused
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Reason, Stickiness
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)


class Runs:
    """All runs of the operator, and what they have in flight.

    Args:
        api: Where they are.
        store: What is known of them.
        observer: Observes the results of our own writes.
        reader: Reads those that are over.
        workflows: What they execute.
        events: Records on a run what happened to it.
        metrics: Counts what happens to runs.
        settings: What is configured.
        clock: Tells the time.
        turn_seconds: How long it occupies the event loop at once.
        starting: Says which workers are starting that a waiting attempt could go to.
        trouble_of: Says why no worker takes a waiting attempt, as far as that is known.
        ending_of: Says that an attempt's pod is being deleted, if it is a pod that serves only its run.
        told_to_stop: See `Attempts`.
        on_demand, on_activity, buckets: See `AttemptQueue`.
    """

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        observer: RunObserver,
        reader: RunReader,
        workflows: Workflows,
        events: EventRecorder,
        metrics: Metrics,
        settings: Settings,
        clock: Clock,
        turn_seconds: float,
        trouble_of: Callable[[Attempt], str | None],
        starting: Callable[[Attempt], str | None],
        ending_of: Callable[[Attempt], str | None],
        told_to_stop: Callable[[Worker, str, datetime], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
        buckets: Buckets,
    ) -> None:
        self._store = store
        self._observer = observer
        self._reader = reader
        self._workflows = workflows
        self._events = events
        self._clock = clock
        self.recording = Recording(
            StatusWriter(api, events=events, metrics=metrics, clock=clock),
            store=store,
            observer=observer,
            events=events,
            clock=clock,
            requeue=self.requeue,
            requeue_all=self.requeue_all,
        )
        self._policy = _policy_of(settings)
        self._expiry = Expiry(api, store, clock=clock, expired=self.requeue, turn_seconds=turn_seconds)
        self._lifetimes = Lifetimes(
            store,
            observer=observer,
            workflows=workflows,
            expiry=self._expiry,
            run_ttl=settings.run_ttl,
            failed_run_ttl=settings.failed_run_ttl,
        )
        self._early: list[RunRecord] = []  # those that can't be decided about before all runs were read once
        self._work: WorkQueue[RunRecord] = WorkQueue(self._reconcile, failed=self._poisoned, turn_seconds=turn_seconds)
        self.attempts = Attempts(
            metrics=metrics,
            clock=clock,
            assigned=self._note_assigned,
            unserved=self.requeue_waiting,
            told_to_stop=told_to_stop,
            on_demand=on_demand,
            on_activity=on_activity,
            buckets=buckets,
        )
        self.groups = Groups(clock=clock, requeue=self.requeue)
        self.definitions = Definitions(workflows)
        self.hold = Hold(store, self.definitions, clock=clock, requeue_all=self.requeue_all)
        self.wanted = Wanted(
            attempts=self.attempts,
            definitions=self.definitions,
            workflows=workflows,
            hold=self.hold,
            buckets=buckets,
            metrics=metrics,
            requeue=self.requeue,
        )
        self._leaving = Leaving(store, self.attempts, requeue_all=self.requeue_all)
        self._reports = Reports(store, self.attempts, self.definitions, self.hold, requeue=self.requeue)
        self._replays = Replays(
            api, store, observer=observer, reader=reader, definitions=self.definitions, requeue=self.requeue
        )
        self._sight = Sight(
            store=store,
            observer=observer,
            workflows=workflows,
            attempts=self.attempts,
            groups=self.groups,
            hold=self.hold,
            replays=self._replays,
            policy=self._policy,
            trouble_of=trouble_of,
            starting=starting,
            ending_of=ending_of,
        )
        self.stopped = False  # nothing more is decided or written

    # --- What changed

    def loaded(self) -> None:
        """Decide what depends on whole trees from now on: all runs have been read once."""
        self._work.add_all(
            record
            for record in self._store
            if record.is_final and (record.parent_uid is None or self._store.tally_of(record.uid) is not None)
        )
        self._work.add_all(self._early)
        self._early = []

    def queue_follows(self, change: RunChange) -> None:
        """React to a change: what is no longer wanted takes no slot that others give back at this moment."""
        if change.gone:
            self._work.forget(change.record)
            self._replays.forget(change.record)
        self._leaving.follow(change)
        if change.gone:
            self._reports.drop(change.record)

    def requeue_family(self, change: RunChange) -> None:
        """React to a change: requeue the runs whose decisions depend on it."""
        if self.stopped:
            return
        requeued = requeued_by(change, self._store, loading=self._observer.loading)
        for record in requeued.nearest:
            self._work.add(record)
        if requeued.counting is not None:
            self._requeue_to_count(requeued.counting)
        if requeued.crowd:
            self._work.add_all(requeued.crowd)

    # --- Calls from other rooms

    @property
    def has_runs_on_hold(self) -> bool:
        """Whether some runs from before the start wait until workers have made their claims."""
        return self.hold.is_on

    def report(self, identity: str, report: Report, *, run_uid: str | None = None) -> asyncio.Future[None] | None:
        """See `Reports.take`."""
        return self._reports.take(identity, report, run_uid=run_uid)

    # --- Decide and apply

    def requeue(self, record: RunRecord) -> None:
        """Have a run reconciled, at once but not within this call."""
        self._work.add(record)

    def requeue_all(self, records: Iterable[RunRecord]) -> None:
        """Have many runs reconciled, in turns between other work, so that no stream waits for all of them."""
        self._work.add_all(records)

    def _poisoned(self, record: RunRecord, error: Exception) -> None:
        """Leave a run alone until its object changes, and say so where people look."""
        # Its reports stay unanswered: none of them is persisted, and their workers repeat them.
        record.refused, record.being_written = True, None
        log.error("run can't be reconciled", extra={"run": str(record.ref)}, exc_info=error)
        self._events.warn(
            record.subject, Reason.INTERNAL_ERROR, f"the operator can't continue with this run: {error!r}"
        )

    def _reconcile(self, record: RunRecord) -> Coroutine[Any, Any, None] | None:
        """Bring one run closer to its desired state; return what has to be awaited for that."""
        self._reports.settle(record)
        if self.stopped or record.refused or record.gone:
            return None
        if record.light is not None and record.above_is_gone:
            self._observer.forget(record)  # garbage collection does that with the others
            return None
        now = self._clock.now()
        if self._observer.loading and (is_replayed(record) or not self._store.knows_those_above(record)):
            self._early.append(record)  # children that it awaits, or runs above it, may come later in the list
            return None
        if record.whole is None:
            return self._look_after_finished(record, now)
        if self._is_at_rest(record):
            self._reader.forget_later(record)
            self._lifetimes.delete_when_expired(record, now)
            return None
        if self._workflows.begin_loading(record.run):
            return None  # its definition is being read, which requeues it
        return self._decide_and_apply(record, now)

    def _decide_and_apply(self, record: RunRecord, now: datetime) -> Coroutine[Any, Any, None] | None:
        graph = self.definitions.graph_of(record)
        self._prepare(record, graph, now)
        plan = plan_run(self._sight.of(record, graph), now)
        self._requeue_at(record, plan.recheck_at, now)
        if plan.status is not None:
            if self.recording.awaits_children(record, plan.status):
                return None
            if plan.status.phase.is_final or record.run.spec.suspended:  # not assigned while this is written
                self.attempts.leave_queue(record.attempts)
            return self.recording.write(record, plan.status)
        self.wanted.apply(record, plan.wanted, now)
        if record.light is not None and (record.light.must_be_recorded or self.recording.outlives_parent(record)):
            return self.recording.write(record, record.run.status)
        for step in plan.tell_to_stop:
            attempt = record.attempts[step]
            attempt.cancel_sent_at = now
            self.attempts.tell_cancel(attempt)
        if record.is_final:
            self._reader.forget_later(record)
            self._lifetimes.delete_when_expired(record, now)
        return None

    def _prepare(self, record: RunRecord, graph: Graph | None, now: datetime) -> None:
        """Do what a decision relies on: prepare the run's replay, and have it in its groups or out of them."""
        has_children = not self._observer.loading and self._store.tally_of(record.uid) is not None
        if has_children and record.children_written_at is None:
            record.children_written_at = now  # a parent that ends soon writes its counts at its end, and only then
        self._replays.prepare(record)
        if graph is None or record.is_final:
            return
        spec, status = record.run.spec, record.run.status
        waits = spec.suspended or (spec.start_at is not None and now < spec.start_at)
        if status.children_first is not None or (waits and status.started_at is None and not record.attempts):
            self.groups.leave(record)  # for now, so that it takes neither room nor a turn
        else:
            self.groups.follow(record, graph)

    def _is_at_rest(self, record: RunRecord) -> bool:
        """Whether nothing is left to decide about a finished run: most never had a child, and nobody edits them."""
        if not record.is_final or record.attempts or self._store.tally_of(record.uid) is not None:
            return False
        return record.run.status.observed_generation in (None, record.run.metadata.generation)

    def _look_after_finished(self, record: RunRecord, now: datetime) -> Coroutine[Any, Any, None] | None:
        """Decide about a finished run whose object is forgotten: whether to write its counts, and to delete it."""
        if self._observer.loading:
            return None  # a tree may look smaller than it is
        self._lifetimes.delete_when_expired(record, now)
        tally = self._store.tally_of(record.uid)
        if tally is None or tally.numbers == record.children_told:
            return None
        record.children_written_at = record.children_written_at or now
        due = record.children_written_at + self._policy.children_every
        if now < due:
            self._requeue_at(record, due, now)
            return None
        return self._read_and_requeue(record)

    async def _read_and_requeue(self, record: RunRecord) -> None:
        try:
            if await self._reader.read(record) is not None:
                self.requeue(record)
        except Refused as error:
            log.error("run not read", extra={"run": str(record.ref), "error": error.message[:1000]})

    def _note_assigned(self, attempt: Attempt, started_at: datetime) -> None:
        record = self._store.get(attempt.ref)
        if record is not None:
            if attempt.graph.sticky is not Stickiness.NONE:  # now, or its other steps might go elsewhere
                self.wanted.follow_placement(record, attempt.graph, started_at)
            shown_at = started_at + min(self._policy.running_after, attempt.step.timeout)
            self._requeue_at(record, shown_at, self._clock.now())

    def workflow_changed(self, workflow: ObjectRef) -> None:
        """Requeue the runs of a workflow whose decisions depend on it."""
        self.requeue_all(self._in_its_pool(self._store.unfinished_of(workflow)))
        self.requeue_all(self._lifetimes.workflow_changed(workflow))

    def _in_its_pool(self, records: list[RunRecord]) -> Iterator[RunRecord]:
        """Yield those that are unfinished when it is their turn, moved to the pool that their workflow has now."""
        for record in records:
            if not (record.is_final or record.gone):
                self.wanted.follow_pool(record)
                yield record

    def pool_changed(self, pool: ObjectRef) -> None:
        """Requeue the runs that wait for workers of a pool, since what is wrong with it has changed."""
        self.requeue_waiting(self.attempts.queue.waiting_in(pool.namespace, pool.name))

    def requeue_waiting(self, attempts: list[Attempt]) -> None:
        """Requeue the runs of attempts, since what these wait for has changed."""
        found = (self._store.get(attempt.ref) for attempt in attempts)  # in their turn: there may be many
        self.requeue_all(record for record in found if record is not None)

    # --- Time

    def _requeue_to_count(self, parent: RunRecord) -> None:
        """Have a parent reconciled when its counts may be written: before that, they decide nothing.

        Except in a replay, whose own steps wait for its children.
        """
        if parent.children_written_at is None or is_replayed(parent):
            self._work.add(parent)
        else:
            self._requeue_at(parent, parent.children_written_at + self._policy.children_every, self._clock.now())

    @property
    def are_decided(self) -> bool:
        """Whether all that changed was decided about; what follows from it may be on its way."""
        return not self._work.has_next

    @property
    def are_at_rest(self) -> bool:
        """Whether every run that changed has been reconciled; some may be due later."""
        return self._work.is_at_rest

    def _requeue_at(self, record: RunRecord, when: datetime | None, now: datetime) -> None:
        """Have the run reconciled at a point in time."""
        if when is not None:
            self._work.add_after(record, (when - now).total_seconds())

    async def stop(self) -> None:
        """Drop what is in flight; it is recovered from the objects."""
        self.stopped = True
        self.attempts.stop()
        await self._replays.stop()
        await self._expiry.stop()
        await self._work.stop()


def _policy_of(settings: Settings) -> Policy:
    return Policy(
        running_after=settings.running_after,
        cancel_grace=settings.cancel_grace,
        max_losses=settings.max_losses,
        max_disruptions=settings.max_disruptions,
        children_every=settings.children_every,
        waiting_told_after=settings.waiting_told_after,
    )
