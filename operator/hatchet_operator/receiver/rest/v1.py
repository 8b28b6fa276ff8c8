"""Runs as clients from 1.0 on know them: a run of one task is that task, any other has tasks. No effects."""

from typing import Any

from hatchet_operator.decisions.results import error_told
from hatchet_operator.receiver.rest.models import Metadata, RunDetails, RunSummary, ShapeItem, TaskEvent, TaskSummary
from hatchet_operator.receiver.rest.sight import SeenRun
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import StepStatus

STATUSES = {
    "QUEUED": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "COMPLETED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.CANCELLED,
}
"""What a filter may name, and what it means here."""
_STATUS = {phase: name for name, phase in STATUSES.items()}
_END = {Phase.SUCCEEDED: "FINISHED", Phase.FAILED: "FAILED", Phase.CANCELLED: "CANCELLED"}


def status_name(phase: Phase) -> str:
    return _STATUS[phase]


def row(seen: SeenRun) -> TaskSummary:
    """Show a run in a list."""
    if seen.is_one_task:
        (task,) = tasks(seen)
        return task.model_copy(update={"display_name": seen.run.metadata.name})
    run, children = seen.run, seen.run.status.children
    return TaskSummary(
        metadata=_metadata(seen, seen.uid),
        additional_metadata=run.spec.additional_metadata or {},
        children=tasks(seen),
        created_at=seen.created_at,
        display_name=run.metadata.name,
        duration=seen.duration,
        error_message=_run_error(seen),
        finished_at=run.status.finished_at,
        input=seen.input(),
        num_spawned_children=children.total if children else 0,
        output=_run_output(seen),
        parent_task_external_id=seen.parent_task_id,
        started_at=run.status.started_at,
        status=_STATUS[run.status.phase],
        task_external_id=seen.uid,
        task_inserted_at=seen.created_at,
        tenant_id=seen.tenant,
        type="DAG",
        workflow_id=seen.workflow_id,
        workflow_name=seen.workflow_name,
        workflow_run_external_id=seen.uid,
        workflow_version_id=run.status.definition,
    )


def tasks(seen: SeenRun) -> tuple[TaskSummary, ...]:
    """Show the tasks of a run."""
    return tuple(task(seen, name) for name in seen.steps)


def task(seen: SeenRun, name: str) -> TaskSummary:
    """Show a task of a run."""
    run, state, step = seen.run, seen.state(name), seen.step(name)
    children = run.status.children if seen.is_one_task else None  # for several tasks, children are not counted per task
    # A run that failed or was cancelled before its task began says so itself.
    phase = run.status.phase if seen.is_one_task else state.phase
    return TaskSummary(
        metadata=_metadata(seen, seen.task_id(name)),
        action_id=step.action if step else None,
        additional_metadata=run.spec.additional_metadata or {},
        attempt=state.attempt + 1,
        created_at=seen.created_at,
        display_name=name,
        duration=_milliseconds(state),
        error_message=_run_error(seen) if seen.is_one_task else _error(state),
        finished_at=state.finished_at,
        input=seen.input(),
        num_spawned_children=children.total if children else 0,
        output=seen.output(name),
        parent_task_external_id=seen.parent_task_id,
        retry_count=state.attempt,
        started_at=state.started_at,
        status=_STATUS[phase],
        step_id=seen.step_id(name),
        task_external_id=seen.task_id(name),
        task_inserted_at=seen.created_at,
        tenant_id=seen.tenant,
        type="TASK",
        workflow_id=seen.workflow_id,
        workflow_name=seen.workflow_name,
        workflow_run_external_id=seen.uid,
        workflow_version_id=run.status.definition,
    )


def details(seen: SeenRun) -> RunDetails:
    """Show a run with its tasks."""
    run = seen.run
    return RunDetails(
        run=RunSummary(
            metadata=_metadata(seen, seen.uid),
            additional_metadata=run.spec.additional_metadata or {},
            created_at=seen.created_at,
            display_name=run.metadata.name,
            duration=seen.duration,
            error_message=_run_error(seen),
            finished_at=run.status.finished_at,
            input=seen.input(),
            output=_run_output(seen),
            parent_task_external_id=seen.parent_task_id,
            started_at=run.status.started_at,
            status=_STATUS[run.status.phase],
            tenant_id=seen.tenant,
            workflow_id=seen.workflow_id,
            workflow_version_id=run.status.definition,
        ),
        task_events=_events(seen),
        shape=tuple(_shape(seen, name) for name in seen.steps),
        tasks=tasks(seen),
    )


def _metadata(seen: SeenRun, uid: str) -> Metadata:
    return Metadata(id=uid, created_at=seen.created_at, updated_at=seen.updated_at)


def _run_output(seen: SeenRun) -> dict[str, Any]:
    """Return what the only task returned, or what each of several did, by its name."""
    returned = {name: seen.output(name) for name in seen.steps if seen.state(name).phase is Phase.SUCCEEDED}
    return next(iter(returned.values()), {}) if seen.is_one_task else returned


def _run_error(seen: SeenRun) -> str | None:
    status = seen.run.status
    if status.phase not in (Phase.FAILED, Phase.CANCELLED):
        return None
    told = (_error(seen.state(name)) for name in seen.steps)
    return next((error for error in told if error), None) or status.message


def _error(state: StepStatus) -> str | None:
    if state.phase is Phase.CANCELLED and state.reason == Reason.PREVIOUS_STEP_FAILED:
        return None  # as over gRPC: it never ran
    return error_told(state) if state.phase in (Phase.FAILED, Phase.CANCELLED) else None


def _milliseconds(state: StepStatus) -> int | None:
    if state.started_at is None or state.finished_at is None:
        return None
    return round((state.finished_at - state.started_at).total_seconds() * 1000)


def _shape(seen: SeenRun, name: str) -> ShapeItem:
    after = [each for each in seen.steps if (step := seen.step(each)) is not None and name in step.parents]
    return ShapeItem(
        task_external_id=seen.task_id(name),
        step_id=seen.step_id(name),
        children_step_ids=tuple(seen.step_id(each) for each in after),
        task_name=name,
    )


def _events(seen: SeenRun) -> tuple[TaskEvent, ...]:
    """Say when each task began and ended, of its last attempt: no more is kept."""
    happened = []
    for name in seen.steps:
        state = seen.state(name)
        if state.started_at is not None:
            happened.append((state.started_at, name, "STARTED", f"attempt {state.attempt + 1} was given to a worker"))
        if state.finished_at is not None and state.phase in _END:
            kind = "TIMED_OUT" if state.reason == Reason.TIMED_OUT else _END[state.phase]
            happened.append((state.finished_at, name, kind, state.reason or ""))
    return tuple(
        TaskEvent(
            id=number,
            task_id=seen.task_id(name),
            timestamp=at,
            event_type=kind,
            message=message,
            error_message=_error(seen.state(name)) if kind != "STARTED" else None,
            task_display_name=name,
            retry_count=seen.state(name).attempt,
            attempt=seen.state(name).attempt + 1,
        )
        for number, (at, name, kind, message) in enumerate(sorted(happened, key=lambda each: each[0]), start=1)
    )
