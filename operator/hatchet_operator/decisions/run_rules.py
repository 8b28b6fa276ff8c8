"""How a run proceeds: by rules, the last of which looks at its steps, by rules of their own.

    Pending ──► Running ──► Succeeded | Failed | Cancelled        (a final phase only changes by a rerun)

The first rule that has an opinion wins, so the order of RUN_RULES is the policy.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from difflib import get_close_matches

import orjson

from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT, Graph
from hatchet_operator.decisions.last_step import STOPPED, runs_after_cancel
from hatchet_operator.decisions.observed import ObservedRun, RunPlan
from hatchet_operator.decisions.pausing import paused_aspects
from hatchet_operator.decisions.replays import rerun_began_at, rerun_when_asked, wait_for_children_of_replay
from hatchet_operator.decisions.step_rules import (
    CANCELLED_TEXT,
    StepsPlan,
    plan_last_step,
    plan_steps,
    with_worker,
)
from hatchet_operator.decisions.sticking import sticks_to
from hatchet_operator.decisions.suspension import (
    MESSAGE as SUSPENDED_MESSAGE,
)
from hatchet_operator.decisions.suspension import (
    SUSPENDED,
    has_begun,
    resumed_aspects,
    resumed_at,
    tell_resumed,
    wait_while_suspended,
)
from hatchet_operator.durations import format_duration, format_elapsed
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.reasons import ConditionType, OnParentClose, Phase, Reason
from hatchet_operator.resources.run import NOT_BEGUN, RunStatus, StepStatus, WorkflowRun

_LOOK_AT_THE_CLOCK = timedelta(hours=1)  # it may be adjusted
_LONGEST_MESSAGE = 2000
_TROUBLE = "no worker is there to take it: "
_GIVES_UP = "; it gives up at"
_STARTING = "workers are on their way: "

_CANCELLED_AS = {Reason.CONCURRENCY_LIMIT: "CANCELLED_BY_CONCURRENCY_LIMIT"}
"""As Hatchet's clients know it."""

_HELD = frozenset({Reason.WORKFLOW_SUSPENDED, Reason.CONCURRENCY_LIMIT, Reason.PAUSED})

RunRule = Callable[[ObservedRun, datetime], RunPlan | None]


def plan_run(seen: ObservedRun, now: datetime) -> RunPlan:
    """Decide what a run needs next."""
    for rule in RUN_RULES:
        if (plan := rule(seen, now)) is not None:
            return plan
    raise AssertionError("the last rule always has an opinion")


# --- Rules of the run


def keep_finished_run(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if not seen.run.status.phase.is_final:
        return None
    # Children may outlive their parent; their counts are still updated.
    due, status = _with_children(seen, seen.run.status, now)
    if status.observed_generation not in (None, _generation(seen)):  # as by a new ttl: acknowledge it
        conditions = [
            condition.model_copy(update={"observed_generation": _generation(seen)}) for condition in status.conditions
        ]
        status = status.model_copy(update={"observed_generation": _generation(seen), "conditions": tuple(conditions)})
    return RunPlan(status=status if status != seen.run.status else None, recheck_at=due)


def cancel_when_asked(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if not seen.run.spec.cancelled:
        return None
    return _cancelled(seen, now, Reason.CANCEL_REQUESTED, "spec.cancelled was set")


def cancel_with_parent(seen: ObservedRun, now: datetime) -> RunPlan | None:
    parent, spec = seen.parent, seen.run.spec
    if parent is None or spec.parent is None:
        return None
    if parent.cancelled:
        return _cancelled(seen, now, Reason.PARENT_CANCELLED, f"its parent run {spec.parent.name} was cancelled")
    if parent.closed and spec.on_parent_close is OnParentClose.CANCEL:
        return _cancelled(seen, now, Reason.PARENT_CLOSED, f"its parent run {spec.parent.name} finished before it")
    return None


def fail_on_bad_input(seen: ObservedRun, now: datetime) -> RunPlan | None:
    has_passed = seen.run.status.steps or seen.live or seen.reports  # a worker was given it: no need to look again
    if has_passed or (problem := input_problem(seen.run)) is None:
        return None
    return RunPlan(status=_final(seen, now, Phase.FAILED, Reason.INVALID_INPUT, problem, steps={}))


def is_due(seen: ObservedRun, now: datetime) -> bool:
    """Whether a run's scheduled time has come, or it has begun already."""
    start = seen.run.spec.start_at
    return start is None or now >= start or has_begun(seen)


def wait_until_start(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if is_due(seen, now) or (start := seen.run.spec.start_at) is None:
        return None
    return RunPlan(recheck_at=min(start, now + _LOOK_AT_THE_CLOCK))


def wait_for_workflow(seen: ObservedRun, now: datetime) -> RunPlan | None:
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
        return RunPlan(status=_final(seen, now, Phase.FAILED, Reason.WORKFLOW_MISSING, message, steps=kept))
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
            "conditions": _conditions(seen, aspects, now),
            "observed_generation": _generation(seen),
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
    """Cancel what must be cancelled, and let wait what must not start yet; what has started is never delayed."""
    group = seen.group
    if group is None:
        return None
    if group.problem is not None:
        status = _final(seen, now, Phase.FAILED, Reason.INVALID_INPUT, group.problem, steps={}, graph=seen.graph)
        return RunPlan(status=status)
    if group.goes is not None:
        return _cancelled(seen, now, Reason.CONCURRENCY_LIMIT, group.goes)
    if group.waits is None:
        return None
    old = seen.run.status
    tell_at = (seen.run.metadata.creation_timestamp or now) + seen.policy.waiting_told_after
    if not group.may_tell or old.reason == Reason.CONCURRENCY_LIMIT:
        return RunPlan()
    if now < tell_at:
        return RunPlan(recheck_at=tell_at)
    ready = Aspect(ConditionType.READY, False, Reason.CONCURRENCY_LIMIT, group.waits)
    status = old.model_copy(
        update={
            "reason": Reason.CONCURRENCY_LIMIT,
            "message": group.waits,
            "concurrency_groups": group.keys,
            "conditions": _conditions(seen, (ready,), now),
            "observed_generation": _generation(seen),
        }
    )
    return RunPlan(status=status)


def advance_steps(seen: ObservedRun, now: datetime) -> RunPlan:
    graph = seen.graph
    assert graph is not None, "wait_for_workflow comes first"
    steps = plan_steps(seen, graph, now)
    if all(state.phase.is_final for state in steps.states.values()):
        return RunPlan(status=_after_last_step(seen, graph, steps, now))
    return _going_on(seen, graph, steps, now)


def _going_on(seen: ObservedRun, graph: Graph, steps: StepsPlan, now: datetime) -> RunPlan:
    """Write the progress of the steps, if that is worth it; otherwise say which attempts are wanted."""
    old = seen.run.status
    due, status = _with_children(seen, old, now)
    reason, message, tell_at = _why_it_waits(seen, steps, now)
    recheck_at = min([*steps.recheck, *(at for at in (due, tell_at) if at is not None)], default=None)
    changed = any(_differs(state, old.steps.get(name) or NOT_BEGUN) for name, state in steps.states.items())
    goes_on = message is None and old.reason in _HELD
    told = (message is None and not goes_on) or (reason, message) == (old.reason, old.message)
    missing = _is_missing(seen.run)  # its workflow was missing, and exists by now
    if not changed and told and status is old and not missing:
        return RunPlan(wanted=tuple(steps.wanted), tell_to_stop=tuple(steps.tell_to_stop), recheck_at=recheck_at)
    started = old.started_at or _first_start(seen.run, steps.states)
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
            "conditions": _conditions(seen, aspects, now),
            "observed_generation": _generation(seen),
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


# --- Statuses


def _why_it_waits(
    seen: ObservedRun, steps: StepsPlan, now: datetime
) -> tuple[Reason | None, str | None, datetime | None]:
    """Return reason, message, and when to write new words: the kubelet's change with each of its tries."""
    if steps.paused:
        return Reason.PAUSED, steps.paused[:_LONGEST_MESSAGE], None
    if seen.run.spec.suspended:
        return Reason.SUSPENDED, SUSPENDED_MESSAGE, None
    if steps.suspended:
        workflow = seen.run.spec.workflow
        return (
            Reason.WORKFLOW_SUSPENDED,
            f'workflow "{workflow}" is suspended: no step starts until its spec.suspended is false',
            None,
        )
    if steps.awaits is not None:
        return Reason.WAITING_FOR_WORKER, steps.awaits[:_LONGEST_MESSAGE], None
    old = seen.run.status
    if steps.trouble is None and steps.starting is None:
        if steps.ending is not None:
            return Reason.POD_ENDING, steps.ending[:_LONGEST_MESSAGE], None
        if steps.limited is not None:
            return _why_limited(seen, steps, now)
        if steps.busy is None:
            return None, None, None
        # Told once: how many run and wait changes all the time, and a queue may be long. The pool has the numbers.
        return Reason.WAITING_FOR_SLOT, old.message if old.reason == Reason.WAITING_FOR_SLOT else steps.busy, None
    message = f"{_TROUBLE}{steps.trouble}" if steps.trouble else f"{_STARTING}{steps.starting}"
    message = message[:_LONGEST_MESSAGE]
    if steps.gives_up_at is not None:
        message += f"{_GIVES_UP} {steps.gives_up_at:%H:%M:%S} UTC (schedule timeout)"
    is_first = steps.trouble is not None and (old.message or "").startswith(_STARTING)
    if old.reason == Reason.WAITING_FOR_WORKER and old.message != message and not is_first:
        tell_at = seen.waiting_told_at + seen.policy.waiting_told_every if seen.waiting_told_at else now
        if now < tell_at:
            return Reason.WAITING_FOR_WORKER, old.message, tell_at
    return Reason.WAITING_FOR_WORKER, message, None


def _why_limited(seen: ObservedRun, steps: StepsPlan, now: datetime) -> tuple[Reason, str | None, datetime | None]:
    """Report it again once in a while: how much is used, and when units are replenished, changes with every window."""
    old, message = seen.run.status, (steps.limited or "")[:_LONGEST_MESSAGE]
    if steps.gives_up_at is not None:
        message += f"{_GIVES_UP} {steps.gives_up_at:%H:%M:%S} UTC (schedule timeout)"
    turned = (steps.gives_up_at is None) != (_GIVES_UP not in (old.message or ""))
    if old.reason == Reason.WAITING_FOR_RATE_LIMIT and old.message != message and not turned:
        tell_at = seen.waiting_told_at + seen.policy.waiting_told_every if seen.waiting_told_at else now
        if now < tell_at:
            return Reason.WAITING_FOR_RATE_LIMIT, old.message, tell_at
    return Reason.WAITING_FOR_RATE_LIMIT, message, None


def _after_last_step(seen: ObservedRun, graph: Graph, steps: StepsPlan, now: datetime) -> RunStatus:
    """Return how the run ended; the on-failure step does not count."""
    if steps.all_succeeded(graph.steps):
        return _final(seen, now, Phase.SUCCEEDED, Reason.COMPLETED, None, steps=steps.states, graph=graph)
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
    return _final(seen, now, phase, reason, message, steps=steps.states, graph=graph)


def input_problem(run: WorkflowRun) -> str | None:
    """Say what is wrong with a run's input, or None.

    The API server looks neither into a text nor at depth, and can't tell how many bytes an object has as JSON (CEL has
    no way to write one).
    """
    spec = run.spec
    for what, value in (("spec.additionalMetadata", spec.additional_metadata), ("spec.input", spec.input)):
        if not value:
            continue
        # depth first: what is too deep can't be written
        if (problem := depth_problem(value, what) or size_problem(len(orjson.dumps(value)), what)) is not None:
            return problem
    if spec.input_json is None:
        return None
    if (problem := size_problem(len(spec.input_json.encode("utf-8", "surrogatepass")), "spec.inputJson")) is not None:
        return problem
    try:
        value = read_json(spec.input_json)
    except orjson.JSONDecodeError as error:
        return f"spec.inputJson is not JSON ({error}); expected the text of a JSON object, as in '{{\"a\": 1}}'"
    if not isinstance(value, dict):
        return f"spec.inputJson is a JSON {type(value).__name__}; expected an object, as in '{{\"a\": 1}}'"
    return depth_problem(value, "spec.inputJson")


def _cancelled(seen: ObservedRun, now: datetime, reason: Reason, message: str) -> RunPlan:
    """End the run as cancelled, after its last step if that runs in this case, too."""
    graph = seen.graph
    old, last = seen.run.status.steps, graph.on_failure if graph else None
    if graph and last and runs_after_cancel(graph.run_on, old.values(), is_out=bool(seen.live)):
        stopped = _stopped_steps(seen, now, reason, spare=last.name)
        if any(stopped[step.name] != old.get(step.name) for step in graph.steps):
            return RunPlan(status=_stopping(seen, graph, stopped, now, reason, message))
        steps = plan_last_step(seen, graph, now)
        if not steps.states[last.name].phase.is_final:
            return _going_on(seen, graph, steps, now)
        return RunPlan(status=_final(seen, now, Phase.CANCELLED, reason, message, steps=steps.states, graph=graph))
    steps_at_end = _stopped_steps(seen, now, reason)
    return RunPlan(status=_final(seen, now, Phase.CANCELLED, reason, message, steps=steps_at_end, graph=graph))


def _stopping(
    seen: ObservedRun, graph: Graph, steps: dict[str, StepStatus], now: datetime, reason: Reason, message: str
) -> RunStatus:
    """Say that all steps but the last are cancelled."""
    old = seen.run.status
    message = f"{message}; its last step runs"
    ready = Aspect(ConditionType.READY, False, reason, message)
    return old.model_copy(
        update={
            "phase": Phase.RUNNING,
            "reason": reason,
            "message": message,
            "started_at": old.started_at or _first_start(seen.run, steps),
            "definition": graph.revision,
            "steps": steps,
            "conditions": _conditions(seen, (ready,), now),
            "observed_generation": _generation(seen),
        }
    )


def _stopped_steps(
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


def _final(
    seen: ObservedRun,
    now: datetime,
    phase: Phase,
    reason: Reason,
    message: str | None,
    *,
    steps: dict[str, StepStatus],
    graph: Graph | None = None,
) -> RunStatus:
    old = seen.run.status
    started = old.started_at or _first_start(seen.run, steps)
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
        conditions=_conditions(seen, aspects, now),
        observed_generation=_generation(seen),
    )


def _with_children(seen: ObservedRun, status: RunStatus, now: datetime) -> tuple[datetime | None, RunStatus]:
    """Bring the children counts up to date, or say when that is due: they are only written once in a while."""
    if seen.children is None or seen.children == status.children:
        return None, status
    if seen.children_written_at is not None:
        due = seen.children_written_at + seen.policy.children_every
        if now < due:
            return due, status
    return None, status.model_copy(update={"children": seen.children})


def _first_start(run: WorkflowRun, steps: dict[str, StepStatus]) -> datetime | None:
    """Return when the first step was assigned; those that a replay kept began before it."""
    since = rerun_began_at(run)
    started = (state.started_at for state in steps.values() if state.started_at)
    return min((at for at in started if since is None or at >= since), default=None)


def _generation(seen: ObservedRun) -> int | None:
    return seen.run.metadata.generation or None


def _conditions(seen: ObservedRun, aspects: Iterable[Aspect], now: datetime) -> tuple[Condition, ...]:
    return make_conditions(aspects, before=seen.run.status.conditions, generation=_generation(seen), now=now)


def _differs(state: StepStatus, before: StepStatus) -> bool:
    return state is not before and state != before  # most of the time it is the very object, and comparing takes longer


def _is_missing(run: WorkflowRun) -> bool:
    """Whether the status says that the run's workflow is missing."""
    return any(condition.type == ConditionType.WORKFLOW_MISSING for condition in run.status.conditions)
