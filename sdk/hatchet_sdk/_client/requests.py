"""Turns what a caller passes into the request that is sent; everything that can be wrong with it is found here."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hatchet_sdk._client import tracing
from hatchet_sdk._client.arguments import LONGEST_SPAWN_KEY, checked_priority, checked_text, in_utc
from hatchet_sdk._client.durations import duration_problem
from hatchet_sdk._client.json_text import MAX_BYTES, encode_object
from hatchet_sdk._client.options import (
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    SpawningAttempt,
    TriggerWorkflowOptions,
    checked_options,
)
from hatchet_sdk._client.triggers import MAX_BATCH_BYTES
from hatchet_sdk.contracts.dispatcher_pb2 import WorkerLabels
from hatchet_sdk.contracts.workflows_pb2 import ScheduleWorkflowRequest, TriggerWorkflowRequest


def root_request(
    name: str,
    input: object,
    options: TriggerWorkflowOptions | None,
    *,
    max_bytes: int = MAX_BYTES,
    call: str = "run_workflow",
) -> TriggerWorkflowRequest:
    """Build the request for a root run; its id makes it safe to repeat."""
    what = f'{call}("{name}")'
    chosen: Mapping[str, Any] = checked_options(options, TriggerWorkflowOptions, what=what)
    own = chosen.get("additional_metadata", {})
    metadata = {**tracing.current(), **own} if isinstance(own, Mapping) else own
    request = _request(name, input, chosen, metadata=metadata, what=what, max_bytes=max_bytes)
    request.request_id = checked_text(chosen.get("request_id", str(uuid.uuid4())), what=f"{what}: request_id")
    return _of_fair_size(request, what)


def schedule_request(
    name: str,
    schedules: Sequence[datetime],
    input: object,
    options: TriggerWorkflowOptions | None,
    *,
    max_bytes: int = MAX_BYTES,
) -> ScheduleWorkflowRequest:
    """Build the request for root runs at these times; one without a zone is local, as in Hatchet."""
    run = root_request(name, input, options, max_bytes=max_bytes, call="schedule_workflow")
    return _scheduled(run, schedules)


def child_schedule_request(
    name: str,
    schedules: Sequence[datetime],
    input: object,
    *,
    key: str | None,
    index: int,
    options: ChildScheduleWorkflowOptions | None,
    parent: SpawningAttempt,
    max_bytes: int = MAX_BYTES,
) -> ScheduleWorkflowRequest:
    """Build the request for child runs at these times, which are identified by key or index and their order."""
    what = f'schedule_workflow("{name}")'
    chosen: Any = checked_options(options, ChildScheduleWorkflowOptions, what=what)
    run = child_request(
        name,
        input,
        key=key,
        index=index,
        options=chosen,
        parent=parent,
        max_bytes=max_bytes,
        call="schedule_workflow",
    )
    return _scheduled(run, schedules)


def _scheduled(run: TriggerWorkflowRequest, schedules: Sequence[datetime]) -> ScheduleWorkflowRequest:
    what = f'schedule_workflow("{run.name}")'
    if not isinstance(schedules, Sequence) or not all(isinstance(each, datetime) for each in schedules):
        raise TypeError(f"{what}: schedules is {schedules!r} (expected a list of datetimes)")
    if not schedules:
        raise ValueError(f"{what}: schedules is empty (expected at least one time)")
    request = ScheduleWorkflowRequest(name=run.name, input=run.input)
    for at, each in enumerate(schedules):
        request.schedules.add().FromDatetime(in_utc(each, what=f"{what}: schedules[{at}]"))
    for field in ("request_id", "additional_metadata", "priority", "parent_id", "child_index", "child_key"):
        if run.HasField(field):
            setattr(request, field, getattr(run, field))
    if run.HasField("parent_task_run_external_id"):
        request.parent_step_run_id = run.parent_task_run_external_id
    return request


def child_request(
    name: str,
    input: object,
    *,
    key: str | None,
    index: int,
    options: ChildTriggerWorkflowOptions | None,
    parent: SpawningAttempt,
    max_bytes: int = MAX_BYTES,
    call: str = "spawn_workflow",
) -> TriggerWorkflowRequest:
    """Build the request for a child run, which is identified by its parent's attempt and its key or index."""
    what = f'{call}("{name}")'
    chosen: Mapping[str, Any] = checked_options(options, ChildTriggerWorkflowOptions, what=what)
    own = chosen.get("additional_metadata", {})
    metadata = {**parent.additional_metadata, **tracing.current(), **own} if isinstance(own, Mapping) else own
    request = _request(name, input, chosen, metadata=metadata, what=what, max_bytes=max_bytes)
    request.parent_id = parent.workflow_run_id
    request.parent_task_run_external_id = parent.task_run_external_id
    request.child_index = index
    if key is not None:
        request.child_key = checked_text(key, what=f"{what}: key", longest=LONGEST_SPAWN_KEY)
    if _flag(chosen.get("sticky", False), what=f"{what}: sticky"):
        request.desired_worker_id = parent.worker_id
    for option in ("on_conflict", "on_failed", "on_parent_close"):
        if option in chosen:
            setattr(request, option, chosen[option])
    request.record = str(chosen.get("record", "workflow")).title()  # as the operator writes it: Result
    return _of_fair_size(request, what)


def labels_message(labels: Mapping[str, str | int]) -> dict[str, WorkerLabels]:
    """Convert a worker's labels to the protocol's messages."""
    return {
        key: WorkerLabels(int_value=value) if isinstance(value, int) else WorkerLabels(str_value=value)
        for key, value in labels.items()
    }


def _request(
    name: str, input: object, chosen: Mapping[str, Any], *, metadata: object, what: str, max_bytes: int
) -> TriggerWorkflowRequest:
    request = TriggerWorkflowRequest(
        name=checked_workflow_name(name, what=f"{what}: workflow name"),
        input=encode_object(input, what=f"{what}: input", max_bytes=max_bytes),
    )
    if metadata != {}:
        request.additional_metadata = encode_object(metadata, what=f"{what}: additional_metadata")
    if "priority" in chosen:
        request.priority = checked_priority(chosen["priority"], what=f"{what}: priority")
    return request


def checked_workflow_name(value: object, *, what: str) -> str:
    """Return the name of a workflow that is asked for.

    Raises:
        TypeError, ValueError: It is empty, not text, or a class without a name.
    """
    if value == "":
        raise ValueError(f"{what} is empty (expected the name of a registered workflow)")
    if isinstance(value, type):
        raise TypeError(
            f"{what} is the class {value.__name__} (expected the name of a workflow, or a class that is decorated with "
            "@hatchet.workflow())"
        )
    return checked_text(value, what=what)


def duration_text(value: object, *, what: str) -> str:
    """Return the text of a duration, after checking it.

    Raises:
        TypeError, ValueError: It is not text, or not a duration.
    """
    if problem := duration_problem(value, what):
        raise ValueError(problem) if isinstance(value, str) else TypeError(problem)
    return str(value)


def _flag(value: object, *, what: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what} is {value!r} (expected True or False)")
    return value


def _of_fair_size(request: TriggerWorkflowRequest, what: str) -> TriggerWorkflowRequest:
    travels_besides = max(len(request.input) - MAX_BYTES, 0)  # goes to a store, without which it would be refused
    if (size := request.ByteSize() - travels_besides) > MAX_BATCH_BYTES:
        raise ValueError(f"{what}: the request is {size} bytes, more than the limit of {MAX_BATCH_BYTES}")
    return request
