"""How each step of a run proceeds, decided separately, so that parallel branches do not wait for each other.

    Pending ──► Running ──► Succeeded | Failed | Cancelled
       ▲           │
       └───────────┘  another attempt (it failed or timed out with retries left), or the same one assigned again

The first rule that has an opinion wins, so the order of STEP_RULES is the policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.last_step import runs_after
from hatchet_operator.decisions.observed import (
    LiveAttempt,
    ObservedRun,
    Outcome,
    Wait,
    WantedAttempt,
    current_attempt_id,
)
from hatchet_operator.decisions.pausing import is_resumed, resumed, retries_used, why_paused
from hatchet_operator.decisions.results import TIMED_OUT_TEXT
from hatchet_operator.decisions.retry import has_retries_left
from hatchet_operator.decisions.step_states import (
    CANCELLED_TEXT,
    Step,
    after_doubt,
    after_loss,
    ended,
    next_attempt,
    succeeded,
    with_worker,
)
from hatchet_operator.durations import format_duration
from hatchet_operator.resources.limits import cut_error
from hatchet_operator.resources.reasons import Phase, Reason, ScheduleTimeoutCounts
from hatchet_operator.resources.run import NOT_BEGUN, StepStatus
from hatchet_operator.resources.workflow import StepDefinition


@dataclass(slots=True)
class StepsPlan:
    """The steps as they should be, and what else follows from looking at them; each rule adds its part.

    Attributes:
        states: The state of each step that was looked at.
        wanted: The attempts that should be queued or assigned.
        tell_to_stop: Steps whose live attempt timed out with retries left.
        recheck: When to look again if nothing happens; the earliest applies.
        trouble: What steps wait for, once that is worth reporting.
        awaits: The worker that may have steps from before the operator's start, once that is worth reporting.
        starting: What steps wait for that is starting.
        gives_up_at: When such a waiting step is cancelled.
        busy: What steps wait for although their workers are connected.
        ending: A message that the pod in which one runs is being ended.
        paused: Why one waits for a person.
        limited: Which rate limit blocks one.
        suspended: Whether some would be assigned if the workflow were not suspended.
    """

    states: dict[str, StepStatus] = field(default_factory=dict)
    wanted: list[WantedAttempt] = field(default_factory=list)
    tell_to_stop: list[str] = field(default_factory=list)
    recheck: list[datetime] = field(default_factory=list)
    trouble: str | None = None
    awaits: str | None = None
    starting: str | None = None
    gives_up_at: datetime | None = None
    busy: str | None = None
    ending: str | None = None
    paused: str | None = None
    limited: str | None = None
    suspended: bool = False

    def all_final(self, steps: tuple[StepDefinition, ...]) -> bool:
        return all(self.states[step.name].phase.is_final for step in steps)

    def all_succeeded(self, steps: tuple[StepDefinition, ...]) -> bool:
        return all(self.states[step.name].phase is Phase.SUCCEEDED for step in steps)


StepRule = Callable[[Step, StepsPlan], StepStatus | None]


def plan_steps(seen: ObservedRun, graph: Graph, now: datetime) -> StepsPlan:
    """Look at every step, parents before children, and at the on-failure step once its time has come."""
    plan = StepsPlan()
    for step in graph.steps:
        _advance(step, seen, graph, now, plan)
    last = graph.on_failure
    if last is None or not plan.all_final(graph.steps):
        return plan
    # One that has begun continues, even if a person has changed by now when it should run.
    has_begun = last.name in seen.run.status.steps or last.name in seen.live
    if has_begun or runs_after(graph.run_on, (plan.states[step.name] for step in graph.steps)):
        _advance(last, seen, graph, now, plan)
    return plan


def plan_last_step(seen: ObservedRun, graph: Graph, now: datetime) -> StepsPlan:
    """Look only at the on-failure step: the others were cancelled."""
    plan = StepsPlan(states=dict(seen.run.status.steps))
    assert graph.on_failure is not None, "it is asked for"
    _advance(graph.on_failure, seen, graph, now, plan)
    return plan


def _advance(definition: StepDefinition, seen: ObservedRun, graph: Graph, now: datetime, plan: StepsPlan) -> None:
    old = seen.run.status.steps.get(definition.name) or NOT_BEGUN
    parents = {name: plan.states[name] for name in definition.parents} if definition is not graph.on_failure else {}
    current = current_attempt_id(seen.run, definition.name)
    step = Step(definition, old, seen, graph, now, parents, current)
    for rule in STEP_RULES:
        if (state := rule(step, plan)) is not None:
            plan.states[definition.name] = state
            if state.paused_at is not None:
                plan.paused = plan.paused or why_paused(seen.run, definition.name, state)
            return
    raise AssertionError("the last rule always has an opinion")


def keep_finished_step(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Change nothing about a step that is over."""
    return step.old if step.old.phase.is_final else None


def wait_for_a_person(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Leave a step alone that failed and waits for a person, until `spec.resumes` says to try it again."""
    if step.old.paused_at is None:
        return None
    return resumed(step.old) if is_resumed(step.seen.run) else step.old


def believe_report(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Take over what the worker, or its death, reported about the current attempt."""
    report = step.seen.reports.get(step.definition.name)
    if report is None or report.attempt_id != step.current:
        return None
    old = with_worker(step.old, step.live) if step.live is not None else step.old
    match report.outcome:
        case Outcome.COMPLETED:
            return succeeded(old, report)
        case Outcome.CANCELLED if step.live is not None and step.live.cancel_sent_at is not None:
            return next_attempt(step, old, Reason.TIMED_OUT, _timed_out(step, step.live))  # the answer to our CANCEL
        case Outcome.CANCELLED:
            text = CANCELLED_TEXT + "CANCELLED_BY_STEP"
            return ended(step, old, Phase.CANCELLED, Reason.CANCELLED_BY_STEP, text)
        case Outcome.FAILED:
            error = cut_error(report.error or "the step failed and gave no reason")
            if report.may_retry and has_retries_left(step.definition, retries_used(old)):
                return next_attempt(step, old, Reason.STEP_FAILED, error, wait=report.retry_after)
            return ended(step, old, Phase.FAILED, report.reason, error)
        case Outcome.LOST:
            return after_loss(step, old, report)
        case Outcome.UNKNOWN:
            return after_doubt(step, old, report)


def watch_live_attempt(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Note when a worker has had an attempt for a while, and end it when its time is up.

    A timed-out attempt with retries left is first told to stop: its successor begins after the worker's answer, or
    after the grace period. Without retries left the step fails at once.
    """
    old, live, policy = step.old, step.live, step.seen.policy
    if live is None or live.id != step.current:
        return None
    plan.ending = plan.ending or live.ending
    if live.cancel_sent_at is not None:
        grace_ends = live.cancel_sent_at + policy.cancel_grace
        if step.now >= grace_ends:
            return next_attempt(step, with_worker(old, live), Reason.TIMED_OUT, _timed_out(step, live))
        plan.recheck.append(grace_ends)
    elif step.now >= live.deadline:
        if not has_retries_left(step.definition, retries_used(old)):
            return ended(step, with_worker(old, live), Phase.FAILED, Reason.TIMED_OUT, _timed_out(step, live))
        plan.tell_to_stop.append(step.definition.name)
        plan.recheck.append(step.now + policy.cancel_grace)
    else:
        plan.recheck.append(live.deadline)
    _want(step, plan)
    if old.phase is Phase.RUNNING and old.worker == live.worker:
        return old
    running_at = live.started_at + policy.running_after
    if step.now < running_at:
        plan.recheck.append(running_at)
        return old
    return with_worker(old, live).model_copy(update={"phase": Phase.RUNNING, "retry_at": None, "reason": None})


def skip_after_failed_parent(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Cancel a step that can't run any more, as one that it depends on failed or was cancelled."""
    if not any(state.phase in (Phase.FAILED, Phase.CANCELLED) for state in step.parents.values()):
        return None
    text = CANCELLED_TEXT + _why_skipped(step.parents)
    return ended(step, step.old, Phase.CANCELLED, Reason.PREVIOUS_STEP_FAILED, text)


def wait_for_parents(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Leave a step alone until all that it depends on succeeded."""
    return step.old if any(state.phase is not Phase.SUCCEEDED for state in step.parents.values()) else None


def wait_for_backoff(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Leave a step alone until the pause before its next attempt is over."""
    if step.old.retry_at is None or step.old.retry_at <= step.now:
        return None
    plan.recheck.append(step.old.retry_at)
    return step.old


def begin_nothing_while_suspended(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Start no attempt while a person has suspended the run or its workflow, or a run above it is gone."""
    plan.suspended = plan.suspended or step.seen.suspended
    seen = step.seen
    return step.old if seen.suspended or seen.above_is_gone or seen.run.spec.suspended else None


def cancel_after_schedule_timeout(step: Step, plan: StepsPlan) -> StepStatus | None:
    """Cancel a step that no worker took within the schedule timeout."""
    give_up_at = _give_up_waiting_at(step)
    if give_up_at is None or step.now < give_up_at:
        return None
    text = f"{CANCELLED_TEXT}SCHEDULING_TIMED_OUT: {_why_not_assigned(step)}"
    return ended(step, step.old, Phase.CANCELLED, Reason.SCHEDULING_TIMED_OUT, text)


def _why_not_assigned(step: Step) -> str | None:
    wait, graph = step.seen.waits[step.definition.name], step.graph
    if wait.impossible_since is not None:
        return wait.limited
    waited = format_duration(graph.schedule_timeout)
    pool = f'pool "{graph.pool}"' if graph.pool else "any pool"
    if wait.unserved_since is None:
        return f"it was in the queue of {pool} for {waited}"
    trouble = wait.trouble or "look at the pool (kubectl describe wp) and its pods"
    return f'no worker of {pool} that offers "{step.definition.action}" was connected for {waited}; {trouble}'


def wait_for_slot(step: Step, plan: StepsPlan) -> StepStatus:
    """Have the attempt queued; note why it waits, once that is worth a write. As the last rule, it always decides."""
    _want(step, plan)
    wait = step.seen.waits.get(step.definition.name)
    plan.awaits = plan.awaits or step.seen.awaits
    if wait is None:  # it will be in the queue in a moment
        # then there may be something to report, and nothing else triggers another look
        plan.recheck.append(step.now + min(step.graph.schedule_timeout, step.seen.policy.waiting_told_after))
    else:
        plan.busy = plan.busy or wait.busy
        if wait.limited is not None:
            _note_limit(step, wait, plan)
        if (give_up_at := _give_up_waiting_at(step)) is not None:
            plan.recheck.append(give_up_at)
            _note_trouble(step, wait, plan, give_up_at)
    return step.old


STEP_RULES: tuple[StepRule, ...] = (
    keep_finished_step,
    wait_for_a_person,
    believe_report,  # before any timeout: a result that has arrived is never thrown away
    watch_live_attempt,
    skip_after_failed_parent,
    wait_for_parents,
    wait_for_backoff,
    begin_nothing_while_suspended,
    cancel_after_schedule_timeout,
    wait_for_slot,
)


def _want(step: Step, plan: StepsPlan) -> None:
    plan.wanted.append(WantedAttempt(id=step.current, step=step.definition, attempt=step.old.attempt))


def _give_up_waiting_at(step: Step) -> datetime | None:
    """Return when the schedule timeout of a queued step is over; None: it is not counting."""
    wait = step.seen.waits.get(step.definition.name)
    if wait is None:
        return None
    unserved_since = wait.impossible_since or wait.unserved_since
    since = wait.queued_at if step.graph.counts is ScheduleTimeoutCounts.QUEUE else unserved_since
    return max(since, wait.queued_at) + step.graph.schedule_timeout if since is not None else None


def _note_trouble(step: Step, wait: Wait, plan: StepsPlan, give_up_at: datetime) -> None:
    """Note why a step waits, if that lasts: most waits are over before anybody looks, and each report is a write."""
    if (wait.trouble or wait.starting) is None or wait.unserved_since is None or not wait.may_tell:
        return
    tell_at = max(wait.unserved_since, wait.queued_at) + step.seen.policy.waiting_told_after
    if step.now >= tell_at:
        plan.trouble, plan.starting, plan.gives_up_at = wait.trouble, wait.starting, give_up_at
    else:
        plan.recheck.append(tell_at)


def _note_limit(step: Step, wait: Wait, plan: StepsPlan) -> None:
    """Note which limit blocks a step, as for slots: only for the first of many that wait, and only if it lasts."""
    tell_at = wait.queued_at + step.seen.policy.waiting_told_after
    if not wait.may_tell:
        return
    if step.now >= tell_at:
        plan.limited = plan.limited or wait.limited
        plan.gives_up_at = plan.gives_up_at or _give_up_waiting_at(step)
    else:
        plan.recheck.append(tell_at)


def _timed_out(step: Step, live: LiveAttempt) -> str:
    """Say after how long it timed out; the step may have asked for more time than its timeout gives."""
    given = format_duration(live.deadline - live.started_at)
    return f"{TIMED_OUT_TEXT}: timeout {given} of step {step.definition.name}"


def _why_skipped(parents: Mapping[str, StepStatus]) -> str:
    if any(state.reason == Reason.TIMED_OUT for state in parents.values()):
        return "PREVIOUS_STEP_TIMED_OUT"
    if any(state.phase is Phase.FAILED for state in parents.values()):
        return "PREVIOUS_STEP_FAILED"
    return "PREVIOUS_STEP_CANCELLED"
