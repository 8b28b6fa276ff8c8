"""Attempts: what a worker gets to execute or to stop, and what it reports."""

from collections.abc import Mapping

import orjson

from hatchet_operator.decisions.inputs import input_text
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.results import error_told
from hatchet_operator.decisions.tracing import TRACEPARENT
from hatchet_operator.dispatcher.stamps import time_of
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import CancelCommand
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.spawning.cause import cause_of
from hatchet_operator.engine.workers.registry import ClaimedAttempt
from hatchet_operator.resources.names import job_id, tenant_id
from hatchet_operator.resources.run import RunSpec
from hatchet_operator.resources.workflow import GROUP_KEY_STEP
from hatchet_sdk.contracts import dispatcher_pb2 as wire

NO_TEXTS: Mapping[str, str] = {}

OUTCOMES = {
    wire.STEP_EVENT_TYPE_COMPLETED: Outcome.COMPLETED,
    wire.STEP_EVENT_TYPE_FAILED: Outcome.FAILED,
    wire.STEP_EVENT_TYPE_CANCELLED: Outcome.CANCELLED,
}
"""Event types that end an attempt; STARTED and ACKNOWLEDGED say nothing that the operator does not know."""


def start_action(
    attempt: Attempt,
    record: RunRecord,
    *,
    names: bool,
    texts: Mapping[str, str] = NO_TEXTS,
    traceparent: str | None = None,
) -> wire.AssignedAction:
    """Tell a worker to execute an attempt.

    Args:
        attempt: The attempt.
        record: Its run.
        names: Whether the worker knows runs by their names; otherwise by their UIDs.
        texts: What it gets instead of references.
        traceparent: The attempt's span, for those who work for it; None: there is none.
    """
    run = record.run
    parent = run.spec.parent
    action = wire.AssignedAction(
        tenant_id=tenant_id(run.metadata.namespace),
        workflow_run_id=run.metadata.name if names else run.metadata.uid,
        job_id=job_id(attempt.graph.revision, on_failure=attempt.step is attempt.graph.on_failure),
        job_name=attempt.graph.workflow,
        job_run_id=run.metadata.uid,
        task_id=f"{attempt.graph.revision}/{attempt.step.name}",
        task_run_external_id=attempt.id,
        action_id=attempt.step.action,
        action_type=wire.START_STEP_RUN,
        action_payload=_payload(record, texts),
        task_name=attempt.step.name,
        retry_count=attempt.number,
        priority=attempt.priority,
        workflow_id=attempt.graph.workflow,
        workflow_version_id=attempt.graph.revision,
    )
    if attempt.step.name == GROUP_KEY_STEP and not names:  # in our SDK it is a step like any other
        action.action_type = wire.START_GET_GROUP_KEY
        action.get_group_key_run_id, action.task_run_external_id = attempt.id, ""
        action.action_payload = texts.get(given := input_text(run.spec), given)
    if (metadata := _metadata(run.spec, traceparent)) is not None:
        action.additional_metadata = metadata
    if parent is not None:
        action.parent_workflow_run_id = parent.name if names else parent.uid
        action.child_workflow_index = parent.index
        if parent.key is not None:
            action.child_workflow_key = parent.key
    return action


def _metadata(spec: RunSpec, traceparent: str | None) -> str | None:
    metadata = spec.additional_metadata
    if traceparent is not None:
        metadata = {**(metadata or {}), TRACEPARENT: traceparent}
    return orjson.dumps(metadata).decode() if metadata else None


def _payload(record: RunRecord, texts: Mapping[str, str]) -> str:
    """Build the payload around texts that are JSON already: an input is passed through without parsing it."""
    run = record.run
    steps = run.status.steps
    returned = {
        name: state.output or "{}"
        for name, state in steps.items()
        if state.phase == "Succeeded" and name != GROUP_KEY_STEP
    }
    outputs = ",".join(f"{_quoted(name)}:{texts.get(text, text)}" for name, text in returned.items())
    errors = {name: error_told(state) or "" for name, state in steps.items() if state.phase in ("Failed", "Cancelled")}
    given = input_text(run.spec)
    given = texts.get(given, given)
    cause = cause_of(run)
    of_filter = f',"triggers":{{"filter_payload":{run.spec.filter_payload}}}' if _has_object(run.spec) else ""
    return (
        f'{{"input":{given},"triggered_by":"{cause}","parents":{{{outputs}}},"user_data":{{}},"overrides":{{}},'
        f'"step_run_errors":{orjson.dumps(errors).decode()}{of_filter}}}'
    )


def _has_object(spec: RunSpec) -> bool:
    """Whether a run has a filter's payload; a text that is not JSON, whoever wrote it, would break the message."""
    if spec.filter_payload is None:
        return False
    try:
        return isinstance(orjson.loads(spec.filter_payload), dict)
    except ValueError:
        return False


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


def claimed_attempts(request: wire.WorkerListenRequest) -> list[ClaimedAttempt] | None:
    if not request.reports_held:
        return None
    return [
        ClaimedAttempt(
            run=item.workflow_run_id,
            attempt_id=item.task_run_external_id,
            step=item.task_name,
            started_at=time_of(item.started_at),
        )
        for item in request.held
    ]


def group_key_report(request: wire.GroupKeyActionEvent) -> tuple[Outcome, str] | None:
    """Read how asking for a group's key ended, as the report of a step; None: it has only begun."""
    if request.event_type == wire.GROUP_KEY_EVENT_TYPE_FAILED:
        return Outcome.FAILED, request.event_payload
    if request.event_type != wire.GROUP_KEY_EVENT_TYPE_COMPLETED:
        return None
    try:
        key = orjson.loads(request.event_payload or "null")
    except ValueError:
        key = request.event_payload
    if isinstance(key, bool | None) or not isinstance(key, str | int | float):
        what = "None" if key is None else f"a {type(key).__name__}"
        return Outcome.FAILED, f"the method that names the concurrency group returned {what}; expected a text"
    return Outcome.COMPLETED, orjson.dumps({"key": str(key)}).decode()
