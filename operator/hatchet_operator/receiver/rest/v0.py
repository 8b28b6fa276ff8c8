"""Runs as clients before 1.0 know them: a run has jobs, the second one is its on-failure step. No effects."""

from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.decisions.results import error_told
from hatchet_operator.durations import format_duration
from hatchet_operator.receiver.rest.models import (
    JobRun,
    Metadata,
    Step,
    StepRun,
    TriggeredBy,
    WorkflowRun,
)
from hatchet_operator.receiver.rest.sight import SeenRun
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import job_id, step_uuid
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.workflow import StepDefinition

STATUSES = {
    "PENDING": Phase.PENDING,
    "QUEUED": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.CANCELLED,
}
"""What a filter may name, and what it means here."""
_STATUS = {phase: name for name, phase in STATUSES.items() if name != "QUEUED"}
_MAIN, _ON_FAILURE = "main", "on-failure"


def shown(seen: SeenRun, *, whole: bool = True) -> WorkflowRun:
    """Show a run; ``whole``: with its steps and its input, which lists do without."""
    run, uid = seen.run, seen.uid
    parent = run.spec.parent
    return WorkflowRun(
        metadata=_metadata(seen, uid),
        tenant_id=seen.tenant,
        workflow_id=seen.workflow_id,
        workflow_version_id=_version(seen),
        display_name=run.metadata.name,
        status=_STATUS[run.status.phase],
        triggered_by=TriggeredBy(
            metadata=_metadata(seen, uid),
            parent_id=uid,
            parent_workflow_run_id=parent.uid if parent else None,
            event_id=run.metadata.labels.get(labels.EVENT),
        ),
        job_runs=_job_runs(seen) if whole else None,
        input=seen.input() if whole else None,
        error=run.status.message if run.status.phase is Phase.FAILED else None,
        started_at=run.status.started_at,
        finished_at=run.status.finished_at,
        duration=seen.duration,
        parent_id=parent.uid if parent else None,
        parent_step_run_id=seen.parent_task_id,
        additional_metadata=run.spec.additional_metadata or {},
    )


def shown_step(step: StepDefinition, *, metadata: Metadata, tenant: str, job: str) -> Step:
    """Show a step of a definition."""
    return Step(
        metadata=metadata,
        readable_id=step.name,
        tenant_id=tenant,
        job_id=job,
        action=step.action,
        timeout=format_duration(step.timeout),
        parents=step.parents,
    )


def _version(seen: SeenRun) -> str:
    return seen.run.status.definition or (seen.graph.revision if seen.graph else "")


def _metadata(seen: SeenRun, uid: str) -> Metadata:
    return Metadata(id=uid, created_at=seen.created_at, updated_at=seen.updated_at)


def _job_runs(seen: SeenRun) -> tuple[JobRun, ...]:
    last = seen.graph.on_failure.name if seen.graph and seen.graph.on_failure else None
    main = [name for name in seen.steps if name != last]
    jobs = [_job_run(seen, main, on_failure=False)]
    if last is not None:
        jobs.append(_job_run(seen, [last], on_failure=True))
    return tuple(jobs)


def _job_run(seen: SeenRun, steps: list[str], *, on_failure: bool) -> JobRun:
    uid = step_uuid(seen.uid, _ON_FAILURE if on_failure else _MAIN)
    job = job_id(seen.graph.revision if seen.graph else seen.uid, on_failure=on_failure)
    # the on-failure step is the only one of its job
    phase = seen.state(steps[0]).phase if on_failure else seen.run.status.phase
    return JobRun(
        metadata=_metadata(seen, uid),
        tenant_id=seen.tenant,
        workflow_run_id=seen.uid,
        job_id=job,
        status=_STATUS[phase],
        step_runs=tuple(_step_run(seen, name, job=job, job_run=uid) for name in steps),
    )


def _step_run(seen: SeenRun, name: str, *, job: str, job_run: str) -> StepRun:
    state, step = seen.state(name), seen.step(name)
    # what workers get as the id of the step, too
    step_id = f"{seen.graph.revision}/{name}" if seen.graph else name
    return StepRun(
        metadata=_metadata(seen, current_attempt_id(seen.run, name)),
        tenant_id=seen.tenant,
        job_run_id=job_run,
        step_id=step_id,
        step=None
        if step is None
        else shown_step(step, metadata=_metadata(seen, seen.step_id(name)), tenant=seen.tenant, job=job),
        status=_STATUS[state.phase],
        output=seen.output_text(name),
        error=error_told(state) if state.phase in (Phase.FAILED, Phase.CANCELLED) else None,
        started_at=state.started_at,
        finished_at=state.finished_at,
        cancelled_reason=state.reason if state.phase is Phase.CANCELLED else None,
    )


def status_name(phase: Phase) -> str:
    return _STATUS[phase]
