"""Steps that failed without retries left, in runs that pause then: they wait for a person, and for nothing else.

failed permanently ─► its next attempt waits (paused_at), no timeout counts ─► spec.resumes raised ─► that attempt,
with all of its retries again. Other branches of the run continue meanwhile.
"""

from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.reasons import ConditionType, Phase, Reason
from hatchet_operator.resources.run import EarlierTry, StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition


def pauses(graph: Graph, step: StepDefinition) -> bool:
    """Whether a step waits for a person once it has failed; the one that runs after a failure does not."""
    return graph.pauses and step is not graph.on_failure


def paused(
    old: StepStatus, reason: Reason, error: str, *, earlier: tuple[EarlierTry, ...], now: datetime
) -> StepStatus:
    """Return a step whose next attempt waits for a person."""
    return old.model_copy(
        update={
            "phase": Phase.PENDING,
            "attempt": old.attempt + 1,
            "dispatch": 0,
            "earlier": earlier,
            "retry_at": None,
            "paused_at": now,
            "reason": reason,
            "error": error,
        }
    )


def resumed(old: StepStatus) -> StepStatus:
    """Return a step that a person has resumed: with all of its retries, and as if no worker had died under it."""
    return old.model_copy(update={"paused_at": None, "retries_from": old.attempt, "losses": 0, "disruptions": 0})


def is_resumed(run: WorkflowRun) -> bool:
    return (run.spec.resumes or 0) > (run.status.resumes or 0)


def retries_used(state: StepStatus) -> int:
    """Return how many previous attempts count as retries."""
    return state.attempt - (state.retries_from or 0)


def why_paused(run: WorkflowRun, step: str, state: StepStatus) -> str:
    """Say that a step waits for a person, and what that person can do."""
    return (
        f'step "{step}" failed in attempt {state.attempt}, and has no retries left: {headline(state.error)}; it is '
        f"tried again when spec.resumes is above {run.spec.resumes or 0} (or cancel the run)"
    )


def paused_aspects(message: str) -> list[Aspect]:
    """Say that a run is paused, and will not go on by itself."""
    return [Aspect(kind, True, Reason.PAUSED, message) for kind in (ConditionType.PAUSED, ConditionType.STALLED)]
