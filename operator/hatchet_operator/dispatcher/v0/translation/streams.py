"""What clients listen to: ends of runs, what happens to steps, and what steps publish."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from hatchet_operator.decisions.step_events import EventKind
from hatchet_operator.dispatcher.v0.translation.attempts import NO_TEXTS
from hatchet_operator.engine.runs.results import RunResult
from hatchet_operator.engine.streams.buffer import MAX_CHUNK_BYTES, StreamEvent
from hatchet_operator.engine.streams.readers import Metadata
from hatchet_operator.errors import InvalidRequest
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import events_pb2 as events_wire

_TOGETHER_BYTES = 65_536
Sendable = TypeVar("Sendable", wire.WorkflowRunEvent, wire.AssignedAction)


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


_EVENT_TYPES = {
    EventKind.STARTED: wire.RESOURCE_EVENT_TYPE_STARTED,
    EventKind.COMPLETED: wire.RESOURCE_EVENT_TYPE_COMPLETED,
    EventKind.FAILED: wire.RESOURCE_EVENT_TYPE_FAILED,
    EventKind.CANCELLED: wire.RESOURCE_EVENT_TYPE_CANCELLED,
    EventKind.TIMED_OUT: wire.RESOURCE_EVENT_TYPE_TIMED_OUT,
    EventKind.STREAM: wire.RESOURCE_EVENT_TYPE_STREAM,
}


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
