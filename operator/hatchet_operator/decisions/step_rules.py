"""How each step of a run proceeds, decided separately, so that parallel branches do not wait for each other.

    Pending ──► Running ──► Succeeded | Failed | Cancelled
       ▲           │
       └───────────┘  another attempt (it failed or timed out with retries left), or the same one assigned again

The first rule that has an opinion wins, so the order of STEP_RULES is the policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.last_step import runs_after
from hatchet_operator.decisions.losses import counted_as
from hatchet_operator.decisions.observed import (
    LiveAttempt,
    ObservedRun,
    Outcome,
    Report,
    Wait,
    WantedAttempt,
    current_attempt_id,
)
from hatchet_operator.decisions.pausing import is_resumed, paused, pauses, resumed, retries_used, why_paused
from hatchet_operator.decisions.results import TIMED_OUT_TEXT
from hatchet_operator.decisions.retry import backoff, has_retries_left
from hatchet_operator.durations import format_duration
from hatchet_operator.resources.limits import cut_error
from hatchet_operator.resources.reasons import LossKind, Phase, Reason, ScheduleTimeoutCounts
from hatchet_operator.resources.run import MAX_EARLIER, NOT_BEGUN, EarlierTry, LostWorker, StepStatus
from hatchet_operator.resources.workflow import StepDefinition

_MOST_LOST_WORKERS = 8
_LONGEST_WHY = 512
CANCELLED_TEXT = "this step run was cancelled due to "  # likewise


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


class _Step(NamedTuple):  # not a frozen dataclass, which takes longer to create: there is one for each look at a step
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


StepRule = Callable[[_Step, StepsPlan], StepStatus | None]


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
    step = _Step(definition, old, seen, graph, now, parents, current)
    for rule in STEP_RULES:
        if (state := rule(step, plan)) is not None:
            plan.states[definition.name] = state
            if state.paused_at is not None:
                plan.paused = plan.paused or why_paused(seen.run, definition.name, state)
            return
    raise AssertionError("the last rule always has an opinion")


# --- Rules


def keep_finished_step(step: _Step, plan: StepsPlan) -> StepStatus | None:
    return step.old if step.old.phase.is_final else None


def wait_for_a_person(step: _Step, plan: StepsPlan) -> StepStatus | None:
    if step.old.paused_at is None:
        return None
    return resumed(step.old) if is_resumed(step.seen.run) else step.old


def believe_report(step: _Step, plan: StepsPlan) -> StepStatus | None:
    report = step.seen.reports.get(step.definition.name)
    if report is None or report.attempt_id != step.current:
        return None
    old = with_worker(step.old, step.live) if step.live is not None else step.old
    match report.outcome:
        case Outcome.COMPLETED:
            return _succeeded(old, report)
        case Outcome.CANCELLED if step.live is not None and step.live.cancel_sent_at is not None:
            return _next_attempt(step, old, Reason.TIMED_OUT, _timed_out(step, step.live))  # the answer to our CANCEL
        case Outcome.CANCELLED:
            text = CANCELLED_TEXT + "CANCELLED_BY_STEP"
            return _ended(step, old, Phase.CANCELLED, Reason.CANCELLED_BY_STEP, text)
        case Outcome.FAILED:
            error = cut_error(report.error or "the step failed and gave no reason")
            if report.may_retry and has_retries_left(step.definition, retries_used(old)):
                return _next_attempt(step, old, Reason.STEP_FAILED, error, wait=report.retry_after)
            return _ended(step, old, Phase.FAILED, report.reason, error)
        case Outcome.LOST:
            return _after_loss(step, old, report)
        case Outcome.UNKNOWN:
            return _after_doubt(step, old, report)


def watch_live_attempt(step: _Step, plan: StepsPlan) -> StepStatus | None:
    old, live, policy = step.old, step.live, step.seen.policy
    if live is None or live.id != step.current:
        return None
    plan.ending = plan.ending or live.ending
    if live.cancel_sent_at is not None:
        grace_ends = live.cancel_sent_at + policy.cancel_grace
        if step.now >= grace_ends:
            return _next_attempt(step, with_worker(old, live), Reason.TIMED_OUT, _timed_out(step, live))
        plan.recheck.append(grace_ends)
    elif step.now >= live.deadline:
        if not has_retries_left(step.definition, retries_used(old)):
            return _ended(step, with_worker(old, live), Phase.FAILED, Reason.TIMED_OUT, _timed_out(step, live))
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


def skip_after_failed_parent(step: _Step, plan: StepsPlan) -> StepStatus | None:
    if not any(state.phase in (Phase.FAILED, Phase.CANCELLED) for state in step.parents.values()):
        return None
    text = CANCELLED_TEXT + _why_skipped(step.parents)
    return _ended(step, step.old, Phase.CANCELLED, Reason.PREVIOUS_STEP_FAILED, text)


def wait_for_parents(step: _Step, plan: StepsPlan) -> StepStatus | None:
    return step.old if any(state.phase is not Phase.SUCCEEDED for state in step.parents.values()) else None


def wait_for_backoff(step: _Step, plan: StepsPlan) -> StepStatus | None:
    if step.old.retry_at is None or step.old.retry_at <= step.now:
        return None
    plan.recheck.append(step.old.retry_at)
    return step.old


def hold_while_suspended(step: _Step, plan: StepsPlan) -> StepStatus | None:
    plan.suspended = plan.suspended or step.seen.suspended
    is_held = step.seen.suspended or step.seen.held_back or step.seen.run.spec.suspended
    return step.old if is_held else None


def cancel_after_schedule_timeout(step: _Step, plan: StepsPlan) -> StepStatus | None:
    give_up_at = _give_up_waiting_at(step)
    if give_up_at is None or step.now < give_up_at:
        return None
    wait, graph = step.seen.waits[step.definition.name], step.graph
    waited = format_duration(graph.schedule_timeout)
    pool = f'pool "{graph.pool}"' if graph.pool else "any pool"
    what = (
        wait.limited
        if wait.hopeless_since is not None
        else (
            f'no worker of {pool} that offers "{step.definition.action}" was connected for {waited}; '
            + (wait.trouble or "look at the pool (kubectl describe wp) and its pods")
            if wait.unserved_since is not None
            else f"it was in the queue of {pool} for {waited}"
        )
    )
    text = f"{CANCELLED_TEXT}SCHEDULING_TIMED_OUT: {what}"
    return _ended(step, step.old, Phase.CANCELLED, Reason.SCHEDULING_TIMED_OUT, text)


def wait_for_slot(step: _Step, plan: StepsPlan) -> StepStatus:
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
    hold_while_suspended,
    cancel_after_schedule_timeout,
    wait_for_slot,
)


# --- What rules share


def _want(step: _Step, plan: StepsPlan) -> None:
    plan.wanted.append(WantedAttempt(id=step.current, step=step.definition, attempt=step.old.attempt))


def _give_up_waiting_at(step: _Step) -> datetime | None:
    """Return when the schedule timeout of a queued step is over; None: it is not counting."""
    wait = step.seen.waits.get(step.definition.name)
    if wait is None:
        return None
    unserved_since = wait.hopeless_since or wait.unserved_since
    since = wait.queued_at if step.graph.counts is ScheduleTimeoutCounts.QUEUE else unserved_since
    return max(since, wait.queued_at) + step.graph.schedule_timeout if since is not None else None


def _note_trouble(step: _Step, wait: Wait, plan: StepsPlan, give_up_at: datetime) -> None:
    """Note why a step waits, if that lasts: most waits are over before anybody looks, and each report is a write."""
    if (wait.trouble or wait.starting) is None or wait.unserved_since is None or not wait.may_tell:
        return
    tell_at = max(wait.unserved_since, wait.queued_at) + step.seen.policy.waiting_told_after
    if step.now >= tell_at:
        plan.trouble, plan.starting, plan.gives_up_at = wait.trouble, wait.starting, give_up_at
    else:
        plan.recheck.append(tell_at)


def _note_limit(step: _Step, wait: Wait, plan: StepsPlan) -> None:
    """Note which limit blocks a step, as for slots: only for the first of many that wait, and only if it lasts."""
    tell_at = wait.queued_at + step.seen.policy.waiting_told_after
    if not wait.may_tell:
        return
    if step.now >= tell_at:
        plan.limited = plan.limited or wait.limited
        plan.gives_up_at = plan.gives_up_at or _give_up_waiting_at(step)
    else:
        plan.recheck.append(tell_at)


def _timed_out(step: _Step, live: LiveAttempt) -> str:
    """Say after how long it timed out; the step may have asked for more time than its timeout gives."""
    given = format_duration(live.deadline - live.started_at)
    return f"{TIMED_OUT_TEXT}: timeout {given} of step {step.definition.name}"


def _why_skipped(parents: Mapping[str, StepStatus]) -> str:
    if any(state.reason == Reason.TIMED_OUT for state in parents.values()):
        return "PREVIOUS_STEP_TIMED_OUT"
    if any(state.phase is Phase.FAILED for state in parents.values()):
        return "PREVIOUS_STEP_FAILED"
    return "PREVIOUS_STEP_CANCELLED"


# --- States


def _succeeded(old: StepStatus, report: Report) -> StepStatus:
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


def _after_loss(step: _Step, old: StepStatus, report: Report) -> StepStatus:
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
        return _ended(step, old, Phase.FAILED, Reason.WORKER_LOST, cut_error(f"WORKER_LOST: {text}"))
    return _given_out_anew(old, Reason.WORKER_LOST, cut_error(text))


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


def _after_doubt(step: _Step, old: StepStatus, report: Report) -> StepStatus:
    """Return a step's state if it is unknown whether an assigned attempt still runs; and report it, if necessary."""
    if step.definition.max_reassignments == 0:
        text = (
            "WORKER_LOST: the worker that had it did not come back after the operator's restart; "
            "it must not be dispatched again (max_reassignments is 0)"
        )
        return _ended(step, old, Phase.FAILED, Reason.WORKER_LOST, text)
    return _given_out_anew(old, Reason.WORKER_LOST if report.error else None, report.error)


def _next_attempt(
    step: _Step, old: StepStatus, reason: Reason, error: str, *, wait: timedelta | None = None
) -> StepStatus:
    pause = wait if wait is not None else backoff(step.definition, retries_used(old), seed=step.current)
    return old.model_copy(
        update={
            "phase": Phase.PENDING,
            "attempt": old.attempt + 1,
            "dispatch": 0,
            "earlier": _with_earlier(old),
            "retry_at": step.now + pause if pause else None,
            "reason": reason,
            "error": error,
        }
    )


def _given_out_anew(old: StepStatus, reason: Reason | None, error: str | None) -> StepStatus:
    return old.model_copy(
        update={
            "phase": Phase.PENDING,
            "dispatch": old.dispatch + 1,
            "earlier": _with_earlier(old),
            "reason": reason,
            "error": error,
        }
    )


def _with_earlier(old: StepStatus) -> tuple[EarlierTry, ...]:
    """Return the tries so far: their output is in the logs of their workers, whose names the next try overwrites."""
    if old.worker is None:
        return old.earlier
    return (*old.earlier, EarlierTry(attempt=old.attempt, worker=old.worker))[-MAX_EARLIER:]


def _ended(step: _Step, old: StepStatus, phase: Phase, reason: Reason, error: str) -> StepStatus:
    if phase is Phase.FAILED and pauses(step.graph, step.definition):
        return paused(old, reason, error, earlier=_with_earlier(old), now=step.now)
    return old.model_copy(
        update={"phase": phase, "finished_at": step.now, "reason": reason, "error": error, "retry_at": None}
    )


def with_worker(old: StepStatus, live: LiveAttempt) -> StepStatus:
    return old.model_copy(update={"worker": live.worker, "started_at": live.started_at})
