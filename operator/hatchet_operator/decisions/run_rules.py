"""How a run proceeds: by rules, the last of which looks at its steps, by rules of their own.

    Pending ──► Running ──► Succeeded | Failed | Cancelled        (a final phase only changes by a rerun)

The first rule that has an opinion wins, so the order of RUN_RULES is the policy.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from difflib import get_close_matches

from hatchet_operator.decisions.conditions import Aspect
from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT, Graph
from hatchet_operator.decisions.last_step import STOPPED, runs_after_cancel
from hatchet_operator.decisions.observed import ObservedRun, RunPlan
from hatchet_operator.decisions.pausing import paused_aspects
from hatchet_operator.decisions.replays import rerun_began_at, rerun_when_asked, wait_for_children_of_replay
from hatchet_operator.decisions.run_input import input_problem
from hatchet_operator.decisions.run_statuses import (
    conditions_of,
    final,
    first_start,
    generation_of,
    stopped_steps,
    stopping,
    with_children,
)
from hatchet_operator.decisions.run_waits import why_it_waits
from hatchet_operator.decisions.step_rules import StepsPlan, plan_last_step, plan_steps
from hatchet_operator.decisions.sticking import sticks_to
from hatchet_operator.decisions.suspension import (
    SUSPENDED,
    has_begun,
    resumed_aspects,
    resumed_at,
    tell_resumed,
    wait_while_suspended,
)
from hatchet_operator.durations import format_duration
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.reasons import ConditionType, OnParentClose, Phase, Reason
from hatchet_operator.resources.run import NOT_BEGUN, RunStatus, StepStatus, WorkflowRun

_LOOK_AT_THE_CLOCK = timedelta(hours=1)  # it may be adjusted
_CLEARED_WHEN_OVER = frozenset({Reason.WORKFLOW_SUSPENDED, Reason.CONCURRENCY_LIMIT, Reason.PAUSED})
RunRule = Callable[[ObservedRun, datetime], RunPlan | None]


def plan_run(seen: ObservedRun, now: datetime) -> RunPlan:
    """Decide what a run needs next."""
    for rule in RUN_RULES:
        if (plan := rule(seen, now)) is not None:
            return plan
    raise AssertionError("the last rule always has an opinion")


def keep_finished_run(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Change nothing about a run that is over but its children's counts, and which generation was seen."""
    if not seen.run.status.phase.is_final:
        return None
    # Children may outlive their parent; their counts are still updated.
    due, status = with_children(seen, seen.run.status, now)
    if status.observed_generation not in (None, generation_of(seen)):  # as by a new ttl: acknowledge it
        conditions = [
            condition.model_copy(update={"observed_generation": generation_of(seen)}) for condition in status.conditions
        ]
        status = status.model_copy(update={"observed_generation": generation_of(seen), "conditions": tuple(conditions)})
    return RunPlan(status=status if status != seen.run.status else None, recheck_at=due)


def cancel_when_asked(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Cancel a run whose `spec.cancelled` is set."""
    if not seen.run.spec.cancelled:
        return None
    return _cancelled(seen, now, Reason.CANCEL_REQUESTED, "spec.cancelled was set")


def cancel_with_parent(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Cancel a run whose parent was cancelled, or is over, if `spec.onParentClose` says Cancel."""
    parent, spec = seen.parent, seen.run.spec
    if parent is None or spec.parent is None:
        return None
    if parent.cancelled:
        return _cancelled(seen, now, Reason.PARENT_CANCELLED, f"its parent run {spec.parent.name} was cancelled")
    if parent.closed and spec.on_parent_close is OnParentClose.CANCEL:
        return _cancelled(seen, now, Reason.PARENT_CLOSED, f"its parent run {spec.parent.name} finished before it")
    return None


def fail_on_bad_input(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Fail a run, before anything starts, whose input is no JSON object or too large."""
    has_passed = seen.run.status.steps or seen.live or seen.reports  # a worker was given it: no need to look again
    if has_passed or (problem := input_problem(seen.run)) is None:
        return None
    return RunPlan(status=final(seen, now, Phase.FAILED, Reason.INVALID_INPUT, problem, steps={}))


def is_due(seen: ObservedRun, now: datetime) -> bool:
    """Whether a run's scheduled time has come, or it has begun already."""
    start = seen.run.spec.start_at
    return start is None or now >= start or has_begun(seen)


def wait_until_start(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Leave a run alone until its scheduled time; look every hour, as the clock may be adjusted."""
    if is_due(seen, now) or (start := seen.run.spec.start_at) is None:
        return None
    return RunPlan(recheck_at=min(start, now + _LOOK_AT_THE_CLOCK))


def wait_for_workflow(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Wait for a worker to register the run's workflow, and fail the run after the schedule timeout.

    The timeout counts from the latest of the run's creation, its scheduled time, a resume and a rerun.
    """
    if seen.graph is not None:
        return None
    workflow = seen.run.spec.workflow
    run = seen.run
    times = (run.metadata.creation_timestamp, run.spec.start_at, resumed_at(run), rerun_began_at(run))
    since = max(filter(None, times), default=now)
    timeout = (seen.without_graph and seen.without_graph.spec.schedule_timeout) or DEFAULT_SCHEDULE_TIMEOUT
    give_up_at = since + timeout
    if now >= give_up_at:
        message = (
            f'no worker registered workflow "{workflow}" within {format_duration(timeout)}; '
            "check spec.workflow, or start a worker that registers it and create the run again"
        )
        kept = {name: state for name, state in run.status.steps.items() if state.phase.is_final}  # of a replay
        return RunPlan(status=final(seen, now, Phase.FAILED, Reason.WORKFLOW_MISSING, message, steps=kept))
    if _is_missing(seen.run):
        return RunPlan(recheck_at=give_up_at)
    message = (
        f'no worker has registered workflow "{workflow}" yet{_hint(seen)}; the run starts when one does, and gives up '
        f"at {give_up_at:%H:%M:%S} UTC (workers register when they start: if the workflow was deleted, restart them)"
    )
    aspects = (
        Aspect(ConditionType.READY, False, Reason.WORKFLOW_MISSING, message),
        Aspect(ConditionType.WORKFLOW_MISSING, True, Reason.WORKFLOW_MISSING, message),
        *resumed_aspects(seen.run),
    )
    status = seen.run.status.model_copy(
        update={
            "reason": Reason.WORKFLOW_MISSING,
            "message": message,
            "conditions": conditions_of(seen, aspects, now),
            "observed_generation": generation_of(seen),
        }
    )
    return RunPlan(status=status, recheck_at=give_up_at)


def _hint(seen: ObservedRun) -> str:
    """Say what the name may refer to, or where a worker for the Workflow of that name should come from."""
    if seen.without_graph is None:
        close = get_close_matches(seen.run.spec.workflow, seen.known_workflows, n=1)
        return f' (did you mean "{close[0]}"?)' if close else ""
    pool = seen.without_graph.spec.pool
    return f' (its Workflow names pool "{pool}": kubectl describe wp {pool})' if pool else " (its Workflow is there)"


def respect_group(seen: ObservedRun, now: datetime) -> RunPlan | None:
    """Cancel what must be cancelled, and delay what must not start yet; what has started is never delayed."""
    group = seen.group
    if group is None:
        return None
    if group.problem is not None:
        status = final(seen, now, Phase.FAILED, Reason.INVALID_INPUT, group.problem, steps={}, graph=seen.graph)
        return RunPlan(status=status)
    if group.cancelled_for is not None:
        return _cancelled(seen, now, Reason.CONCURRENCY_LIMIT, group.cancelled_for)
    if group.waits is None:
        return None
    old = seen.run.status
    tell_at = (seen.run.metadata.creation_timestamp or now) + seen.policy.waiting_told_after
    is_told = old.reason == Reason.CONCURRENCY_LIMIT
    if old.message == group.waits if is_told else not group.may_tell:  # other words: its limits were changed
        return RunPlan()
    if now < tell_at:
        return RunPlan(recheck_at=tell_at)
    ready = Aspect(ConditionType.READY, False, Reason.CONCURRENCY_LIMIT, group.waits)
    status = old.model_copy(
        update={
            "reason": Reason.CONCURRENCY_LIMIT,
            "message": group.waits,
            "concurrency_groups": group.keys,
            "conditions": conditions_of(seen, (ready,), now),
            "observed_generation": generation_of(seen),
        }
    )
    return RunPlan(status=status)


def advance_steps(seen: ObservedRun, now: datetime) -> RunPlan:
    """Advance the steps; end the run when all are final. As the last rule, it always decides."""
    graph = seen.graph
    assert graph is not None, "wait_for_workflow comes first"
    steps = plan_steps(seen, graph, now)
    if all(state.phase.is_final for state in steps.states.values()):
        return RunPlan(status=_after_last_step(seen, graph, steps, now))
    return _going_on(seen, graph, steps, now)


def _going_on(seen: ObservedRun, graph: Graph, steps: StepsPlan, now: datetime) -> RunPlan:
    """Write the progress of the steps, if that is worth it; otherwise say which attempts are wanted."""
    old = seen.run.status
    due, status = with_children(seen, old, now)
    reason, message, tell_at = why_it_waits(seen, steps, now)
    recheck_at = min([*steps.recheck, *(at for at in (due, tell_at) if at is not None)], default=None)
    changed = any(_differs(state, old.steps.get(name) or NOT_BEGUN) for name, state in steps.states.items())
    goes_on = message is None and old.reason in _CLEARED_WHEN_OVER
    told = (message is None and not goes_on) or (reason, message) == (old.reason, old.message)
    missing = _is_missing(seen.run)  # its workflow was missing, and exists by now
    if not changed and told and status is old and not missing:
        return RunPlan(wanted=tuple(steps.wanted), tell_to_stop=tuple(steps.tell_to_stop), recheck_at=recheck_at)
    started = old.started_at or first_start(seen.run, steps.states)
    phase = Phase.RUNNING if started else Phase.PENDING
    ready = Aspect(ConditionType.READY, False, reason or phase.value, message or "")
    aspects = [ready, *(paused_aspects(steps.paused) if steps.paused else ())]
    if seen.run.spec.suspended:
        aspects.append(SUSPENDED)
    status = status.model_copy(
        update={
            "phase": phase,
            "reason": reason,
            "message": message,
            "resumes": seen.run.spec.resumes,
            "started_at": started,
            "definition": graph.revision,
            "steps": steps.states,
            "concurrency_groups": seen.group.keys if seen.group else None,
            "sticky_worker": sticks_to(
                graph.sticky, written=old.sticky_worker, asked=seen.run.spec.sticky_worker, taken=seen.taken
            ),
            "conditions": conditions_of(seen, aspects, now),
            "observed_generation": generation_of(seen),
        }
    )
    return RunPlan(status=status, recheck_at=recheck_at)


RUN_RULES: tuple[RunRule, ...] = (
    rerun_when_asked,
    keep_finished_run,
    cancel_when_asked,
    cancel_with_parent,
    fail_on_bad_input,
    wait_while_suspended,
    tell_resumed,
    wait_for_children_of_replay,
    wait_until_start,
    wait_for_workflow,
    respect_group,
    advance_steps,
)


def _after_last_step(seen: ObservedRun, graph: Graph, steps: StepsPlan, now: datetime) -> RunStatus:
    """Return how the run ended; the on-failure step does not count."""
    if steps.all_succeeded(graph.steps):
        return final(seen, now, Phase.SUCCEEDED, Reason.COMPLETED, None, steps=steps.states, graph=graph)
    ordinary = {step.name: steps.states[step.name] for step in graph.steps}
    culprits = [
        (name, state)
        for name, state in ordinary.items()
        if state.phase is not Phase.SUCCEEDED and state.reason != Reason.PREVIOUS_STEP_FAILED
    ]
    name, state = min(culprits, key=lambda culprit: culprit[1].phase is not Phase.FAILED)  # failed before cancelled
    by_choice = all(state.phase is not Phase.FAILED and state.reason in STOPPED for _, state in culprits)
    phase = Phase.CANCELLED if by_choice else Phase.FAILED
    message = f'step "{name}" (attempt {state.attempt + 1}): {headline(state.error)}'
    reason = Reason(state.reason) if state.reason else Reason.STEP_FAILED
    return final(seen, now, phase, reason, message, steps=steps.states, graph=graph)


def _cancelled(seen: ObservedRun, now: datetime, reason: Reason, message: str) -> RunPlan:
    """End the run as cancelled, after its last step if that runs in this case."""
    graph = seen.graph
    old, last = seen.run.status.steps, graph.on_failure if graph else None
    if graph and last and runs_after_cancel(graph.run_on, old.values(), is_assigned=bool(seen.live)):
        stopped = stopped_steps(seen, now, reason, spare=last.name)
        if any(stopped[step.name] != old.get(step.name) for step in graph.steps):
            return RunPlan(status=stopping(seen, graph, stopped, now, reason, message))
        steps = plan_last_step(seen, graph, now)
        if not steps.states[last.name].phase.is_final:
            return _going_on(seen, graph, steps, now)
        return RunPlan(status=final(seen, now, Phase.CANCELLED, reason, message, steps=steps.states, graph=graph))
    steps_at_end = stopped_steps(seen, now, reason)
    return RunPlan(status=final(seen, now, Phase.CANCELLED, reason, message, steps=steps_at_end, graph=graph))


def _differs(state: StepStatus, before: StepStatus) -> bool:
    return state is not before and state != before  # most of the time it is the very object, and comparing takes longer


def _is_missing(run: WorkflowRun) -> bool:
    """Whether the status says that the run's workflow is missing."""
    return any(condition.type == ConditionType.WORKFLOW_MISSING for condition in run.status.conditions)
