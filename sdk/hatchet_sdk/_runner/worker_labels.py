"""Labels of workers: what a step desires, and what a step may read and change on the worker that runs it."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hatchet_sdk._client.client import Client

MAX_LABELS = 64
MAX_LABEL_LENGTH = 253
_INT32 = range(-(2**31), 2**31)


class WorkerLabelComparator(IntEnum):
    """How a worker's label is compared with a desired value; numbers as in Hatchet's protocol."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER_THAN = 2
    """The worker's label is greater."""
    GREATER_THAN_OR_EQUAL = 3
    LESS_THAN = 4
    LESS_THAN_OR_EQUAL = 5


class _DesiredWorkerLabel(TypedDict):
    value: str | int


class DesiredWorkerLabel(_DesiredWorkerLabel, total=False):
    """What a step desires for one label of its worker.

    ``value``: a text, or a whole number; the only entry that is required.
    ``comparator``: EQUAL by default. A worker without the label only satisfies NOT_EQUAL.
    ``required``: no other worker takes the step. By default it is a preference: of the workers with a free slot, the
    one with the greatest sum of weights gets it.
    ``weight``: 100 by default.
    """

    comparator: WorkerLabelComparator
    required: bool
    weight: int


_KNOWN = ("value", "comparator", "required", "weight")


def label_problem(key: object, value: object, what: str) -> str | None:
    """Say what is wrong with a label, or None."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_LABEL_LENGTH:
        return f"{what}: {key!r} cannot be the key of a label (expected a text of 1 to {MAX_LABEL_LENGTH} characters)"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return f'{what}: "{key}" is {value!r} (expected a text or a whole number)'
    if isinstance(value, str) and len(value) > MAX_LABEL_LENGTH:
        return f'{what}: "{key}" has {len(value)} characters (expected at most {MAX_LABEL_LENGTH})'
    if isinstance(value, int) and value not in _INT32:
        return f'{what}: "{key}" is {value} (expected a number that fits into 32 bits)'
    return None


def labels_problem(labels: object, what: str) -> str | None:
    """Say what is wrong with the labels of a worker, or None."""
    if not isinstance(labels, Mapping):
        return f'{what} is {labels!r} (expected a mapping, as in {{"model": "large", "memory": 512}})'
    if len(labels) > MAX_LABELS:
        return f"{what} has {len(labels)} labels (expected at most {MAX_LABELS})"
    return next((problem for key in labels if (problem := label_problem(key, labels[key], what))), None)


def desired_labels_problem(desired: object, where: str) -> str | None:
    """Say what is wrong with the labels that a step desires, or None."""
    what = f"{where}: desired_worker_labels"
    if not isinstance(desired, Mapping):
        return f'{what} is {desired!r} (expected a mapping, as in {{"model": {{"value": "large"}}}})'
    if len(desired) > MAX_LABELS:
        return f"{what} has {len(desired)} labels (expected at most {MAX_LABELS})"
    return next((problem for key in desired if (problem := _desired_problem(key, desired[key], what))), None)


def _desired_problem(key: object, label: object, what: str) -> str | None:
    if not isinstance(label, Mapping) or "value" not in label:
        return f'{what}: "{key}" is {label!r} (expected a DesiredWorkerLabel, as in {{"value": "large"}})'
    if unknown := [name for name in label if name not in _KNOWN]:
        return f'{what}: "{key}" has {unknown[0]!r} (known: {", ".join(_KNOWN)})'
    value, comparator = label["value"], label.get("comparator")
    if (problem := label_problem(key, value, what)) is not None:
        return problem
    if comparator is not None and comparator not in tuple(WorkerLabelComparator):
        return f'{what}: "{key}" has comparator={comparator!r} (expected a WorkerLabelComparator)'
    if isinstance(value, str) and comparator is not None and comparator > WorkerLabelComparator.NOT_EQUAL:
        name = WorkerLabelComparator(comparator).name
        return f'{what}: "{key}" has comparator {name} for "{value}" (expected a whole number, or EQUAL or NOT_EQUAL)'
    required, weight = label.get("required"), label.get("weight")
    if required is not None and not isinstance(required, bool):
        return f'{what}: "{key}" has required={required!r} (expected True or False)'
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int) or weight not in _INT32):
        return f'{what}: "{key}" has weight={weight!r} (expected a whole number)'
    return None


class WorkerContext:
    """The worker that runs a step: who it is, and its labels, which the step may change."""

    def __init__(self, client: "Client", *, worker_id: str, labels: dict[str, str | int]) -> None:
        self._client = client
        self._worker_id = worker_id
        self._labels = labels  # one for all steps of the worker

    def id(self) -> str:
        """Return the id under which the operator knows the worker."""
        return self._worker_id

    def labels(self) -> dict[str, str | int]:
        """Return the worker's labels."""
        return dict(self._labels)

    def upsert_labels(self, labels: Mapping[str, str | int]) -> None:
        """Set some labels of the worker, and leave the others; blocks until the operator has confirmed.

        Raises:
            ValueError: A label is invalid.
        """
        with self._setting(labels) as confirmed:
            confirmed.result()

    async def async_upsert_labels(self, labels: Mapping[str, str | int]) -> None:
        """Set some labels of the worker, for async steps; see `upsert_labels`."""
        with self._setting(labels) as confirmed:
            await asyncio.wrap_future(confirmed)

    @contextmanager
    def _setting(self, labels: Mapping[str, str | int]) -> "Iterator[Future[object]]":
        """Set them here at once, since a step that waits for them may begin before the answer; undo what is refused."""
        if (problem := labels_problem(labels, "upsert_labels")) is not None:
            raise ValueError(problem)
        before, is_set = dict(self._labels), False
        self._labels.update(labels)
        try:
            yield self._client.upsert_worker_labels(self._worker_id, labels)
            is_set = True
        finally:
            for key in () if is_set else labels:
                self._labels.pop(key, None)
                self._labels.update({key: before[key]} if key in before else {})
