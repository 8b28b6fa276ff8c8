"""What the page needs of an object, as JSON that is as small as it gets: there may be ten thousand of them. Pure."""

from typing import Any

from hatchet_operator.resources.base import Condition, Json
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
        conditions=_conditions(status.conditions),
    )


def pool_row(pool: WorkerPool) -> Json:
    status = pool.status
    return _filled(
        uid=pool.metadata.uid,
        name=pool.metadata.name,
        replicas=status.replicas,
        ready=status.ready_replicas,
        desired=status.desired_replicas,
        least=pool.spec.min_replicas,
        most=pool.spec.max_replicas,
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
        limit=limit.spec.limit,
        window=limit.to_wire()["spec"]["window"],
        used=limit.status.used,
        waiting=limit.status.waiting,
        refills=_milliseconds(limit.status.refills_at),
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
