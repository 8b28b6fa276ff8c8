"""One run: observe, decide, apply.

    object changed, report came, attempt given out, timer fired, parent or workflow changed
        └─► reconcile ─► plan_run (pure) ─┬─► status to write: one PUT at a time, then settle and reconcile again
                                          └─► attempts wanted: queue new ones, cancel those no longer wanted

Whatever follows from a status happens after it was written: a plan with a status starts nothing. A report stays with
the record until the written status speaks of it; only then is the worker's call answered. So a conflict, a lost
answer or a crash leads back to the same decision from what is really there.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.informer import UidOf
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.turns import Turns
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import (
    ObservedRun,
    Outcome,
    ParentState,
    Policy,
    Report,
    Wait,
    WantedAttempt,
    current_attempt_id,
)
from hatchet_operator.decisions.rejoining import WaitingRun, waiting_run
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.engine.attempts import Attempts, Clock
from hatchet_operator.engine.expiry import Expiry
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.queue import OnActivity, OnDemand
from hatchet_operator.engine.records import NO_ATTEMPTS, Attempt, RunRecord, RunStore
from hatchet_operator.engine.status_writer import StatusWriter
from hatchet_operator.engine.workers import Worker
from hatchet_operator.engine.workflows import Workflows
from hatchet_operator.errors import Conflict, NotFound, NotReady, Refused
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef, root_label
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus, WorkflowRun
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)

LossesOf = Callable[[RunRecord], Mapping[str, tuple[Outcome, str | None]]]
"""Of a run, by step: how attempts ended whose workers will not say so, and why."""

_READS_AT_A_TIME = 16
_FROZEN_EVERY = 1_000

_WHOLE_SECONDS = 1.0  # whoever waits for the end of a run has asked by then, most of the time
_WHOLE_FOR_PARENT_SECONDS = 30.0  # a parent may spawn a thousand in one call before it asks for the first
_WHOLE_AT_MOST = 2_000  # some 15 MiB


class Runs:
    """All runs of the operator, and what they have in flight.

    Args:
        api: Where they are.
        store: What is known of them.
        workflows: What they execute.
        events: Tells on a run what happened to it.
        metrics: Counted there.
        settings: What is configured.
        clock: The time of day.
        on_end: Called with a run that is final, or gone.
        starting: Says of an attempt that waits which workers are on their way.
        trouble_of: Says why nobody takes an attempt that waits, as far as that is known.
        awaited_for: Says which worker a run from before the start waits for, once that is worth a write.
        ending_of: Says that somebody ends the pod of an attempt, if it is one of its run alone.
        told_to_stop: As of `Attempts`.
        on_demand, on_activity: As of `AttemptQueue`.
    """

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        workflows: Workflows,
        events: EventRecorder,
        metrics: Metrics,
        settings: Settings,
        clock: Clock,
        on_end: Callable[[RunRecord], None],
        trouble_of: Callable[[Attempt], str | None],
        awaited_for: Callable[[RunRecord], str | None],
        starting: Callable[[Attempt], str | None],
        ending_of: Callable[[Attempt], str | None],
        told_to_stop: Callable[[Worker, str, datetime], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
    ) -> None:
        self._api = api
        self._store = store
        self._workflows = workflows
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._writer = StatusWriter(api, events=events, metrics=metrics, clock=clock)
        self._policy = Policy(
            running_after=settings.running_after,
            cancel_grace=settings.cancel_grace,
            max_losses=settings.max_losses,
            max_disruptions=settings.max_disruptions,
            children_every=settings.children_every,
            waiting_told_after=settings.waiting_told_after,
        )
        self._run_ttl = settings.run_ttl
        self._failed_run_ttl = settings.failed_run_ttl
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = asyncio.Semaphore(_READS_AT_A_TIME)
        self._reads: dict[RunRecord, asyncio.Task[WorkflowRun | None]] = {}
        self._whole: dict[RunRecord, float] = {}  # finished runs whose object is kept: since when, the oldest first
        self._forgetting: asyncio.TimerHandle | None = None
        self._read_for_counts: set[RunRecord] = set()
        self._expiry = Expiry(api, store, clock=clock, expired=self.reconcile)
        self._on_end = on_end
        self._trouble_of = trouble_of
        self._starting = starting
        self._ending_of = ending_of
        self.attempts = Attempts(
            metrics=metrics,
            clock=clock,
            given=self._given,
            unserved=self._reconcile_soon,
            told_to_stop=told_to_stop,
            on_demand=on_demand,
            on_activity=on_activity,
        )
        self._awaited_for = awaited_for
        self.loading = True  # until all runs were read once
        self.holding = True  # after a start, until workers said what they hold
        self.stopped = False  # nothing is decided or written any more

    # --- What is observed

    async def loaded(self) -> None:
        """All runs were read once: what depends on whole trees may be decided from now on."""
        self.loading = False
        turns = Turns()
        for record in self._store:
            if record.is_final and (record.parent_uid is None or self._store.tally_of(record.uid) is not None):
                self.reconcile(record)
            await turns.give_way()

    async def listed(self, version: str, uid_of: UidOf) -> None:
        """Forget what is not in a list of all runs: answers to our own requests may have come before it was deleted."""
        turns = Turns()
        for record in self._store:
            if uid_of(record.ref.namespace, record.ref.name) != record.uid and record.version <= int(version):
                self._forget(record)
            await turns.give_way()

    def observe(self, kind: str, obj: Json) -> None:
        """Take in a watch event, or an object that a request returned."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._store.get(ref)
        if kind == "DELETED":
            if known is not None and known.uid == metadata["uid"]:
                self._forget(known)
            return
        version = int(metadata["resourceVersion"])
        if known is not None and version <= known.version:
            return  # our own write, or older: of this object, or of one that had its name before
        if self._store.was_deleted(metadata["uid"]):
            return
        try:
            run = WorkflowRun.model_validate(obj)
        except ValueError as error:  # written under another version of the CRD; it must not stop the others
            log.warning("run is not understood", extra={"run": str(ref), "error": str(error)})
            return
        if known is not None and known.uid != run.metadata.uid:
            self._forget(known)  # deleted and made anew between two events
        is_new = known is None or known.uid != run.metadata.uid
        was_final = not is_new and known is not None and known.is_final
        was_cancelled = not is_new and known is not None and known.cancelled
        if known is not None and known.reruns != run.status.reruns:
            known.graph = None  # another execution begins with the definition of its own time
        record = self._store.put(run)
        self._whole.pop(record, None)
        if is_new and self.loading:
            record.may_be_out = not record.is_final
        if self._goes_with_parent(record) != record.above_is_gone:
            self._hold_back(record, not record.above_is_gone)
        if record.is_final and self.loading:
            record.forget_object()  # at once: of these there may be more than memory
            if len(self._store) % _FROZEN_EVERY == 0:
                gc.freeze()  # or the collector would look through all of them, time and again; the term's end undoes it
        self.reconcile(record)
        if record.is_final and not was_final and not is_new:
            self._metrics.finished.labels(phase=run.status.phase.value).inc()
        if run.spec.cancelled and not was_cancelled:
            # a child that has finished is not cancelled any more, and so does not cancel what is below it
            for descendant in self._store.below(record.uid, through=lambda run: not run.is_final):
                self.attempts.leave_queue(descendant)
        if (record.is_final and not was_final) or (run.spec.cancelled and not was_cancelled):
            self._ended(record)
        if record.parent_uid is not None and not self.loading:
            parent = self._store.by_uid(record.parent_uid)
            if parent is not None:
                self.reconcile(parent)  # its counts

    def step_of(self, record: RunRecord, identity: str) -> str | None:
        """Return the unfinished step whose current attempt this is, by the persisted status alone."""
        if record.is_final or (graph := self._graph(record)) is None:
            return None
        states = record.run.status.steps
        steps = [step.name for step in graph.steps] + ([graph.on_failure.name] if graph.on_failure else [])
        unfinished = [name for name in steps if name not in states or not states[name].phase.is_final]
        return next((name for name in unfinished if current_attempt_id(record.run, name) == identity), None)

    def may_have(self, pool: ObjectRef, record: RunRecord) -> bool:
        """Whether attempts of this run are for workers of this pool, as far as is known."""
        graph = self._graph(record)
        return record.ref.namespace == pool.namespace and (graph is None or graph.pool in (None, pool.name))

    def may_have_unclaimed(self, caller: Caller, record: RunRecord) -> bool:
        """Whether the caller may speak of an attempt that is out, if at all, since before a restart.

        Raises:
            NotReady: It is a Pod, and did not say yet what it holds; then everybody will know.
        """
        if caller.pod_uid is not None and self.holding and record.may_be_out:
            raise NotReady("this operator has just started; listen first, to say which attempts this worker has")
        return caller.pod_uid is None and self.may_have(caller.pool_ref, record)

    # --- Decide and apply

    def reconcile(self, record: RunRecord) -> None:
        """Bring one run closer to its desired state; one that can't be decided about does not stop the others."""
        try:
            self._reconcile(record)
        except Exception as error:  # noqa: BLE001  # the boundary between runs; the error is shown, not hidden
            self._poisoned(record, error)

    def _poisoned(self, record: RunRecord, error: BaseException) -> None:
        """Leave a run alone until its object changes, and say so where people look."""
        # Its reports stay unanswered: nothing of them is written down, and their workers repeat them.
        record.refused, record.writing = True, False
        log.error("run can't be reconciled", extra={"run": str(record.ref)}, exc_info=error)
        self._events.warn(record.subject, Reason.INTERNAL_ERROR, f"the operator can't go on with this run: {error!r}")

    def _reconcile(self, record: RunRecord) -> None:
        self._settle(record)
        if self.stopped or record.writing or record.refused or record.gone:
            return
        now = self._clock()
        if record.whole is None:
            self._look_after_finished(record, now)
            return
        if self._workflows.is_loading(record.run):
            return  # its definition is being read; the workflow's observer comes back
        plan = plan_run(self._observed(record), now)
        self._recheck_at(record, plan.recheck_at, now)
        if plan.status is not None:
            if plan.status.phase.is_final:
                self.attempts.leave_queue(record)
            self._start_writing(record, plan.status)
            return
        self._apply_wanted(record, plan.wanted, now)
        for step in plan.tell_to_stop:
            attempt = record.attempts[step]
            attempt.cancel_sent_at = now
            self.attempts.tell_cancel(attempt)
        if record.is_final:
            self._forget_object_later(record)
            self._delete_when_expired(record, now)

    def _look_after_finished(self, record: RunRecord, now: datetime) -> None:
        """Decide about a finished run whose object is forgotten: to have its counts written, and itself deleted."""
        if self.loading:
            return  # a tree may look smaller than it is
        tally = self._store.tally_of(record.uid)
        if tally is not None and tally.numbers != record.children_told:
            record.children_written_at = record.children_written_at or now
            due = record.children_written_at + self._policy.children_every
            if now < due:
                self._recheck_at(record, due, now)
            elif record not in self._read_for_counts:
                self._read_for_counts.add(record)
                self._in_background(record, self._read_and_reconcile(record))
        self._delete_when_expired(record, now)

    async def _read_and_reconcile(self, record: RunRecord) -> None:
        try:
            if await self.read(record) is not None:
                self.reconcile(record)
        except Refused as error:
            log.error("run not read", extra={"run": str(record.ref), "error": error.message[:1000]})
        finally:
            self._read_for_counts.discard(record)

    async def read(self, record: RunRecord) -> WorkflowRun | None:
        """Return a run's object, from the API server if memory has it no more; None: the run was deleted.

        Raises:
            Refused: The API server does not let us.
        """
        if record.whole is None and not record.gone:
            if (reading := self._reads.get(record)) is None:  # all who ask meanwhile get what the first one reads
                reading = self._reads[record] = asyncio.get_running_loop().create_task(self._read(record))
                reading.add_done_callback(lambda read: self._have_read(record, read))
            return await asyncio.shield(reading)
        return None if record.gone else record.whole

    def _have_read(self, record: RunRecord, read: asyncio.Task[WorkflowRun | None]) -> None:
        del self._reads[record]
        if not read.cancelled():
            read.exception()  # whoever waited has it; they may all have gone

    async def _read(self, record: RunRecord) -> WorkflowRun | None:
        ref = record.ref
        try:
            async with self._reading:
                obj = await self._api.until_answered(self._api.get, RUNS, ref.namespace, ref.name)
        except NotFound:
            self._forget(record)
            return None
        self.observe("MODIFIED", obj)  # newer than what we know; another run of that name, perhaps
        if record.whole is None and not record.gone:
            try:
                record.remember_object(WorkflowRun.model_validate(obj))
            except ValueError as error:
                raise Refused(f"run {ref} is not understood: {error}") from error
            self._forget_object_later(record)
        return None if record.gone else record.whole

    def _observed(self, record: RunRecord) -> ObservedRun:
        live, waits = {}, {}
        for name, attempt in record.attempts.items():
            if (out := attempt.live()) is not None:
                live[name] = replace(out, ending=self._ending_of(attempt)) if attempt.run_uid is not None else out
            elif attempt.worker is None:
                waits[name] = self._wait_of(attempt)
        tally = None if self.loading else self._store.tally_of(record.uid)
        if tally is not None and record.children_written_at is None:
            record.children_written_at = self._clock()  # a parent that ends soon writes its counts then, and only then
        graph = self._graph(record)
        return ObservedRun(
            run=record.run,
            graph=graph,
            known_workflows=self._workflows.names_in(record.ref.namespace) if graph is None else (),
            without_graph=self._workflows.of(record.run) if graph is None else None,
            suspended=self._workflows.is_suspended(record.run),
            held_back=record.above_is_gone,
            policy=self._policy,
            parent=self._parent_state(record),
            live=live,
            reports=record.reports,
            waits=waits,
            children=tally.counts() if tally else None,
            children_written_at=record.children_written_at,
            waiting_told_at=record.waiting_told_at,
            awaits=self._awaited_for(record) if self.holding and record.may_be_out else None,
        )

    def _wait_of(self, attempt: Attempt) -> Wait:
        wait = self.attempts.queue.wait_of(attempt)
        if wait.unserved_since is None:
            return wait
        return replace(wait, trouble=self._trouble_of(attempt), starting=self._starting(attempt))

    def _graph(self, record: RunRecord) -> Graph | None:
        if record.graph is not None or record.whole is None:
            return record.graph or self._workflows.current_graph(record.workflow_ref)
        return self._workflows.graph_of(record.whole)

    def _parent_state(self, record: RunRecord) -> ParentState | None:
        parent = self._store.by_uid(record.parent_uid) if record.parent_uid is not None else None
        if parent is None:
            return None  # deleted: garbage collection removes the child
        return ParentState(
            cancelled=parent.cancelled or parent.phase is Phase.CANCELLED,
            closed=parent.is_final and parent.phase is not Phase.CANCELLED,
        )

    def _apply_wanted(self, record: RunRecord, wanted: tuple[WantedAttempt, ...], now: datetime) -> None:
        wanted_ids = {attempt.id for attempt in wanted}
        for attempt in [attempt for attempt in record.attempts.values() if attempt.id not in wanted_ids]:
            self.attempts.take_back(record, attempt)
        if record.may_be_out and self.holding:
            return  # a worker may have them; it says so when it listens, and if it takes long, whoever looks is told
        for want in wanted:
            if want.step.name not in record.attempts:
                self.attempts.enqueue(self.make_attempt(record, want.step.name, want.id, now), now)

    def make_attempt(self, record: RunRecord, step: str, identity: str, now: datetime) -> Attempt:
        """Keep a new attempt, neither queued nor out yet; the run has its definition from now on."""
        graph = record.graph = self._graph(record)
        assert graph is not None, "an attempt is wanted of a graph"
        return self.attempts.make(record, graph, step, identity, now)

    def _given(self, attempt: Attempt, started_at: datetime) -> None:
        record = self._store.get(attempt.ref)
        if record is not None:
            # not reconcile(): this may be called from one, and only time will tell
            self._recheck_at(record, started_at + min(self._policy.running_after, attempt.step.timeout), self._clock())

    def follow_pool(self, record: RunRecord) -> None:
        """Have attempts that nobody got yet wait for the pool that the workflow has now; others end where they are."""
        graph, current = record.graph, self._workflows.graph_of(record.run)
        if graph is None or current is None or graph.pool == current.pool:
            return
        record.graph = replace(graph, pool=current.pool)
        self.attempts.leave_queue(record)  # and into the other one, with the next decision
        self.attempts.queue.on_demand(record.ref.namespace, graph.pool, None)  # there is less of it

    def waiting_run(self, record: RunRecord) -> WaitingRun:
        """Tell what may be out of a run from before the start."""
        graph, claimed = self._graph(record), record.attempts.keys()
        return waiting_run(record.run, graph, claimed=claimed, now=self._clock())

    def release_hold(self, *, losses_of: LossesOf, but: Callable[[RunRecord], bool] = lambda record: False) -> None:
        """Give out what waited for workers to say what they hold.

        Args:
            losses_of: Says which steps of a run nobody will end.
            but: Runs that go on waiting.
        """
        waiting = [record for record in self._store.unfinished() if record.may_be_out]
        held = [record for record in waiting if not but(record)]
        self.holding = len(held) < len(waiting)
        for record in held:
            record.may_be_out = False
            if not record.is_final:
                self._give_out_anew(record, losses_of(record))
        self.reconcile_all(held)

    def _give_out_anew(self, record: RunRecord, losses: Mapping[str, tuple[Outcome, str | None]]) -> None:
        """Have steps that nobody will end told as lost, and go out under another id; that costs a write.

        What was given out a moment before the old operator's end is not written down, and mostly nobody knows to whom.
        It goes out under the id that it had: as long as somebody else has it, nobody but that worker may speak of it.
        """
        for step, (outcome, why) in losses.items():
            state = record.run.status.steps.get(step)
            if step not in record.attempts and (state is None or not state.phase.is_final):
                identity = current_attempt_id(record.run, step)
                report = Report(attempt_id=identity, outcome=outcome, at=self._clock(), error=why)
                record.reports.setdefault(step, report)

    def reconcile_held(self) -> None:
        """Have the runs looked at that wait for workers to say what they hold: there is something to tell."""
        self.reconcile_all([record for record in self._store.unfinished() if record.may_be_out])

    def reconcile_all(self, records: Iterable[RunRecord]) -> None:
        """Reconcile many runs: some at once, the rest between other work, so that no stream waits for all of them."""
        self._reconcile_rest(iter(records))

    def _reconcile_rest(self, records: Iterator[RunRecord]) -> None:
        turns = Turns()
        for record in records:
            self.reconcile(record)
            if turns.is_over:
                asyncio.get_running_loop().call_soon(self._reconcile_rest, records)
                return

    # --- Reports of workers

    def report(self, identity: str, report: Report, *, run_uid: str | None = None) -> asyncio.Future[None] | None:
        """Take in how an attempt ended.

        Returns:
            Done when the run's status speaks of it; None: nobody waits for this attempt (any more).

        Raises:
            NotReady: Its worker has not said yet that it holds this attempt, from before a restart.
        """
        attempt = self.attempts.get(identity)
        record = self._store.get(attempt.ref) if attempt else self._store.by_uid(run_uid) if run_uid else None
        step = attempt.step.name if attempt else self.step_of(record, identity) if record else None
        if record is None or step is None:
            if self.holding and (record is None or record.may_be_out):
                raise NotReady("this operator has just started, and does not know all attempts yet; repeat the call")
            return None
        acknowledged = asyncio.get_running_loop().create_future()
        record.acks.setdefault(identity, []).append(acknowledged)
        before = record.reports.get(step)
        if before is None or (before.is_assumed and before.attempt_id not in record.being_written):
            record.reports[step] = report  # what a worker says beats what we took its silence for
        if attempt is not None:
            self.attempts.left(attempt)
        self.reconcile(record)
        return acknowledged

    def label_root(self, record: RunRecord) -> None:
        """Give a root run that a person made the labels by which its children are found: one selector for the tree.

        It costs a write, so a run that spawns nothing goes without: its name finds it.
        """
        run = record.whole
        if run is None or run.spec.parent is not None or labels.ROOT in run.metadata.labels or record.is_labelled:
            return
        record.is_labelled = True  # once: who takes the label away again, wants it so
        own = {labels.ROOT: root_label(run.metadata.name), labels.WORKFLOW: run.spec.workflow}
        self._in_background(record, self._label(record, {**own, labels.ROOT_UID: record.uid, **run.metadata.labels}))

    async def _label(self, record: RunRecord, wanted: dict[str, str]) -> None:
        ref, patch = record.ref, {"metadata": {"uid": record.uid, "labels": wanted}}
        try:
            answer = await self._api.until_answered(self._api.patch, RUNS, ref.namespace, ref.name, patch)
        except (NotFound, Conflict):
            return  # deleted meanwhile
        except Refused as error:
            log.warning("run not labelled", extra={"run": str(ref), "error": str(error)})
            return
        self.observe("MODIFIED", answer)

    def _settle(self, record: RunRecord) -> None:
        """Answer the calls whose report the persisted status speaks of, or makes void."""
        for step, report in list(record.reports.items()):
            state = record.run.status.steps.get(step)
            step_is_final = state is not None and state.phase.is_final
            if not (record.is_final or step_is_final or current_attempt_id(record.run, step) != report.attempt_id):
                continue
            del record.reports[step]
            attempt = record.attempts.get(step)
            if attempt is not None and attempt.id == report.attempt_id:
                self.attempts.forget(record, attempt)
                self.attempts.left(attempt)  # which may have said to hold it after the report came
            self._acknowledge(record, report.attempt_id)

    def _acknowledge(self, record: RunRecord, identity: str) -> None:
        for future in record.acks.pop(identity, ()):
            if not future.done():
                future.set_result(None)

    # --- Writing

    def _start_writing(self, record: RunRecord, status: RunStatus) -> None:
        record.writing = True
        record.being_written = frozenset(report.attempt_id for report in record.reports.values())
        if status.children is not None:
            record.children_written_at = self._clock()
        if status.reason == Reason.WAITING_FOR_WORKER and status.message != record.run.status.message:
            record.waiting_told_at = self._clock()
        version = record.run.metadata.resource_version  # now: in a moment, the record may hold a newer object
        self._in_background(record, self._write(record, status, over=version))

    def _in_background(self, record: RunRecord, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._poisoned(record, error)

        task.add_done_callback(ended)

    async def _write(self, record: RunRecord, status: RunStatus, *, over: str) -> None:
        try:
            newest = await self._writer.write(record, status, over=over)
        except Refused as error:
            record.refused = True
            self._events.warn(record.run, Reason.STATUS_REFUSED, error.message)
            return
        finally:
            record.writing, record.being_written = False, NO_ATTEMPTS
        if newest is None:
            self._forget(record)
            return
        self.observe("MODIFIED", newest)
        self.reconcile(record)  # also where the answer told nothing new: what came while it was written waits

    # --- Ends

    def _ended(self, record: RunRecord) -> None:
        """A run became final, or was asked to: tell those who await it, and its family."""
        if record.is_final:
            for stream in list(record.awaited_by):
                stream.finished(record)
            self._on_end(record)
        self.reconcile_all(self._store.unfinished_children_of(record.uid))
        self._reconcile_root(record)

    def _reconcile_root(self, record: RunRecord) -> None:
        """A tree may have become final as a whole: its root is deleted when its time is over."""
        while record.parent_uid is not None:
            above = self._store.by_uid(record.parent_uid)
            if above is None or not above.is_final:
                return
            record = above
        if record.is_final:
            self.reconcile(record)

    def _forget(self, record: RunRecord) -> None:
        """The object is gone: so are its attempts, and nobody may wait for it."""
        if record.gone:
            return
        self._store.drop(record)
        if record.recheck is not None:
            record.recheck.cancel()
        for child in self._store.children_of(record.uid):
            if not child.above_is_gone and self._goes_with_parent(child):
                self._hold_back(child, True)
        for attempt in list(record.attempts.values()):
            self.attempts.take_back(record, attempt)
        record.reports.clear()
        for identity in list(record.acks):
            self._acknowledge(record, identity)
        record.has_gone()
        self._on_end(record)
        for stream in list(record.awaited_by):
            stream.deleted(record)
        if record.parent_uid is not None and (above := self._store.by_uid(record.parent_uid)) is not None:
            self.reconcile(above)
            self._reconcile_root(above)  # whose time may be over, and which waited for this run

    def _goes_with_parent(self, record: RunRecord) -> bool:
        """Whether garbage collection takes the run; one that was left behind on purpose has lost its owner before."""
        if record.owner_uid is None:
            return False
        parent = self._store.by_uid(record.owner_uid)
        return parent.above_is_gone if parent is not None else self._store.was_deleted(record.owner_uid)

    def _hold_back(self, record: RunRecord, above_is_gone: bool) -> None:
        """Have nothing of a run and of those below it wait for the slots that a deleted tree gives back; or again."""
        unfinished = []
        for run in (record, *self._store.below(record.uid)):
            run.above_is_gone = above_is_gone
            if not run.is_final:
                unfinished.append(run)
        if not above_is_gone:
            self.reconcile_all(unfinished)
            return
        for run in unfinished:
            self.attempts.leave_queue(run)

    def _delete_when_expired(self, record: RunRecord, now: datetime) -> None:
        """Delete a finished root run whose time is over and whose whole tree is final; children go with it."""
        if self.loading or record.parent_uid is not None or record.finished_at is None or record.is_deleting:
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

    # --- Memory

    def _forget_object_later(self, record: RunRecord) -> None:
        """Keep a finished run's object for those who ask how it ended, for a moment, and for a few runs only."""
        loop = asyncio.get_running_loop()
        self._whole.setdefault(record, loop.time())
        if len(self._whole) > _WHOLE_AT_MOST:
            oldest = next(iter(self._whole))
            del self._whole[oldest]
            oldest.forget_object()
        if self._forgetting is None:
            self._forgetting = loop.call_later(_WHOLE_SECONDS, self._forget_objects)

    def _forget_objects(self) -> None:
        loop = asyncio.get_running_loop()
        for record, since in list(self._whole.items()):
            if loop.time() - since >= self._kept_for(record):
                del self._whole[record]
                record.forget_object()
        self._forgetting = loop.call_later(_WHOLE_SECONDS, self._forget_objects) if self._whole else None

    def _kept_for(self, record: RunRecord) -> float:
        """For how many seconds the object of a run that has just finished, or was just read, is likely asked for."""
        parent = self._store.by_uid(record.parent_uid) if record.parent_uid is not None else None
        may_ask = parent is not None and not parent.is_final and not record.is_told
        return _WHOLE_FOR_PARENT_SECONDS if may_ask else _WHOLE_SECONDS

    # --- Time

    def _recheck_at(self, record: RunRecord, when: datetime | None, now: datetime) -> None:
        """Have the run reconciled at a point in time; an earlier one that is already set stays."""
        if when is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max((when - now).total_seconds(), 0.0)
        if record.recheck is not None and record.recheck_due > loop.time():
            if record.recheck_due <= at:
                return
            record.recheck.cancel()
        # The time is kept beside the handle: uvloop's handle of a call that is due at once has none.
        record.recheck, record.recheck_due = loop.call_at(at, self._recheck, record), at

    def _recheck(self, record: RunRecord) -> None:
        record.recheck = None
        self.reconcile(record)

    def _reconcile_soon(self, attempts: list[Attempt]) -> None:
        # Not at once: a worker may leave the queue while the run is reconciled whose attempt it had.
        asyncio.get_running_loop().call_soon(self.reconcile_waiting, attempts)

    def reconcile_waiting(self, attempts: list[Attempt]) -> None:
        """Have the runs of attempts reconciled, since what these wait for is another now."""
        found = (self._store.get(attempt.ref) for attempt in attempts)
        self.reconcile_all([record for record in found if record is not None])

    async def stop(self) -> None:
        """Drop what is in flight; it is found again in the objects."""
        self.stopped = True
        self.attempts.stop()
        if self._forgetting is not None:
            self._forgetting.cancel()
        await self._expiry.stop()
        for record in self._store:
            if record.recheck is not None:
                record.recheck.cancel()
        tasks = [*self._tasks, *self._reads.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
