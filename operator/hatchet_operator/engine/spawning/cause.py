"""Why a root run was started, in a form that fits labels and annotations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hatchet_operator.resources import labels
from hatchet_operator.resources.run import WorkflowRun


class Cause(StrEnum):
    """What started a run, in the terms that Hatchet's clients know."""

    MANUAL = "manual"
    PARENT = "parent"
    CRON = "cron"
    EVENT = "event"
    SCHEDULE = "schedule"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What started a run, and what else its object says about that."""

    cause: Cause
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, dict[str, str]]:
        return {"labels": {labels.TRIGGERED_BY: self.cause, **self.labels}, "annotations": dict(self.annotations)}


def cause_of(run: WorkflowRun) -> Cause:
    """Return what started a run; an unknown label value was written by somebody else."""
    if run.spec.parent is not None:
        return Cause.PARENT
    said = run.metadata.labels.get(labels.TRIGGERED_BY)
    return Cause(said) if said in _BY_THEMSELVES else Cause.MANUAL


def is_for_the_same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the labels of two root runs say that they are for the same event, cron or deduplication value.

    The first run with a deduplication value has it, whatever started it.
    """
    if labels.DEDUPE in other:
        return one.get(labels.DEDUPE) == other[labels.DEDUPE]
    return all(one.get(label) == other.get(label) for label in (labels.TRIGGERED_BY, labels.EVENT, labels.CRON))


def purpose_of(said: Mapping[str, str]) -> str:
    """Say what started a root run, by its labels, in a human-readable form."""
    if said.get(labels.TRIGGERED_BY) == Cause.EVENT:
        return f'event "{said.get(labels.EVENT)}"'
    return _PURPOSES.get(said.get(labels.TRIGGERED_BY, ""), "a person or a program")


_PURPOSES = {str(Cause.CRON): "a tick of a cron", str(Cause.SCHEDULE): "a schedule"}
_BY_THEMSELVES = frozenset({Cause.CRON, Cause.EVENT, Cause.SCHEDULE})
