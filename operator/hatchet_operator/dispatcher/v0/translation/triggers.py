"""Requests for runs, now or at a time, and events that start some."""

from dataclasses import replace
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.dispatcher.stamps import time_of
from hatchet_operator.engine.spawning.cause import Cause, Origin
from hatchet_operator.engine.spawning.trigger import ParentAttempt, Trigger, check_dedupe
from hatchet_operator.engine.triggers.events import PushedEvent, read_event
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.limits import MAX_BULK_ITEMS, size_problem
from hatchet_operator.resources.names import tenant_id
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.reasons import OnParentClose, Record
from hatchet_operator.resources.worker_labels import MAX_LABEL_LENGTH
from hatchet_sdk.contracts import events_pb2 as events_wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_PRIORITIES = (1, 3)
_LOWEST_INDEX = -1
LONGEST_SPAWN_KEY = 65_536


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
        raise InvalidRequest(
            f'workflow "{request.name}" is scheduled for {len(request.schedules)} times in one call; '
            f"expected 1 to {MAX_BULK_ITEMS}: use several calls"
        )
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
    if len(request.child_key) > LONGEST_SPAWN_KEY:
        raise InvalidRequest(
            f'the spawn key of a child "{request.name}" has {len(request.child_key)} characters; '
            f"expected at most {LONGEST_SPAWN_KEY}: use a hash of it"
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
