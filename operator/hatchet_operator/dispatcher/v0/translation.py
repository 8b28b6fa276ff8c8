"""Translates between protobuf messages and our own types, both ways. No effects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.decisions.inputs import input_text
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.results import error_told
from hatchet_operator.decisions.step_events import EventKind
from hatchet_operator.decisions.tracing import TRACEPARENT
from hatchet_operator.durations import parse_duration
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import CancelCommand
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.results import RunResult
from hatchet_operator.engine.spawning.cause import Cause, Origin, cause_of
from hatchet_operator.engine.spawning.trigger import ParentAttempt, Trigger, check_dedupe
from hatchet_operator.engine.streams.buffer import MAX_CHUNK_BYTES, StreamEvent
from hatchet_operator.engine.streams.readers import Metadata
from hatchet_operator.engine.triggers.events import PushedEvent, read_event
from hatchet_operator.engine.workers.registry import Held, RegistrationRequest
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.limits import MAX_BULK_ITEMS, size_problem
from hatchet_operator.resources.names import job_id, tenant_id
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.rate_limit import MAX_KEY, StepRateLimit
from hatchet_operator.resources.reasons import LimitStrategy, OnParentClose, Record, RunOn, Stickiness
from hatchet_operator.resources.run import RunSpec
from hatchet_operator.resources.triggers import EventFilter
from hatchet_operator.resources.worker_labels import (
    DEFAULT_WEIGHT,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    Comparator,
    DesiredLabel,
    LabelValue,
)
from hatchet_operator.resources.workflow import (
    GROUP_KEY_STEP,
    MAX_INPUT_SCHEMA,
    ConcurrencyLimit,
    Idempotency,
    StepDefinition,
    WorkflowDefinition,
)
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import events_pb2 as events_wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_DEFAULT_TIMEOUT = "60s"
_DEFAULT_SCHEDULE_TIMEOUT = "5m"
_PRIORITIES = (1, 3)
_MAX_WORKER_NAME = 253  # what a step's status has room for
_LOWEST_INDEX = -1
_LONGEST_KEY = 65_536
_TOGETHER_BYTES = 65_536
Sendable = TypeVar("Sendable", wire.WorkflowRunEvent, wire.AssignedAction)
NO_TEXTS: Mapping[str, str] = {}

OUTCOMES = {
    wire.STEP_EVENT_TYPE_COMPLETED: Outcome.COMPLETED,
    wire.STEP_EVENT_TYPE_FAILED: Outcome.FAILED,
    wire.STEP_EVENT_TYPE_CANCELLED: Outcome.CANCELLED,
}
"""Event types that end an attempt; STARTED and ACKNOWLEDGED say nothing that the operator does not know."""


# --- To the worker


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
    metadata = run.spec.additional_metadata
    if traceparent is not None:
        metadata = {**(metadata or {}), TRACEPARENT: traceparent}
    if metadata:
        action.additional_metadata = orjson.dumps(metadata).decode()
    if parent is not None:
        action.parent_workflow_run_id = parent.name if names else parent.uid
        action.child_workflow_index = parent.index
        if parent.key is not None:
            action.child_workflow_key = parent.key
    return action


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


def run_event(result: RunResult, texts: Mapping[str, str] = NO_TEXTS) -> wire.WorkflowRunEvent:
    """Tell a client how a run ended; ``texts``: what it gets instead of references."""
    event = wire.WorkflowRunEvent(
        workflow_run_id=result.run, event_type=wire.WORKFLOW_RUN_EVENT_TYPE_FINISHED, phase=result.phase
    )
    event.event_timestamp.GetCurrentTime()
    if result.is_unknown:
        event.is_unknown = True
    for step in result.steps:
        event.results.add(
            task_run_external_id=step.attempt_id,
            task_name=step.step,
            job_run_id=result.run,
            error=step.error,
            output=texts.get(step.output, step.output) if step.output is not None else None,
        )
    return event


def together(parts: Sequence[Sendable]) -> list[Sendable]:
    """Put ends of runs, or actions, into few messages, in their order; a large one stays alone."""
    messages: list[Sendable] = []
    size = _TOGETHER_BYTES
    for part in parts:
        size += part.ByteSize()
        if messages and size <= _TOGETHER_BYTES:
            messages[-1].more.append(part)
        else:
            messages.append(part)
            size = part.ByteSize()
    return messages


def stream_metadata(request: wire.SubscribeToWorkflowEventsRequest) -> Metadata | None:
    """Return the entry of metadata that runs must have to be included; None: a single run is named.

    Raises:
        InvalidRequest: The request names neither.
    """
    if request.workflow_run_id:
        return None
    if not request.additional_meta_key:
        raise InvalidRequest("a stream was asked for without a run's id or a key of metadata; expected one of them")
    return Metadata(request.additional_meta_key, request.additional_meta_value)


_EVENT_TYPES = {
    EventKind.STARTED: wire.RESOURCE_EVENT_TYPE_STARTED,
    EventKind.COMPLETED: wire.RESOURCE_EVENT_TYPE_COMPLETED,
    EventKind.FAILED: wire.RESOURCE_EVENT_TYPE_FAILED,
    EventKind.CANCELLED: wire.RESOURCE_EVENT_TYPE_CANCELLED,
    EventKind.TIMED_OUT: wire.RESOURCE_EVENT_TYPE_TIMED_OUT,
    EventKind.STREAM: wire.RESOURCE_EVENT_TYPE_STREAM,
}


def stream_event(event: StreamEvent, *, run_id: str, hangup: bool) -> wire.WorkflowEvent:
    """Tell a reader what happened; ``hangup``: nothing more will."""
    told = wire.WorkflowEvent(
        workflow_run_id=run_id,
        resource_type=wire.RESOURCE_TYPE_WORKFLOW_RUN if event.is_end else wire.RESOURCE_TYPE_STEP_RUN,
        event_type=_EVENT_TYPES[event.kind],
        resource_id=event.attempt_id or run_id,
        event_payload=event.payload,
        hangup=hangup,
    )
    told.event_timestamp.FromMilliseconds(event.at)
    if not event.is_end:
        told.step, told.retry_count = event.step, event.retry_count
    if event.index >= 0:
        told.event_index = event.index
    return told


def stream_chunks(request: events_wire.PutStreamEventRequest, *, step: str) -> list[str]:
    """Read what a step put into its stream.

    Raises:
        InvalidRequest: A chunk is not text, or too long.
    """
    chunks = []
    for data in (request.message, *request.more_messages):
        if len(data) > MAX_CHUNK_BYTES:
            raise InvalidRequest(
                f'step "{step}" put {len(data)} bytes into its stream at once; expected at most {MAX_CHUNK_BYTES}'
            )
        try:
            chunks.append(data.decode())
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f'step "{step}" put bytes into its stream that are not UTF-8 ({error}); expected text: use base64'
            ) from error
    return chunks


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
        labels=worker_labels(request.labels, who=f'worker "{request.worker_name}"'),
        pod_name=request.pod_name or None,
        pod_uid=request.pod_uid or None,
        worker_id=request.worker_id or None,
        alive_at=time_of(request.alive_at) if request.HasField("alive_at") else None,
    )


def worker_labels(given: Mapping[str, wire.WorkerLabels], *, who: str) -> dict[str, LabelValue]:
    """Read the labels of a worker.

    Raises:
        InvalidRequest: There are too many, or one has no value, or is too long.
    """
    if len(given) > MAX_LABELS:
        raise InvalidRequest(f"{who} has {len(given)} labels; expected at most {MAX_LABELS}")
    return {key: _label_value(key, label, who) for key, label in given.items()}


def _label_value(key: str, label: wire.WorkerLabels | workflows_wire.DesiredWorkerLabels, who: str) -> LabelValue:
    if not 1 <= len(key) <= MAX_LABEL_LENGTH:
        raise InvalidRequest(
            f'{who}: the key of label "{key[:80]}" has {len(key)} characters; 1 to {MAX_LABEL_LENGTH} are taken'
        )
    if label.HasField("int_value"):
        return label.int_value
    if not label.HasField("str_value"):
        raise InvalidRequest(f'{who}: label "{key}" has no value; give it a text or a whole number')
    if len(label.str_value) > MAX_LABEL_LENGTH:
        raise InvalidRequest(
            f'{who}: label "{key}" has {len(label.str_value)} characters; expected at most {MAX_LABEL_LENGTH}'
        )
    return label.str_value


_COMPARATORS = {
    workflows_wire.EQUAL: Comparator.EQUAL,
    workflows_wire.NOT_EQUAL: Comparator.NOT_EQUAL,
    workflows_wire.GREATER_THAN: Comparator.GREATER_THAN,
    workflows_wire.GREATER_THAN_OR_EQUAL: Comparator.GREATER_THAN_OR_EQUAL,
    workflows_wire.LESS_THAN: Comparator.LESS_THAN,
    workflows_wire.LESS_THAN_OR_EQUAL: Comparator.LESS_THAN_OR_EQUAL,
}


def desired_labels(
    given: Mapping[str, workflows_wire.DesiredWorkerLabels], *, who: str
) -> dict[str, DesiredLabel] | None:
    """Read what a step desires of workers' labels; None: nothing.

    Raises:
        InvalidRequest: It makes no sense; the message names the label.
    """
    if len(given) > MAX_LABELS:
        raise InvalidRequest(f"{who} desires {len(given)} labels of workers; expected at most {MAX_LABELS}")
    return {key: _desired_label(key, label, who) for key, label in given.items()} or None


def _desired_label(key: str, label: workflows_wire.DesiredWorkerLabels, who: str) -> DesiredLabel:
    value, comparator = _label_value(key, label, who), _COMPARATORS.get(label.comparator)
    if comparator is None:  # a later client's
        raise InvalidRequest(f'{who}: label "{key}" has comparator {label.comparator}; expected 0 to 5')
    if isinstance(value, str) and comparator not in (Comparator.EQUAL, Comparator.NOT_EQUAL):
        raise InvalidRequest(
            f'{who}: label "{key}" is compared by {comparator.name} with "{value}", which is not a number; give a '
            "whole number, or compare by EQUAL or NOT_EQUAL"
        )
    weight = label.weight if label.HasField("weight") else DEFAULT_WEIGHT
    return DesiredLabel(value=value, comparator=comparator, required=label.required, weight=weight)


def time_of(stamp: Timestamp) -> datetime | None:
    """Read a time that a client sent; None: it is not valid."""
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
        Unsupported: It asks for a feature that is missing; the message names workflow and step.
    """
    where = f'workflow "{opts.name}"'
    if not opts.name:
        raise InvalidRequest("a workflow without a name can't be registered; give it one")
    unsupported = {
        "scheduled triggers": opts.scheduled_triggers,
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
            run_on=RunOn(opts.run_on) if opts.run_on else None,
            record=Record(opts.record) if opts.record else None,
            schedule_timeout=_duration(
                opts.schedule_timeout or _DEFAULT_SCHEDULE_TIMEOUT, f"{where}: its schedule timeout"
            ),
            sticky=_STICKY.get(opts.sticky) if opts.HasField("sticky") else None,
            default_priority=opts.default_priority if opts.HasField("default_priority") else None,
            concurrency=_concurrency(where, opts),
            group_key=_group_key(opts),
            idempotency=_idempotency(where, opts),
            input_schema=_input_schema(opts),
            **_triggers(opts),
        )
    except ValueError as error:  # pydantic's: a name that is too long, a priority of 7
        raise InvalidRequest(f"{where} can't be registered: {error}") from error


_STICKY = {workflows_wire.SOFT: Stickiness.SOFT, workflows_wire.HARD: Stickiness.HARD}

_STRATEGIES = {
    workflows_wire.CANCEL_IN_PROGRESS: LimitStrategy.CANCEL_IN_PROGRESS,
    workflows_wire.DROP_NEWEST: LimitStrategy.CANCEL_NEWEST,
    workflows_wire.QUEUE_NEWEST: LimitStrategy.QUEUE_NEWEST,
    workflows_wire.GROUP_ROUND_ROBIN: LimitStrategy.GROUP_ROUND_ROBIN,
    workflows_wire.CANCEL_NEWEST: LimitStrategy.CANCEL_NEWEST,
    workflows_wire.CANCEL_QUEUED_EXCEPT_NEWEST: LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST,
}


def _concurrency(where: str, opts: workflows_wire.CreateWorkflowVersionOpts) -> tuple[ConcurrencyLimit, ...] | None:
    asked = [*([opts.concurrency] if opts.HasField("concurrency") else []), *opts.more_concurrency]
    return tuple(_limit(where, each) for each in asked) or None


def _limit(where: str, limit: workflows_wire.WorkflowConcurrencyOpts) -> ConcurrencyLimit:
    strategy = _STRATEGIES.get(limit.limit_strategy)
    if strategy is None:  # a later client's
        raise Unsupported(
            f"{where} asks for concurrency strategy {limit.limit_strategy}, which this version does not have; "
            f"use one of {', '.join(_STRATEGIES.values())}"
        )
    return ConcurrencyLimit(
        expression=limit.expression or ("group_key" if limit.action else ""),
        max_runs=limit.max_runs if limit.HasField("max_runs") else 1,
        strategy=strategy,
    )


def _idempotency(where: str, opts: workflows_wire.CreateWorkflowVersionOpts) -> Idempotency | None:
    if not opts.HasField("idempotency"):
        return None
    given = opts.idempotency
    if given.ttl_ms <= 0:
        raise InvalidRequest(f"{where}: its idempotency keys are kept for {given.ttl_ms} ms; expected more than 0")
    try:
        ttl = timedelta(milliseconds=given.ttl_ms)
    except OverflowError as error:
        raise InvalidRequest(
            f"{where}: its idempotency keys are kept for {given.ttl_ms} ms, which is too long"
        ) from error
    return Idempotency(expression=given.expression, ttl=ttl, until_end=given.until_end)


def _input_schema(opts: workflows_wire.CreateWorkflowVersionOpts) -> str | None:
    """Return the schema of the input; None: there is none, or it is too long, which is no reason to refuse the rest."""
    return opts.input_json_schema if 0 < len(opts.input_json_schema) <= MAX_INPUT_SCHEMA else None


def _group_key(opts: workflows_wire.CreateWorkflowVersionOpts) -> StepDefinition | None:
    """Make a step from the method that names the group; None: there is none, or an expression instead."""
    if not opts.concurrency.action or opts.concurrency.expression:
        return None
    return StepDefinition(
        name=GROUP_KEY_STEP, action=opts.concurrency.action.lower(), timeout=_duration(_DEFAULT_TIMEOUT, "its timeout")
    )


def _triggers(opts: workflows_wire.CreateWorkflowVersionOpts) -> dict[str, Any]:
    """Read what starts runs automatically; what makes no sense is reported in the workflow's status, not refused."""
    return {
        "crons": tuple(dict.fromkeys(opts.cron_triggers)) or None,
        "cron_input": opts.cron_input or None,
        "events": tuple(dict.fromkeys(opts.event_triggers)) or None,
        "event_filters": tuple(_event_filter(each) for each in opts.event_filters) or None,
    }


def _event_filter(given: workflows_wire.EventFilter) -> EventFilter:
    if given.payload:
        parse_object(given.payload, what=f"payload of the filter {given.expression!r}")
    return EventFilter(expression=given.expression, scope=given.scope, payload=given.payload or None)


def _step(where: str, step: workflows_wire.CreateWorkflowStepOpts) -> StepDefinition:
    here = f'{where}: step "{step.readable_id}"'
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
        backoff_delays=tuple(_duration(delay, f"{here}: its backoff") for delay in step.backoff_delays) or None,
        backoff_jitter=step.backoff_jitter if step.HasField("backoff_jitter") else None,
        max_reassignments=step.max_reassignments if step.HasField("max_reassignments") else None,
        worker_labels=desired_labels(step.worker_labels, who=here),
        rate_limits=tuple(_rate_limit(here, limit) for limit in step.rate_limits) or None,
    )


_WINDOWS = {
    workflows_wire.SECOND: timedelta(seconds=1),
    workflows_wire.MINUTE: timedelta(minutes=1),
    workflows_wire.HOUR: timedelta(hours=1),
    workflows_wire.DAY: timedelta(days=1),
    workflows_wire.WEEK: timedelta(weeks=1),
    workflows_wire.MONTH: timedelta(days=30),
    workflows_wire.YEAR: timedelta(days=365),
}


_NO_LIMIT = "-1"  # what clients from 1.0 on send for a limit that is set elsewhere


def _rate_limit(here: str, limit: workflows_wire.CreateStepRateLimit) -> StepRateLimit:
    # clients with an expression for the key send it as the key too
    if not limit.key and not limit.key_expr:
        raise InvalidRequest(f"{here} has a rate limit without a key; give it one")
    if limit.units < 0:
        raise InvalidRequest(f'{here}: rate limit "{limit.key}" needs {limit.units} units; expected 0 or more')
    expression = "" if limit.limit_values_expr == _NO_LIMIT else limit.limit_values_expr
    window = _window(f"{here}: its rate limit", limit.duration) if expression else None
    return StepRateLimit(
        key=None if limit.key_expr else limit.key,
        key_expression=limit.key_expr or None,
        units=limit.units if limit.HasField("units") and not limit.units_expr else None,
        units_expression=limit.units_expr or None,
        limit_expression=expression or None,
        window=window if limit.HasField("duration") else None,
    )


def _window(what: str, duration: workflows_wire.RateLimitDuration.ValueType) -> timedelta:
    window = _WINDOWS.get(duration)
    if window is None:  # a later client's
        raise Unsupported(f"{what} asks for duration {duration}, which this version does not have")
    return window


def rate_limit(request: workflows_wire.PutRateLimitRequest) -> tuple[str, int, timedelta]:
    """Read a limit that a program sets: its key, its units and its window.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: Its duration is not known.
    """
    if not 1 <= len(request.key) <= MAX_KEY:
        raise InvalidRequest(f"the key of a rate limit has {len(request.key)} characters; expected 1 to {MAX_KEY}")
    if request.limit < 0:
        raise InvalidRequest(f'rate limit "{request.key}" can\'t be {request.limit}; expected 0 or more units')
    return request.key, request.limit, _window(f'rate limit "{request.key}"', request.duration)


def _duration(text: str, what: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidRequest(f"{what}: {error}") from error


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


def trigger(request: workflows_wire.TriggerWorkflowRequest, caller: Caller) -> Trigger:
    """Read a request for a run.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: It asks for a feature that is not there.
    """
    what = f'input for workflow "{request.name}"'
    metadata_of = f'metadata for workflow "{request.name}"'
    for text, name in ((request.input, what), (request.additional_metadata, metadata_of)):
        if (problem := size_problem(len(text.encode()), name, storable=name is what)) is not None:
            raise InvalidRequest(problem)
    parse_object(request.input, what=what)
    if request.desired_worker_labels:
        raise Unsupported(
            f'the run of workflow "{request.name}" asks for a worker by labels, which this version does not have; '
            "remove it, or let its steps desire labels"
        )
    if len(request.desired_worker_id) > MAX_LABEL_LENGTH:
        raise InvalidRequest(f'the run of workflow "{request.name}" asks for a worker whose id is not that of a worker')
    metadata = parse_object(request.additional_metadata, what=metadata_of)
    check_dedupe(metadata, what=metadata_of)
    lowest, highest = _PRIORITIES
    return Trigger(
        caller=caller,
        workflow=request.name,
        input_json=request.input or "{}",
        metadata=metadata,
        priority=min(max(request.priority, lowest), highest) if request.HasField("priority") else None,
        parent=_parent(request),
        request_id=request.request_id or None,
        worker_id=request.desired_worker_id or None,
    )


def scheduled(request: workflows_wire.ScheduleWorkflowRequest, caller: Caller) -> list[Trigger]:
    """Read a request for runs at several times.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: It asks for a feature that is not there.
    """
    if not 1 <= len(request.schedules) <= MAX_BULK_ITEMS:
        raise InvalidRequest(f"{len(request.schedules)} times in one call; expected 1 to {MAX_BULK_ITEMS}")
    times = [time_of(each) for each in request.schedules]
    run = workflows_wire.TriggerWorkflowRequest(
        name=request.name,
        input=request.input,
        parent_id=request.parent_id,
        parent_task_run_external_id=request.parent_step_run_id,
        request_id=request.request_id,
    )
    for name in ("child_index", "child_key", "additional_metadata", "priority"):
        if request.HasField(name):
            setattr(run, name, getattr(request, name))
    one = trigger(run, caller)
    origin = Origin(cause=Cause.SCHEDULE) if one.parent is None else None
    # An invalid time may have meant now or never; saying so is better than guessing.
    if None in times:
        raise InvalidRequest(f'a time for workflow "{request.name}" is none')
    if len(times) > 1 and dedupe_value(one.metadata) is not None:
        raise InvalidRequest(
            f'{len(times)} runs of workflow "{request.name}" are asked for with one deduplication value (dedupe), '
            "which one run can have; schedule one, or leave the entry out"
        )
    return [replace(one, start_at=time, position=position, origin=origin) for position, time in enumerate(times)]


def pushed_event(request: events_wire.PushEventRequest, caller: Caller) -> PushedEvent:
    """Read an event.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: It asks for a feature that is not there.
    """
    return read_event(
        caller,
        request.key,
        request.payload,
        event_id=request.event_id,
        metadata=request.additional_metadata,
        priority=request.priority if request.HasField("priority") else None,
        scope=request.scope or None,
    )


def event_answer(request: events_wire.PushEventRequest, event: PushedEvent) -> events_wire.Event:
    answer = events_wire.Event(
        tenant_id=tenant_id(event.caller.namespace), event_id=event.id, key=event.key, payload=request.payload
    )
    answer.event_timestamp.CopyFrom(request.event_timestamp)
    if request.HasField("additional_metadata"):
        answer.additional_metadata = request.additional_metadata
    if request.HasField("scope"):
        answer.scope = request.scope
    return answer


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
        **_record(request.record),
    )


_AS_WORKFLOW_SAYS = "Workflow"


def _record(value: str) -> dict[str, Any]:
    """Read what is to be recorded of a child; clients that don't say so can't spawn a lost one again."""
    asked = _option(value, "record", (*Record, _AS_WORKFLOW_SAYS))
    return {
        "record": None if asked in (None, _AS_WORKFLOW_SAYS) else Record(asked),
        "is_kept_by_client": asked is not None,
    }


def _option(value: str, name: str, allowed: tuple[str, ...]) -> str | None:
    if value and value not in allowed:
        raise InvalidRequest(f'{name} is "{value}"; expected {" or ".join(allowed)}, or none')
    return value or None
