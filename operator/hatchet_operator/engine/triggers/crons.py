"""Crons: ticks of a workflow's crons become runs, each once.

    a workflow changed, or its next tick has come ─► plan (`decisions.crons`) ─► cancel, create ─► status ─► a timer

A run's name is derived from workflow, schedule, zone and tick, so the API server prevents it from starting twice. The
status is written after the runs, once for all crons of a workflow: after a crash, the runs are found or created.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.crons import CronPlan, cron_input, effective_crons, plan_cron
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.cause import Cause, Origin
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.spawning.trigger import Trigger, check_dedupe
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import IdempotencyCollision, InvalidRequest, NotFound, SpawnConflict, UnknownObject
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef, cron_label, tick_run_name
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.triggers import CronTrigger
from hatchet_operator.resources.workflow import Workflow, WorkflowStatus

log = logging.getLogger(__name__)

_LONGEST_SLEEP_SECONDS = 60.0  # the clock may be adjusted, and a machine may be suspended
_RETRY_SECONDS = 5.0
_STARTS_NOTHING = (IdempotencyCollision, InvalidRequest, SpawnConflict, UnknownObject)  # a quota, a namespace's end


class Crons:
    """Starts the runs of all crons.

    Args:
        api: Where runs are.
        store: The runs that are known.
        workflows: The workflows with the crons.
        spawning: Creates the runs.
        events: Records on a workflow which tick started nothing.
        metrics: Counts what was started.
        clock: Tells the time.
    """

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        workflows: Workflows,
        spawning: Spawning,
        events: EventRecorder,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._api = api
        self._store = store
        self._workflows = workflows
        self._spawning = spawning
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._started = False
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._look_at, failed=self._failed)

    def start(self) -> None:
        """Begin to start runs: everything that exists has been read."""
        self._started = True
        for ref in self._workflows.known():
            self._work.add(ref)

    def workflow_changed(self, ref: ObjectRef) -> None:
        if self._started:
            self._work.add(ref)

    async def stop(self) -> None:
        await self._work.stop()

    def _failed(self, ref: ObjectRef, error: Exception) -> None:
        log.error("crons not looked at, trying again", extra={"workflow": str(ref)}, exc_info=error)
        self._work.add_after(ref, _RETRY_SECONDS)

    def _look_at(self, ref: ObjectRef) -> Coroutine[Any, Any, None] | None:
        workflow = self._workflows.get(ref)
        if workflow is None or ref not in self._workflows:
            return None  # gone, or not registered yet
        status = workflow.status
        crons = effective_crons(workflow.spec, status.definition)
        if not crons and not status.crons:
            return None
        now = self._clock.now()
        plans = [(cron, self._plan(ref, workflow, cron, now)) for cron in crons]
        wanted = _with_crons(status, [plan for _, plan in plans])
        if wanted == status:
            if status.next_tick is not None:
                seconds = (status.next_tick - now).total_seconds()
                self._work.add_after(ref, min(max(seconds, 0.0), _LONGEST_SLEEP_SECONDS))
            return None
        return self._apply(ref, workflow, plans)

    def _plan(self, ref: ObjectRef, workflow: Workflow, cron: CronTrigger, now: datetime) -> CronPlan:
        key = (cron.schedule, cron.time_zone)
        label = cron_label(*key)
        return plan_cron(
            cron,
            next((one for one in workflow.status.crons if (one.schedule, one.time_zone) == key), None),
            name_of=lambda tick: tick_run_name(ref.name, schedule=cron.schedule, zone=cron.time_zone, tick=tick),
            unfinished=[
                record.ref.name
                for record in self._store.unfinished_of(ref)
                if record.run.metadata.labels.get(labels.CRON) == label and not record.cancelled
            ],
            now=now,
        )

    async def _apply(self, ref: ObjectRef, workflow: Workflow, plans: list[tuple[CronTrigger, CronPlan]]) -> None:
        await asyncio.gather(*(self._cancel(ref.namespace, run) for _, plan in plans for run in plan.cancels))
        told = await asyncio.gather(*(self._start(ref, workflow, cron, plan) for cron, plan in plans))
        for plan in told:
            if plan.status.message is not None and plan.status not in workflow.status.crons:
                self._events.warn(workflow, Reason.TICK_NOT_STARTED, plan.status.message)
        await self._workflows.change_status(ref, lambda status: _with_crons(status, told))
        self._work.add(ref)  # for its next tick

    async def _start(self, ref: ObjectRef, workflow: Workflow, cron: CronTrigger, plan: CronPlan) -> CronPlan:
        for tick in plan.starts:
            try:
                created = await self._spawning.trigger_as(
                    tick_run_name(ref.name, schedule=cron.schedule, zone=cron.time_zone, tick=tick),
                    _trigger_of(ref, workflow, cron, tick),
                )
            except _STARTS_NOTHING as error:
                message = f"the tick of {tick:%Y-%m-%d %H:%M} UTC started nothing: {error}"[:1000]
                return CronPlan(status=plan.status.model_copy(update={"message": message}))
            self._metrics.ticks.inc(created)
        return plan

    async def _cancel(self, namespace: str, run: str) -> None:
        try:
            await self._api.until_answered(self._api.patch, RUNS, namespace, run, {"spec": {"cancelled": True}})
        except NotFound:
            return


def _trigger_of(ref: ObjectRef, workflow: Workflow, cron: CronTrigger, tick: datetime) -> Trigger:
    """Return the request for the run of a tick.

    Raises:
        InvalidRequest: A person gave the cron a deduplication value that makes no sense.
    """
    metadata = cron.additional_metadata or {}
    check_dedupe(metadata, what="additionalMetadata of the cron")
    return Trigger(
        caller=Caller(namespace=ref.namespace, pool=workflow.spec.pool or workflow.status.pool or ""),
        workflow=workflow.exact_name,
        input_json=cron_input(cron, workflow.status.definition),
        metadata=metadata,
        priority=cron.priority,
        origin=Origin(
            cause=Cause.CRON,
            labels={labels.CRON: cron_label(cron.schedule, cron.time_zone)},
            annotations={
                labels.SCHEDULE: f"{cron.schedule} {cron.time_zone}",
                labels.TICK: tick.isoformat().replace("+00:00", "Z"),
            },
        ),
    )


def _with_crons(status: WorkflowStatus, plans: list[CronPlan]) -> WorkflowStatus:
    crons = tuple(plan.status for plan in plans)
    return status.model_copy(
        update={
            "crons": crons,
            "last_tick": max((cron.last_tick for cron in crons if cron.last_tick), default=status.last_tick),
            "next_tick": min((cron.next_tick for cron in crons if cron.next_tick), default=None),
        }
    )
