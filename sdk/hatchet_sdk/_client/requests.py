"""From what a caller says to the request that travels; everything that can be wrong with it is found here."""

import uuid
from collections.abc import Mapping
from typing import Any

from hatchet_sdk._client.durations import duration_problem
from hatchet_sdk._client.json_text import encode_object
from hatchet_sdk._client.options import (
    ChildTriggerWorkflowOptions,
    SpawningAttempt,
    TriggerWorkflowOptions,
    checked_options,
)
from hatchet_sdk._client.triggers import MAX_BATCH_BYTES
from hatchet_sdk.contracts.workflows_pb2 import TriggerWorkflowRequest


def root_request(name: str, input: object, options: TriggerWorkflowOptions | None) -> TriggerWorkflowRequest:
    """Make the request for a root run; its id makes repeating it harmless."""
    what = f'run_workflow("{name}")'
    chosen: Mapping[str, Any] = checked_options(options, TriggerWorkflowOptions, what=what)
    request = _request(name, input, chosen, metadata=chosen.get("additional_metadata", {}), what=what)
    request.request_id = _text(chosen.get("request_id", str(uuid.uuid4())), what=f"{what}: request_id")
    return _of_fair_size(request, what)


def child_request(
    name: str,
    input: object,
    *,
    key: str | None,
    index: int,
    options: ChildTriggerWorkflowOptions | None,
    parent: SpawningAttempt,
) -> TriggerWorkflowRequest:
    """Make the request for a child run, whose identity is its parent's attempt and its key or index."""
    what = f'spawn_workflow("{name}")'
    chosen: Mapping[str, Any] = checked_options(options, ChildTriggerWorkflowOptions, what=what)
    own = chosen.get("additional_metadata", {})
    metadata = {**parent.additional_metadata, **own} if isinstance(own, Mapping) else own
    request = _request(name, input, chosen, metadata=metadata, what=what)
    request.parent_id = parent.workflow_run_id
    request.parent_task_run_external_id = parent.task_run_external_id
    request.child_index = index
    if key is not None:
        request.child_key = _text(key, what=f"{what}: key")
    for option in ("on_conflict", "on_failed", "on_parent_close"):
        if option in chosen:
            setattr(request, option, chosen[option])
    return _of_fair_size(request, what)


def _request(
    name: str, input: object, chosen: Mapping[str, Any], *, metadata: object, what: str
) -> TriggerWorkflowRequest:
    request = TriggerWorkflowRequest(
        name=_workflow_name(name, what=f"{what}: workflow name"),
        input=encode_object(input, what=f"{what}: input"),
    )
    if metadata:
        request.additional_metadata = encode_object(metadata, what=f"{what}: additional_metadata")
    if "priority" in chosen:
        request.priority = _number(chosen["priority"], what=f"{what}: priority")
    return request


def _workflow_name(value: object, *, what: str) -> str:
    if value == "":
        raise ValueError(f"{what} is empty (expected the name of a registered workflow)")
    return _text(value, what=what)


def duration_text(value: object, *, what: str) -> str:
    """Return the text of a duration, after refusing what is none.

    Raises:
        TypeError, ValueError: It is no text, or no duration.
    """
    if problem := duration_problem(value, what):
        raise ValueError(problem) if isinstance(value, str) else TypeError(problem)
    return str(value)


def _number(value: object, *, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r} (expected an int, 1 to 3)")
    if not 1 <= value <= 3:
        raise ValueError(f"{what} is {value} (expected 1 to 3; 3 goes first)")
    return value


def _text(value: object, *, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r} (expected a str)")
    if not value:
        raise ValueError(f"{what} is empty (leave it out, or give it some text)")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is {value!r}, which contains half of a surrogate pair and is no text") from None
    return value


def _of_fair_size(request: TriggerWorkflowRequest, what: str) -> TriggerWorkflowRequest:
    if (size := request.ByteSize()) > MAX_BATCH_BYTES:
        raise ValueError(f"{what}: the request is {size} bytes, more than the limit of {MAX_BATCH_BYTES}")
    return request
