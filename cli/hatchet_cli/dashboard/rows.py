"""What the page needs of an object, as JSON that is as small as it gets: there may be ten thousand of them. Pure."""

from typing import Any

from hatchet_operator.decisions.concurrency import limits_of
from hatchet_operator.decisions.crons import effective_crons
from hatchet_operator.decisions.pooling import ending_of, trouble_of
from hatchet_operator.resources.base import Condition, Json
from hatchet_operator.resources.pod import Pod
from hatchet_operator.resources.rate_limit import RateLimit
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import StepDefinition, Workflow


def run_row(run: WorkflowRun) -> Json:
    """Return a run as a row: fields without a value are left out, times are milliseconds since 1970."""
    status, parent = run.status, run.spec.parent
    return _filled(
        uid=run.metadata.uid,
        version=run.metadata.resource_version,
        name=run.metadata.name,
        workflow=run.spec.workflow,
        phase=status.phase.value,
        reason=status.reason,
        created=_milliseconds(run.metadata.creation_timestamp),
        started=_milliseconds(status.started_at),
        finished=_milliseconds(status.finished_at),
        starts=_milliseconds(run.spec.start_at),
        parent=parent.uid if parent else None,
        parentName=parent.name if parent else None,
        step=parent.step if parent else None,
        key=parent.key if parent else None,
        index=parent.ordinal if parent else None,
        children=status.children.total if status.children else None,
        groups=list(status.concurrency_groups) if status.concurrency_groups else None,
        suspended=run.spec.suspended or None,
        metadata={key: str(value) for key, value in (run.spec.additional_metadata or {}).items()} or None,
    )


def workflow_row(workflow: Workflow) -> Json:
    status, definition = workflow.status, workflow.status.definition
    return _filled(
        uid=workflow.metadata.uid,
        name=workflow.metadata.name,
        title=workflow.exact_name,
        description=definition.description if definition else None,
        version=definition.version if definition else None,
        pool=status.pool,
        workers=status.workers,
        suspended=workflow.spec.suspended or None,
        steps=[_step(step) for step in definition.steps] if definition else [],
        onFailure=_step(definition.on_failure) if definition and definition.on_failure else None,
        lastTick=_milliseconds(status.last_tick),
        nextTick=_milliseconds(status.next_tick),
        waiting=status.waiting,
        crons=_crons(workflow) or None,
        groups=_groups(workflow) or None,
        groupCount=status.groups,
        conditions=_conditions(status.conditions),
    )


def _crons(workflow: Workflow) -> list[Json]:
    """Return a person's crons and those of the code, each with what became of it."""
    seen = {(each.schedule, each.time_zone): each for each in workflow.status.crons}
    found = []
    for cron in effective_crons(workflow.spec, workflow.status.definition):
        status = seen.get((cron.schedule, cron.time_zone))
        found.append(
            _filled(
                schedule=cron.schedule,
                zone=cron.time_zone,
                suspended=cron.suspended or None,
                overlap=cron.concurrency_policy.value,
                catchUp=cron.catch_up.value,
                lastTick=_milliseconds(status.last_tick) if status else None,
                lastRun=status.last_run if status else None,
                nextTick=_milliseconds(status.next_tick) if status else None,
                message=status.message if status else None,
            )
        )
    return found


def _groups(workflow: Workflow) -> list[Json]:
    """Return the concurrency groups that the status shows, each with how many runs its limit lets go on."""
    definition = workflow.status.definition
    limits = limits_of(workflow.spec, definition) if definition else ()
    most = {limit.expression: limit.max_runs for limit in limits}
    return [
        _filled(
            expression=group.expression,
            key=group.key,
            active=group.active,
            waiting=group.waiting,
            most=most.get(group.expression),
            activeRuns=list(group.active_runs) or None,
            waitingRuns=list(group.waiting_runs) or None,
        )
        for group in workflow.status.concurrency_groups or ()
    ]


def pool_row(pool: WorkerPool) -> Json:
    status = pool.status
    return _filled(
        uid=pool.metadata.uid,
        name=pool.metadata.name,
        replicas=status.replicas,
        ready=status.ready_replicas,
        desired=status.desired_replicas,
        least=pool.spec.smallest,
        most=pool.spec.largest,
        slots=status.slots,
        running=status.running,
        queued=status.queued,
        oldest=_milliseconds(status.oldest_queued_at),
        conditions=_conditions(status.conditions),
    )


def rate_limit_row(limit: RateLimit) -> Json:
    return _filled(
        uid=limit.metadata.uid,
        name=limit.metadata.name,
        key=limit.key,
        limit=limit.spec.limit,
        window=limit.to_wire()["spec"]["window"],
        used=limit.status.used,
        waiting=limit.status.waiting,
        waitingRuns=list(limit.status.waiting_runs or ()) or None,
        refills=_milliseconds(limit.status.refills_at),
        conditions=_conditions(limit.status.conditions),
    )


def pod_row(pod: Pod) -> Json:
    """Return a pod of a pool, and why its worker does not run, if it does not."""
    ready = pod.condition("Ready")
    return _filled(
        uid=pod.uid,
        name=pod.name,
        node=pod.node,
        phase=pod.phase,
        isReady=ready.status == "True",
        trouble=ending_of(pod) or trouble_of(pod),
    )


def _step(step: StepDefinition) -> Json:
    return _filled(name=step.name, parents=list(step.parents), timeout=step.to_wire()["timeout"], retries=step.retries)


def _conditions(conditions: tuple[Condition, ...]) -> list[Json]:
    return [
        _filled(type=each.type, status=each.status, reason=each.reason, message=each.message) for each in conditions
    ]


def _milliseconds(time: Any) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _filled(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None and value != ""}
