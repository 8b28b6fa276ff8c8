"""Workers: their registration and their labels, and the labels that steps desire."""

from collections.abc import Mapping

from hatchet_operator.dispatcher.stamps import time_of
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.worker_labels import (
    DEFAULT_WEIGHT,
    MAX_LABEL_LENGTH,
    MAX_LABELS,
    Comparator,
    DesiredLabel,
    LabelValue,
)
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_MAX_WORKER_NAME = 253  # what a step's status has room for


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
            f'{who}: the key of label "{key[:80]}" has {len(key)} characters; expected 1 to {MAX_LABEL_LENGTH}'
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
