"""Finished runs that are run again: what is kept, what becomes of their children, and in which order.

    reruns               all steps run; each finds its earlier children as they are
    replay from Failed   steps that succeeded are kept. Children of the others that did not succeed are replayed first,
                         in the same way, so from the leaves up; then the steps run, and find them by their keys
    replay from Start    all children are deleted, with everything below them; then all steps run

A request to a child is recorded in the child (`replay.requestedBy` names the parent and its rerun), so after a crash
the next leader asks none twice. A child that fails again is left so: the parent's step sees that, and decides.
"""

from datetime import datetime
from typing import Any

from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import ObservedRun, RunPlan
from hatchet_operator.resources.reasons import ConditionType, Phase, Reason, ReplayFrom
from hatchet_operator.resources.run import RunStatus, StepStatus, WorkflowRun

_WORDS = {
    ReplayFrom.FAILED: "replayed: its children that failed are run again first",
    ReplayFrom.START: "replayed from the start: its children are deleted first",
}


def rerun_when_asked(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Begin a rerun of a finished run; one that was requested while the run was running begins after its end."""
    spec, old = seen.run.spec, seen.run.status
    if spec.reruns_wanted <= old.reruns or not old.phase.is_final:
        return None
    origin = spec.rerun_from
    generation = seen.run.metadata.generation or None
    if origin is ReplayFrom.FAILED and old.phase is Phase.SUCCEEDED:
        return RunPlan(status=_nothing_to_do(seen))
    first = origin if seen.children is not None and seen.children.total else None
    reason, message = (Reason.REPLAYING_CHILDREN, _WORDS[first]) if first else (None, None)
    ready = Aspect(ConditionType.READY, False, reason or Phase.PENDING.value, message or "")
    status = RunStatus(
        reason=reason,
        message=message,
        reruns=spec.reruns_wanted,
        children_first=first,
        steps=kept_steps(old, seen.graph) if origin is ReplayFrom.FAILED else {},
        children=old.children,
        # From nothing: the time of this transition is the one at which the rerun began.
        conditions=make_conditions((ready,), before=(), generation=generation, now=now),
        observed_generation=generation,
    )
    return RunPlan(status=status)


def wait_for_children_of_replay(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Let the run's own steps wait until what a replay does to its children is done."""
    old = seen.run.status
    if old.children_first is None:
        return None
    is_done = seen.children_are_ready
    reason, message = (None, None) if is_done else (Reason.REPLAYING_CHILDREN, _WORDS[old.children_first])
    if not is_done and old.reason == reason:
        return RunPlan()
    generation = seen.run.metadata.generation or None
    ready = Aspect(ConditionType.READY, False, reason or Phase.PENDING.value, message or "")
    update = {
        "children_first": None if is_done else old.children_first,
        "reason": reason,
        "message": message,
        "children": seen.children,
        "conditions": make_conditions((ready,), before=old.conditions, generation=generation, now=now),
        "observed_generation": generation,
    }
    return RunPlan(status=old.model_copy(update=update))


def _nothing_to_do(seen: ObservedRun) -> RunStatus:
    """Return a status that says that nothing failed, for a run that succeeded and was asked to replay what failed."""
    generation = seen.run.metadata.generation or None
    conditions = tuple(
        condition.model_copy(update={"observed_generation": generation}) for condition in seen.run.status.conditions
    )
    update = {
        "reruns": seen.run.spec.reruns_wanted,
        "conditions": conditions,
        "observed_generation": generation,
    }
    return seen.run.status.model_copy(update=update)


def rerun_began_at(run: WorkflowRun) -> datetime | None:
    """Return when the rerun that a status describes began, while it runs; None: it is the first run, or over."""
    if not run.status.reruns or run.status.phase.is_final:
        return None
    found = (condition for condition in run.status.conditions if condition.type == ConditionType.READY)
    return next((condition.last_transition_time for condition in found), None)


def kept_steps(status: RunStatus, graph: Graph | None) -> dict[str, StepStatus]:
    """Return the steps that need not run again: those that succeeded, except for the on-failure step."""
    on_failure = graph.on_failure.name if graph and graph.on_failure else None
    return {
        name: state for name, state in status.steps.items() if state.phase is Phase.SUCCEEDED and name != on_failure
    }


# --- Children


def asks_for(child: WorkflowRun, parent: WorkflowRun, *, on_failure: str | None) -> bool:
    """Whether a replay of the parent from what failed begins with this child.

    It does not if the parent's step handled the child's failure, and succeeded; nor if a person cancelled the child.
    """
    spawned = child.spec.parent
    if spawned is None or spawned.uid != parent.metadata.uid or spawned.step == on_failure:
        return False
    state = parent.status.steps.get(spawned.step)
    if state is not None and state.phase is Phase.SUCCEEDED:
        return False
    has_failed = child.status.phase in (Phase.FAILED, Phase.CANCELLED)
    return has_failed and not child.spec.cancelled and child.metadata.deletion_timestamp is None


def was_asked(child: WorkflowRun, parent: WorkflowRun) -> bool:
    """Whether this replay of the parent has already requested the child's."""
    return child.spec.replay is not None and child.spec.replay.requested_by == _replay_of(parent)


def request_for(child: WorkflowRun, parent: WorkflowRun) -> dict[str, Any]:
    """Return the patch that has a child replayed as part of its parent's replay, if it is still as it was read."""
    number = max(child.spec.reruns_wanted, child.status.reruns) + 1
    return {
        "metadata": {"uid": child.metadata.uid, "resourceVersion": child.metadata.resource_version},
        "spec": {
            "replay": {"number": number, "from": ReplayFrom.FAILED.value, "requestedBy": _replay_of(parent)},
        },
    }


def _replay_of(parent: WorkflowRun) -> str:
    return f"{parent.metadata.uid}/{parent.status.reruns}"
