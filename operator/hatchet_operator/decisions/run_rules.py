"""How a run goes on: its rules first; the last of them has its steps looked at, by rules of their own.

    Pending ──► Running ──► Succeeded | Failed | Cancelled        (a final phase never changes but by a rerun)

The first rule that has an opinion wins, so the order of RUN_RULES is the policy.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from difflib import get_close_matches

import orjson

from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT, Graph
from hatchet_operator.decisions.observed import ObservedRun, RunPlan
from hatchet_operator.decisions.step_rules import CANCELLED_TEXT, StepsPlan, plan_steps, with_worker
from hatchet_operator.durations import format_duration, format_elapsed
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.reasons import ConditionType, OnParentClose, Phase, Reason
from hatchet_operator.resources.run import RunStatus, StepStatus, WorkflowRun

_LONGEST_MESSAGE = 2000
_TROUBLE = "no worker is there to take it: "
_STARTING = "workers are on their way: "

RunRule = Callable[[ObservedRun, datetime], RunPlan | None]


def plan_run(seen: ObservedRun, now: datetime) -> RunPlan:
    """Say what a run needs next."""
    for rule in RUN_RULES:
        if (plan := rule(seen, now)) is not None:
            return plan
    raise AssertionError("the last rule always has an opinion")


# --- Rules of the run


def rerun_when_asked(seen: ObservedRun, now: datetime) -> RunPlan | None:
    wanted, described = seen.run.spec.reruns, seen.run.status.reruns
    if wanted <= described or not seen.run.status.phase.is_final:
        return None  # asked for while the run goes on: once more after its end
    return RunPlan(
        status=RunStatus(reruns=wanted, children=seen.run.status.children, observed_generation=_generation(seen))
    )


def keep_finished_run(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if not seen.run.status.phase.is_final:
        return None
    # Children may outlive their parent; their counts go on.
    due, status = _with_children(seen, seen.run.status, now)
    if status.observed_generation not in (None, _generation(seen)):  # somebody changed its ttl, say: that was seen, too
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
    if seen.run.status.steps or (problem := input_problem(seen.run)) is None:
        return None
    return RunPlan(status=_final(seen, now, Phase.FAILED, Reason.INVALID_INPUT, problem, steps={}))


def wait_for_workflow(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if seen.graph is not None:
        return None
    workflow = seen.run.spec.workflow
    created = seen.run.metadata.creation_timestamp or now
    timeout = (seen.without_graph and seen.without_graph.spec.schedule_timeout) or DEFAULT_SCHEDULE_TIMEOUT
    give_up_at = created + timeout
    if now >= give_up_at:
        message = (
            f'no worker registered workflow "{workflow}" within {format_duration(timeout)}; '
            "check spec.workflow, or start a worker that registers it and create the run again"
        )
        return RunPlan(status=_final(seen, now, Phase.FAILED, Reason.WORKFLOW_MISSING, message, steps={}))
    if _is_missing(seen.run):
        return RunPlan(recheck_at=give_up_at)
    message = (
        f'no worker has registered workflow "{workflow}" yet{_hint(seen)}; the run starts when one does, and gives up '
        f"at {give_up_at:%H:%M:%S} UTC (workers register when they start: if the workflow was deleted, restart them)"
    )
    aspects = (
        Aspect(ConditionType.READY, False, Reason.WORKFLOW_MISSING, message),
        Aspect(ConditionType.WORKFLOW_MISSING, True, Reason.WORKFLOW_MISSING, message),
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
    """Say what the name may stand for, or where the worker of the Workflow that has it is to come from."""
    if seen.without_graph is None:
        close = get_close_matches(seen.run.spec.workflow, seen.known_workflows, n=1)
        return f' (did you mean "{close[0]}"?)' if close else ""
    pool = seen.without_graph.spec.pool
    return f' (its Workflow names pool "{pool}": kubectl describe wp {pool})' if pool else " (its Workflow is there)"


def advance_steps(seen: ObservedRun, now: datetime) -> RunPlan:
    graph = seen.graph
    assert graph is not None, "wait_for_workflow comes first"
    steps = plan_steps(seen, graph, now)
    if all(state.phase.is_final for state in steps.states.values()):
        return RunPlan(status=_after_last_step(seen, graph, steps, now))
    old = seen.run.status
    due, status = _with_children(seen, old, now)
    reason, message, tell_at = _why_it_waits(seen, steps, now)
    recheck_at = min([*steps.recheck, *(at for at in (due, tell_at) if at is not None)], default=None)
    changed = any(state != (old.steps.get(name) or StepStatus()) for name, state in steps.states.items())
    is_resumed = message is None and old.reason == Reason.WORKFLOW_SUSPENDED
    told = (message is None and not is_resumed) or (reason, message) == (old.reason, old.message)
    missing = _is_missing(seen.run)  # its workflow, which is there by now
    if not changed and told and status == old and not missing:
        return RunPlan(wanted=tuple(steps.wanted), tell_to_stop=tuple(steps.tell_to_stop), recheck_at=recheck_at)
    begun = any(state.started_at is not None for state in steps.states.values())
    phase = Phase.RUNNING if begun else Phase.PENDING
    ready = Aspect(ConditionType.READY, False, reason or phase.value, message or "")
    status = status.model_copy(
        update={
            "phase": phase,
            "reason": reason,
            "message": message,
            "started_at": old.started_at or _first_start(steps.states),
            "definition": graph.revision,
            "steps": steps.states,
            "conditions": _conditions(seen, (ready,), now),
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
    wait_for_workflow,
    advance_steps,
)


# --- Statuses


def _why_it_waits(
    seen: ObservedRun, steps: StepsPlan, now: datetime
) -> tuple[Reason | None, str | None, datetime | None]:
    """Return reason, message, and when to write other words: the kubelet's change with each of its tries."""
    if steps.suspended:
        workflow = seen.run.spec.workflow
        return Reason.WORKFLOW_SUSPENDED, f'workflow "{workflow}" is suspended; it goes on without spec.suspended', None
    if steps.awaits is not None:
        return Reason.WAITING_FOR_WORKER, steps.awaits[:_LONGEST_MESSAGE], None
    old = seen.run.status
    if steps.trouble is None and steps.starting is None:
        if steps.ending is not None:
            return Reason.POD_ENDING, steps.ending[:_LONGEST_MESSAGE], None
        if steps.busy is None:
            return None, None, None
        # Told once: how many run and wait changes all the time, and a queue may be long. The pool has the numbers.
        return Reason.WAITING_FOR_SLOT, old.message if old.reason == Reason.WAITING_FOR_SLOT else steps.busy, None
    message = f"{_TROUBLE}{steps.trouble}" if steps.trouble else f"{_STARTING}{steps.starting}"
    message = message[:_LONGEST_MESSAGE]
    if steps.gives_up_at is not None:
        message += f"; it gives up at {steps.gives_up_at:%H:%M:%S} UTC (schedule timeout)"
    is_first = steps.trouble is not None and (old.message or "").startswith(_STARTING)
    if old.reason == Reason.WAITING_FOR_WORKER and old.message != message and not is_first:
        tell_at = seen.waiting_told_at + seen.policy.waiting_told_every if seen.waiting_told_at else now
        if now < tell_at:
            return Reason.WAITING_FOR_WORKER, old.message, tell_at
    return Reason.WAITING_FOR_WORKER, message, None


def _after_last_step(seen: ObservedRun, graph: Graph, steps: StepsPlan, now: datetime) -> RunStatus:
    """Say how the run ended; the on-failure step does not count."""
    if steps.all_succeeded(graph.steps):
        return _final(seen, now, Phase.SUCCEEDED, Reason.COMPLETED, None, steps=steps.states, graph=graph)
    ordinary = {step.name: steps.states[step.name] for step in graph.steps}
    culprits = [
        (name, state)
        for name, state in ordinary.items()
        if state.phase is not Phase.SUCCEEDED and state.reason != Reason.PREVIOUS_STEP_FAILED
    ]
    name, state = min(culprits, key=lambda culprit: culprit[1].phase is not Phase.FAILED)  # failed before cancelled
    by_choice = all(
        state.phase is not Phase.FAILED and state.reason in (None, Reason.CANCELLED_BY_STEP) for _, state in culprits
    )
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
        # depth first: what is deeper can't be written
        problem = depth_problem(value, what) or size_problem(len(orjson.dumps(value)) if value else 0, what)
        if problem is not None:
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
    text = CANCELLED_TEXT + "JOB_RUN_CANCELLED"
    names = dict.fromkeys([step.name for step in seen.graph.steps] if seen.graph else ())
    names |= dict.fromkeys((*seen.run.status.steps, *seen.live))  # the on-failure step, if it began
    steps = {}
    for name in names:
        old = seen.run.status.steps.get(name) or StepStatus()
        if (live := seen.live.get(name)) is not None:
            old = with_worker(old, live)
        ended = {"phase": Phase.CANCELLED, "finished_at": now, "reason": reason, "error": text, "retry_at": None}
        steps[name] = old if old.phase.is_final else old.model_copy(update=ended)
    return RunPlan(status=_final(seen, now, Phase.CANCELLED, reason, message, steps=steps, graph=seen.graph))


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
    started = old.started_at or _first_start(steps)
    succeeded = phase is Phase.SUCCEEDED
    aspects = [
        Aspect(ConditionType.READY, succeeded, reason, message or ""),
        Aspect(ConditionType.FINISHED, True, reason),
        Aspect(ConditionType.SUCCEEDED, succeeded, reason, message or ""),
    ]
    if not succeeded:  # or a failed run would be waited for, for ever
        aspects.append(Aspect(ConditionType.STALLED, True, reason, message or ""))
    return RunStatus(
        phase=phase,
        reason=reason,
        message=message,
        reruns=old.reruns,
        started_at=started,
        finished_at=now,
        duration=format_elapsed(now - started) if started else None,
        duration_milliseconds=max(round((now - started).total_seconds() * 1000), 0) if started else None,
        definition=graph.revision if graph else old.definition,
        steps=steps,
        children=seen.children or old.children,
        conditions=_conditions(seen, aspects, now),
        observed_generation=_generation(seen),
    )


def _with_children(seen: ObservedRun, status: RunStatus, now: datetime) -> tuple[datetime | None, RunStatus]:
    """Bring the children counts up to date, or say when that is due: they are written once in a while only."""
    if seen.children is None or seen.children == status.children:
        return None, status
    if seen.children_written_at is not None:
        due = seen.children_written_at + seen.policy.children_every
        if now < due:
            return due, status
    return None, status.model_copy(update={"children": seen.children})


def _first_start(steps: dict[str, StepStatus]) -> datetime | None:
    return min((state.started_at for state in steps.values() if state.started_at), default=None)


def _generation(seen: ObservedRun) -> int | None:
    return seen.run.metadata.generation or None


def _conditions(seen: ObservedRun, aspects: Iterable[Aspect], now: datetime) -> tuple[Condition, ...]:
    return make_conditions(aspects, before=seen.run.status.conditions, generation=_generation(seen), now=now)


def _is_missing(run: WorkflowRun) -> bool:
    """Whether the status says that the run's workflow is not there."""
    return any(condition.type == ConditionType.WORKFLOW_MISSING for condition in run.status.conditions)
