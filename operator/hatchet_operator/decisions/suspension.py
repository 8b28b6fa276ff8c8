"""Runs suspended by a person, or by a controller that admits runs: none of their steps start, no timeout counts.

spec.suspended ─► begun? ─ no ─► nothing else is looked at: no workflow, no group, no timeout; the status says why
                    └─ yes ─► assigned steps run to their end, no other is assigned
resumed ─► the status says when, and timeouts of what it waits for count from then
"""

from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.observed import ObservedRun, RunPlan
from hatchet_operator.resources.reasons import ConditionType, Phase, Reason
from hatchet_operator.resources.run import RunStatus, WorkflowRun

MESSAGE = "spec.suspended is true: no step starts until it is false"
SUSPENDED = Aspect(ConditionType.SUSPENDED, True, Reason.SUSPENDED, MESSAGE)
_RESUMED = Aspect(ConditionType.SUSPENDED, False, Reason.RESUMED)


def wait_while_suspended(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Let a run that has not begun wait, and say so once."""
    if not seen.run.spec.suspended or (has_begun(seen) and seen.run.status.children_first is None):
        return None
    if seen.run.status.reason == Reason.SUSPENDED:
        return RunPlan()
    ready = Aspect(ConditionType.READY, False, Reason.SUSPENDED, MESSAGE)
    return RunPlan(status=_told(seen, now, Reason.SUSPENDED, MESSAGE, (ready, SUSPENDED)))


def tell_resumed(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Say once that a run is no longer suspended, whatever it waits for now."""
    if seen.run.spec.suspended or seen.run.status.reason != Reason.SUSPENDED:
        return None
    ready = Aspect(ConditionType.READY, False, seen.run.status.phase.value)
    return RunPlan(status=_told(seen, now, None, None, (ready, _RESUMED)))


def has_begun(seen: ObservedRun) -> bool:
    """Whether a step was assigned, as far as is known."""
    status = seen.run.status
    is_told = status.started_at is not None or any(
        state.phase is not Phase.SUCCEEDED for state in status.steps.values()
    )
    return is_told or bool(seen.live or seen.reports)  # steps that a replay kept do not count


def resumed_at(run: WorkflowRun) -> datetime | None:
    """Return when a run was resumed; None: it was not, or has begun since."""
    found = (condition for condition in run.status.conditions if condition.type == ConditionType.SUSPENDED)
    return next((condition.last_transition_time for condition in found if condition.status == "False"), None)


def resumed_aspects(run: WorkflowRun) -> tuple[Aspect, ...]:
    """Return the conditions that keep the time of a resumption in a status."""
    return (_RESUMED,) if resumed_at(run) is not None else ()


def _told(
    seen: ObservedRun, now: datetime, reason: Reason | None, message: str | None, aspects: tuple[Aspect, ...]
) -> RunStatus:
    old, generation = seen.run.status, seen.run.metadata.generation or None
    return old.model_copy(
        update={
            "phase": Phase.RUNNING if old.started_at is not None else Phase.PENDING,
            "reason": reason,
            "message": message,
            "conditions": make_conditions(aspects, before=old.conditions, generation=generation, now=now),
            "observed_generation": generation,
        }
    )
