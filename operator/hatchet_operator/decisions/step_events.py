"""What happened to the steps of a run between two of its states, for clients that listen to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.decisions.results import error_told
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import NOT_BEGUN, StepStatus, WorkflowRun


class EventKind(StrEnum):
    """What happened to a step, or to the run."""

    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    STREAM = "stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent:
    """What happened to a step: its attempt was assigned, or ended."""

    kind: EventKind
    step: str
    attempt_id: str
    retry_count: int
    payload: str = ""


def step_events(run: WorkflowRun, before: Mapping[str, StepStatus]) -> list[StepEvent]:
    """Return what happened since; an attempt is inferred from its successor if only that is known."""
    events = []
    for name, state in run.status.steps.items():
        old = before.get(name) or NOT_BEGUN
        kind = _kind_of(old, state)
        if kind is None:
            continue
        payload = (state.output or "") if kind is EventKind.COMPLETED else (error_told(state) or "")
        identity = current_attempt_id(run, name)
        events.append(StepEvent(kind=kind, step=name, attempt_id=identity, retry_count=state.attempt, payload=payload))
    return events


def end_of_run(phase: Phase) -> EventKind:
    """Return how a run ended; to listeners, one that was deleted before its end was cancelled."""
    match phase:
        case Phase.SUCCEEDED:
            return EventKind.COMPLETED
        case Phase.FAILED:
            return EventKind.FAILED
        case _:
            return EventKind.CANCELLED


def _kind_of(old: StepStatus, new: StepStatus) -> EventKind | None:
    if old.phase.is_final and new.phase == old.phase:
        return None
    match new.phase:
        case Phase.SUCCEEDED:
            return EventKind.COMPLETED
        case Phase.CANCELLED:
            return EventKind.CANCELLED
        case Phase.FAILED:
            return EventKind.TIMED_OUT if new.reason == Reason.TIMED_OUT else EventKind.FAILED
        case _:  # another attempt follows
            if new.attempt <= old.attempt:
                return None
            return EventKind.TIMED_OUT if new.reason == Reason.TIMED_OUT else EventKind.FAILED
