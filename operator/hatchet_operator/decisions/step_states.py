"""States of steps: what becomes of one that succeeded, ended, was lost, or is tried again."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.losses import counted_as
from hatchet_operator.decisions.observed import LiveAttempt, ObservedRun, Report
from hatchet_operator.decisions.pausing import paused, pauses, retries_used
from hatchet_operator.decisions.retry import backoff
from hatchet_operator.resources.limits import cut_error
from hatchet_operator.resources.reasons import LossKind, Phase, Reason
from hatchet_operator.resources.run import MAX_EARLIER, EarlierTry, LostWorker, StepStatus
from hatchet_operator.resources.workflow import StepDefinition

CANCELLED_TEXT = "this step run was cancelled due to "
_MOST_LOST_WORKERS = 8
_LONGEST_WHY = 512


class Step(NamedTuple):  # not a frozen dataclass, which takes longer to create: there is one for each look at a step
    """One step as a rule sees it: its definition, its state so far, and the run around it."""

    definition: StepDefinition
    old: StepStatus
    seen: ObservedRun
    graph: Graph
    now: datetime
    parents: Mapping[str, StepStatus]
    current: str  # the id of its current attempt; leftovers of an earlier one say nothing about it

    @property
    def live(self) -> LiveAttempt | None:
        return self.seen.live.get(self.definition.name)


def succeeded(old: StepStatus, report: Report) -> StepStatus:
    """Return the state of a step whose worker reported an output."""
    return old.model_copy(
        update={
            "phase": Phase.SUCCEEDED,
            "finished_at": report.at,
            "output": report.output,
            "retry_at": None,
            "reason": None,
            "error": None,
        }
    )


def ended(step: Step, old: StepStatus, phase: Phase, reason: Reason, error: str) -> StepStatus:
    """Return the state of a step that has ended otherwise; one that failed may wait for a person instead.

    Args:
        step: The step.
        old: Its state so far.
        phase: Failed or Cancelled.
        reason: Why.
        error: What people and clients read.
    """
    if phase is Phase.FAILED and pauses(step.graph, step.definition):
        return paused(old, reason, error, earlier=with_earlier(old), now=step.now)
    return old.model_copy(
        update={"phase": phase, "finished_at": step.now, "reason": reason, "error": error, "retry_at": None}
    )


def next_attempt(
    step: Step, old: StepStatus, reason: Reason, error: str, *, wait: timedelta | None = None
) -> StepStatus:
    """Return the state of a step that is tried again, which counts as one of its retries.

    Args:
        step: The step.
        old: Its state so far.
        reason: Why the attempt ended.
        error: What people read until the next one succeeds.
        wait: The pause before it; None: the step's backoff.
    """
    pause = wait if wait is not None else backoff(step.definition, retries_used(old), seed=step.current)
    return old.model_copy(
        update={
            "phase": Phase.PENDING,
            "attempt": old.attempt + 1,
            "dispatch": 0,
            "earlier": with_earlier(old),
            "retry_at": step.now + pause if pause else None,
            "reason": reason,
            "error": error,
        }
    )


def assigned_again(old: StepStatus, reason: Reason | None, error: str | None) -> StepStatus:
    """Return the state of a step whose attempt is dispatched again, as its worker is lost: no retry is used."""
    return old.model_copy(
        update={
            "phase": Phase.PENDING,
            "dispatch": old.dispatch + 1,
            "earlier": with_earlier(old),
            "reason": reason,
            "error": error,
        }
    )


def after_loss(step: Step, old: StepStatus, report: Report) -> StepStatus:
    """Return the state of a step whose worker is gone: assigned again, or failed after too many losses of its kind."""
    kind, most = counted_as(report.loss, old), step.definition.max_reassignments
    lost = LostWorker(
        at=report.at,
        worker=old.worker,
        started_at=old.started_at,
        attempt=old.attempt,
        kind=kind,
        why=(report.error or "")[:_LONGEST_WHY],
    )
    losses = old.losses + (kind is LossKind.CRASH)
    disruptions = old.disruptions + (kind is LossKind.DISRUPTION)
    lost_workers = (*old.lost_workers, lost)[-_MOST_LOST_WORKERS:]
    old = old.model_copy(update={"losses": losses, "disruptions": disruptions, "lost_workers": lost_workers})
    text = _what_was_lost(kind, old) + (f"; {report.error}" if report.error else "")
    match kind:
        case LossKind.NOT_STARTED:
            is_last = False
        case _ if most == 0:
            is_last, text = True, f"{text}; it must not be dispatched again (max_reassignments is 0)"
        case LossKind.CRASH:
            is_last = losses > (most if most is not None else step.seen.policy.max_losses - 1)
        case LossKind.DISRUPTION:
            is_last = disruptions >= step.seen.policy.max_disruptions
        case LossKind.BYSTANDER | LossKind.CLEARED:
            is_last = False
    if is_last:
        return ended(step, old, Phase.FAILED, Reason.WORKER_LOST, cut_error(f"WORKER_LOST: {text}"))
    return assigned_again(old, Reason.WORKER_LOST, cut_error(text))


def _what_was_lost(kind: LossKind, state: StepStatus) -> str:
    match kind:
        case LossKind.CRASH:
            return f"its worker died {state.losses} times while the step ran" if state.losses > 1 else "its worker died"
        case LossKind.CLEARED:
            return "its worker died while the step ran, of another step as it seems"
        case LossKind.BYSTANDER:
            return "its worker died while the step waited for children"
        case LossKind.DISRUPTION:
            times = f" {state.disruptions} times" if state.disruptions > 1 else ""
            return f"its worker was taken away{times}"
        case LossKind.NOT_STARTED:
            return "its worker left before the step began"


def after_doubt(step: Step, old: StepStatus, report: Report) -> StepStatus:
    """Return the state of a step that may still run on a worker that can't be asked: assigned again, if it may be."""
    if step.definition.max_reassignments == 0:
        text = (
            "WORKER_LOST: the worker that had it did not come back after the operator's restart; "
            "it must not be dispatched again (max_reassignments is 0)"
        )
        return ended(step, old, Phase.FAILED, Reason.WORKER_LOST, text)
    return assigned_again(old, Reason.WORKER_LOST if report.error else None, report.error)


def with_earlier(old: StepStatus) -> tuple[EarlierTry, ...]:
    """Return the tries so far: their output is in the logs of their workers, whose names the next try overwrites."""
    if old.worker is None:
        return old.earlier
    return (*old.earlier, EarlierTry(attempt=old.attempt, worker=old.worker))[-MAX_EARLIER:]


def with_worker(old: StepStatus, live: LiveAttempt) -> StepStatus:
    """Return the state with the worker that has the live attempt."""
    return old.model_copy(update={"worker": live.worker, "started_at": live.started_at})
