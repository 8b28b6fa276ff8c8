"""Between protobuf messages and our own types, both ways. No effects."""

from datetime import UTC, datetime, timedelta

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.decisions.inputs import input_text
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.results import error_told
from hatchet_operator.durations import parse_duration
from hatchet_operator.engine.records import Attempt, RunRecord
from hatchet_operator.engine.registry import Held, RegistrationRequest
from hatchet_operator.engine.results import RunResult
from hatchet_operator.engine.spawning import ParentAttempt, Trigger, parse_object
from hatchet_operator.engine.workers import CancelCommand
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.identity import Caller
from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.names import tenant_id
from hatchet_operator.resources.reasons import OnParentClose
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_DEFAULT_TIMEOUT = "60s"
_DEFAULT_SCHEDULE_TIMEOUT = "5m"
_PRIORITIES = (1, 3)
_MAX_WORKER_NAME = 253  # what a step's status has room for
_DEDUPLICATE = "dedupe"
_LOWEST_INDEX = -1
_LONGEST_KEY = 65_536

OUTCOMES = {
    wire.STEP_EVENT_TYPE_COMPLETED: Outcome.COMPLETED,
    wire.STEP_EVENT_TYPE_FAILED: Outcome.FAILED,
    wire.STEP_EVENT_TYPE_CANCELLED: Outcome.CANCELLED,
}
"""Event types that end an attempt; STARTED and ACKNOWLEDGED tell nothing that the operator does not know."""


# --- To the worker


def start_action(attempt: Attempt, record: RunRecord, *, names: bool) -> wire.AssignedAction:
    """Tell a worker to execute an attempt; ``names``: it knows runs by their names, and else by their UIDs."""
    run = record.run
    parent = run.spec.parent
    action = wire.AssignedAction(
        tenant_id=tenant_id(run.metadata.namespace),
        workflow_run_id=run.metadata.name if names else run.metadata.uid,
        job_id=_job_id(attempt),
        job_name=attempt.graph.workflow,
        job_run_id=run.metadata.uid,
        task_id=f"{attempt.graph.revision}/{attempt.step.name}",
        task_run_external_id=attempt.id,
        action_id=attempt.step.action,
        action_type=wire.START_STEP_RUN,
        action_payload=_payload(attempt, record),
        task_name=attempt.step.name,
        retry_count=attempt.number,
        priority=attempt.priority,
        workflow_id=attempt.graph.workflow,
        workflow_version_id=attempt.graph.revision,
    )
    if run.spec.additional_metadata:
        action.additional_metadata = orjson.dumps(run.spec.additional_metadata).decode()
    if parent is not None:
        action.parent_workflow_run_id = parent.name if names else parent.uid
        action.child_workflow_index = parent.index
        if parent.key is not None:
            action.child_workflow_key = parent.key
    return action


def _job_id(attempt: Attempt) -> str:
    # The on-failure step is a job of its own: clients tell the two apart by the job's id.
    job = "on-failure" if attempt.step is attempt.graph.on_failure else "main"
    return f"{attempt.graph.revision}/{job}"


def _payload(attempt: Attempt, record: RunRecord) -> str:
    """Build the payload around texts that are JSON already: an input is never parsed on its way through."""
    run = record.run
    steps = run.status.steps
    outputs = ",".join(
        f"{_quoted(name)}:{state.output or '{}'}" for name, state in steps.items() if state.phase == "Succeeded"
    )
    errors = {name: error_told(state) or "" for name, state in steps.items() if state.phase in ("Failed", "Cancelled")}
    given = input_text(run.spec)
    cause = "parent" if run.spec.parent else "manual"
    return (
        f'{{"input":{given},"triggered_by":"{cause}","parents":{{{outputs}}},"user_data":{{}},"overrides":{{}},'
        f'"step_run_errors":{orjson.dumps(errors).decode()}}}'
    )


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def cancel_action(command: CancelCommand, namespace: str, *, run_id: str) -> wire.AssignedAction:
    """Tell a worker to stop an attempt."""
    return wire.AssignedAction(
        tenant_id=tenant_id(namespace),
        workflow_run_id=run_id,
        task_run_external_id=command.attempt_id,
        task_name=command.step,
        retry_count=command.retry_count,
        action_type=wire.CANCEL_STEP_RUN,
    )


def run_event(result: RunResult) -> wire.WorkflowRunEvent:
    """Tell a client how a run ended."""
    event = wire.WorkflowRunEvent(
        workflow_run_id=result.run, event_type=wire.WORKFLOW_RUN_EVENT_TYPE_FINISHED, phase=result.phase
    )
    event.event_timestamp.GetCurrentTime()
    for step in result.steps:
        event.results.add(
            task_run_external_id=step.attempt_id,
            task_name=step.step,
            job_run_id=result.run,
            error=step.error,
            output=step.output,
        )
    return event


# --- From the worker


def registration_request(request: wire.WorkerRegisterRequest) -> RegistrationRequest:
    slots = request.slots if request.HasField("slots") else request.slot_config.get("default")
    if slots is not None and not 1 <= slots <= 10_000:
        raise InvalidRequest(f'worker "{request.worker_name}" asks for {slots} slots; expected 1 to 10000')
    if len(request.worker_name) > _MAX_WORKER_NAME:
        raise InvalidRequest(
            f"a worker's name has {len(request.worker_name)} characters; expected at most {_MAX_WORKER_NAME}"
        )
    return RegistrationRequest(
        name=request.worker_name,
        actions=tuple(sorted({action.lower() for action in request.actions})),
        slots=slots,
        revisions=tuple(request.workflow_version_ids),
        pod_name=request.pod_name or None,
        pod_uid=request.pod_uid or None,
        worker_id=request.worker_id or None,
        alive_at=time_of(request.alive_at) if request.HasField("alive_at") else None,
    )


def time_of(stamp: Timestamp) -> datetime | None:
    """Read a time that a client tells; None: it is none."""
    try:
        return stamp.ToDatetime(UTC) if stamp.seconds else None
    except (ValueError, OverflowError):
        return None


def held_attempts(request: wire.WorkerListenRequest) -> list[Held] | None:
    if not request.reports_held:
        return None
    return [
        Held(
            run=item.workflow_run_id,
            attempt_id=item.task_run_external_id,
            step=item.task_name,
            started_at=item.started_at.ToDatetime(UTC),
        )
        for item in request.held
    ]


def workflow_definition(opts: workflows_wire.CreateWorkflowVersionOpts) -> WorkflowDefinition:
    """Read a registration.

    Raises:
        InvalidRequest: A part of it makes no sense; the message names workflow and step.
        Unsupported: It asks for a feature that is not there; likewise.
    """
    where = f'workflow "{opts.name}"'
    if not opts.name:
        raise InvalidRequest("a workflow without a name can't be registered; give it one")
    unsupported = {
        "event triggers": opts.event_triggers,
        "cron triggers": opts.cron_triggers,
        "scheduled triggers": opts.scheduled_triggers,
        "concurrency limits": opts.HasField("concurrency"),
        "sticky strategies": opts.HasField("sticky"),
    }
    if asked := [name for name, value in unsupported.items() if value]:
        raise Unsupported(f"{where} asks for {', '.join(asked)}, which this version does not have; remove them")
    steps = [step for job in opts.jobs for step in job.steps]
    on_failure = list(opts.on_failure_job.steps) if opts.HasField("on_failure_job") else []
    if len(on_failure) > 1:
        raise InvalidRequest(f"{where} has {len(on_failure)} on-failure steps; expected at most one")
    try:
        return WorkflowDefinition(
            name=opts.name,
            description=opts.description,
            version=opts.version,
            steps=tuple(_step(where, step) for step in steps),
            on_failure=_step(where, on_failure[0]) if on_failure else None,
            schedule_timeout=_duration(
                opts.schedule_timeout or _DEFAULT_SCHEDULE_TIMEOUT, f"{where}: its schedule timeout"
            ),
            default_priority=opts.default_priority if opts.HasField("default_priority") else None,
        )
    except ValueError as error:  # pydantic's: a name that is too long, a priority of 7
        raise InvalidRequest(f"{where} can't be registered: {error}") from error


def _step(where: str, step: workflows_wire.CreateWorkflowStepOpts) -> StepDefinition:
    here = f'{where}: step "{step.readable_id}"'
    if step.rate_limits:
        raise Unsupported(f"{here} asks for rate limits, which this version does not have; remove them")
    if step.worker_labels:
        raise Unsupported(f"{here} asks for worker labels, which this version does not have; remove them")
    if not step.readable_id:
        raise InvalidRequest(f"{where} has a step without a name; give it one")
    if step.retries < 0:
        raise InvalidRequest(f"{here} has {step.retries} retries; expected 0 or more")
    return StepDefinition(
        name=step.readable_id,
        action=step.action.lower(),
        parents=tuple(step.parents),
        timeout=_duration(step.timeout or _DEFAULT_TIMEOUT, f"{here}: its timeout"),
        retries=step.retries,
        backoff_factor=step.backoff_factor if step.HasField("backoff_factor") else None,
        backoff_max_seconds=step.backoff_max_seconds if step.HasField("backoff_max_seconds") else None,
        max_reassignments=step.max_reassignments if step.HasField("max_reassignments") else None,
    )


def _duration(text: str, what: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidRequest(f"{what}: {error}") from error


def trigger(request: workflows_wire.TriggerWorkflowRequest, caller: Caller) -> Trigger:
    """Read a request for a run.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: It asks for a feature that is not there.
    """
    what = f'input for workflow "{request.name}"'
    metadata_of = f'metadata for workflow "{request.name}"'
    for text, name in ((request.input, what), (request.additional_metadata, metadata_of)):
        if (problem := size_problem(len(text.encode()), name)) is not None:
            raise InvalidRequest(problem)
    parse_object(request.input, what=what)
    if request.desired_worker_id or request.desired_worker_labels:
        raise Unsupported(
            f'the run of workflow "{request.name}" asks for one worker (sticky, or by labels), which this version does '
            "not have; remove it"
        )
    metadata = parse_object(request.additional_metadata, what=metadata_of)
    if _DEDUPLICATE in metadata:  # to run it twice would be worse than to say no
        raise Unsupported(
            f'metadata for workflow "{request.name}" has the entry "{_DEDUPLICATE}", which asks for deduplication; '
            "this version does not have it: spawn with a key, or rename the entry if it means something else"
        )
    lowest, highest = _PRIORITIES
    return Trigger(
        caller=caller,
        workflow=request.name,
        input_json=request.input or "{}",
        metadata=metadata,
        priority=min(max(request.priority, lowest), highest) if request.HasField("priority") else None,
        parent=_parent(request),
        request_id=request.request_id or None,
    )


def _parent(request: workflows_wire.TriggerWorkflowRequest) -> ParentAttempt | None:
    if not request.parent_task_run_external_id:
        if request.parent_id:
            raise InvalidRequest(
                f'a child of run "{request.parent_id}" needs parent_task_run_external_id and child_index too'
            )
        return None
    if not request.HasField("child_index"):
        raise InvalidRequest(f'a child of run "{request.parent_id}" needs child_index')
    if request.HasField("child_key") and not request.child_key:
        raise InvalidRequest(f'the spawn key of a child "{request.name}" is empty; give it a text, or none')
    if request.child_index < _LOWEST_INDEX:
        raise InvalidRequest(f"child_index is {request.child_index}; expected {_LOWEST_INDEX} or more")
    if len(request.child_key) > _LONGEST_KEY:
        raise InvalidRequest(
            f'the spawn key of a child "{request.name}" has {len(request.child_key)} characters; '
            f"at most {_LONGEST_KEY} are taken: use a hash of it"
        )
    return ParentAttempt(
        attempt_id=request.parent_task_run_external_id,
        run=request.parent_id,
        key=request.child_key if request.HasField("child_key") else None,
        index=request.child_index,
        fail_on_conflict=_option(request.on_conflict, "on_conflict", ("fail",)) is not None,
        retry_failed=_option(request.on_failed, "on_failed", ("retry",)) is not None,
        on_parent_close=OnParentClose(
            _option(request.on_parent_close, "on_parent_close", tuple(OnParentClose)) or OnParentClose.ABANDON
        ),
    )


def _option(value: str, name: str, allowed: tuple[str, ...]) -> str | None:
    if value and value not in allowed:
        raise InvalidRequest(f'{name} is "{value}"; expected {" or ".join(allowed)}, or none')
    return value or None
