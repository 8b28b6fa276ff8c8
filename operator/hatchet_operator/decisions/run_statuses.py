"""Statuses of runs: final ones, one whose steps are being cancelled, and what any of them has."""

from collections.abc import Iterable
from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import ObservedRun
from hatchet_operator.decisions.replays import rerun_began_at
from hatchet_operator.decisions.step_states import CANCELLED_TEXT, with_worker
from hatchet_operator.durations import format_elapsed
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.reasons import ConditionType, Phase, Reason
from hatchet_operator.resources.run import NOT_BEGUN, RunStatus, StepStatus, WorkflowRun

_CANCELLED_AS = {Reason.CONCURRENCY_LIMIT: "CANCELLED_BY_CONCURRENCY_LIMIT"}
"""As Hatchet's clients know it."""


def final(
    seen: ObservedRun,
    now: datetime,
    phase: Phase,
    reason: Reason,
    message: str | None,
    *,
    steps: dict[str, StepStatus],
    graph: Graph | None = None,
) -> RunStatus:
    """Return the status of a run that ends now.

    Args:
        seen: The run so far.
        now: When.
        phase: Succeeded, Failed or Cancelled.
        reason: Why; also of the conditions.
        message: What people read; None: nothing to add.
        steps: The final states of its steps.
        graph: What it executed; None: as far as its status says.
    """
    old = seen.run.status
    started = old.started_at or first_start(seen.run, steps)
    succeeded = phase is Phase.SUCCEEDED
    aspects = [
        Aspect(ConditionType.READY, succeeded, reason, message or ""),
        Aspect(ConditionType.FINISHED, True, reason),
        Aspect(ConditionType.SUCCEEDED, succeeded, reason, message or ""),
    ]
    if not succeeded:  # or a failed run would be awaited forever
        aspects.append(Aspect(ConditionType.STALLED, True, reason, message or ""))
    return RunStatus(
        phase=phase,
        reason=reason,
        message=message,
        reruns=old.reruns,
        resumes=old.resumes,
        started_at=started,
        finished_at=now,
        duration=format_elapsed(now - started) if started else None,
        duration_milliseconds=max(round((now - started).total_seconds() * 1000), 0) if started else None,
        definition=graph.revision if graph else old.definition,
        steps=steps,
        children=seen.children or old.children,
        concurrency_groups=seen.group.keys or None if seen.group else old.concurrency_groups,
        conditions=conditions_of(seen, aspects, now),
        observed_generation=generation_of(seen),
    )


def stopping(
    seen: ObservedRun, graph: Graph, steps: dict[str, StepStatus], now: datetime, reason: Reason, message: str
) -> RunStatus:
    """Return the status of a cancelled run whose last step still runs: all others are cancelled."""
    old = seen.run.status
    message = f"{message}; its last step runs"
    ready = Aspect(ConditionType.READY, False, reason, message)
    return old.model_copy(
        update={
            "phase": Phase.RUNNING,
            "reason": reason,
            "message": message,
            "started_at": old.started_at or first_start(seen.run, steps),
            "definition": graph.revision,
            "steps": steps,
            "conditions": conditions_of(seen, (ready,), now),
            "observed_generation": generation_of(seen),
        }
    )


def stopped_steps(
    seen: ObservedRun, now: datetime, reason: Reason, *, spare: str | None = None
) -> dict[str, StepStatus]:
    """Return the steps as cancelled, except for those that are over, and one that is spared."""
    text = CANCELLED_TEXT + _CANCELLED_AS.get(reason, "JOB_RUN_CANCELLED")
    names = dict.fromkeys([step.name for step in seen.graph.steps] if seen.graph else ())
    names |= dict.fromkeys((*seen.run.status.steps, *seen.live))  # the on-failure step, if it began
    steps = {}
    for name in names:
        old = seen.run.status.steps.get(name) or NOT_BEGUN
        if name == spare:
            if name in seen.run.status.steps:
                steps[name] = old
            continue
        if (live := seen.live.get(name)) is not None:
            old = with_worker(old, live)
        ended = {"phase": Phase.CANCELLED, "finished_at": now, "reason": reason, "error": text}
        ended |= {"retry_at": None, "paused_at": None}
        steps[name] = old if old.phase.is_final else old.model_copy(update=ended)
    return steps


def with_children(seen: ObservedRun, status: RunStatus, now: datetime) -> tuple[datetime | None, RunStatus]:
    """Bring the counts of children up to date, or say when that is due: they are only written once in a while."""
    if seen.children is None or seen.children == status.children:
        return None, status
    if seen.children_written_at is not None:
        due = seen.children_written_at + seen.policy.children_every
        if now < due:
            return due, status
    return None, status.model_copy(update={"children": seen.children})


def first_start(run: WorkflowRun, steps: dict[str, StepStatus]) -> datetime | None:
    """Return when the first step was assigned; those that a replay kept began before it."""
    since = rerun_began_at(run)
    started = (state.started_at for state in steps.values() if state.started_at)
    return min((at for at in started if since is None or at >= since), default=None)


def generation_of(seen: ObservedRun) -> int | None:
    """Return the `observedGeneration` to write; None: the run has no object yet."""
    return seen.run.metadata.generation or None


def conditions_of(seen: ObservedRun, aspects: Iterable[Aspect], now: datetime) -> tuple[Condition, ...]:
    """Return the conditions, with the times of those that do not change."""
    return make_conditions(aspects, before=seen.run.status.conditions, generation=generation_of(seen), now=now)
