"""How a run goes on: its rules first, then the rules of a step, once for every step.

    Pending ──► Running ──► Succeeded | Failed | Cancelled        (a final phase never changes within one execution)

The first rule of the run that has an opinion wins, so the order of RUN_RULES is the policy. A step's rules follow the
same idea: a report beats a timeout, so that a result which is already here is never thrown away.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import orjson

from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT, Graph
from hatchet_operator.decisions.observed import (
    LiveAttempt,
    ObservedRun,
    Outcome,
    Report,
    RunPlan,
    Wait,
    WantedAttempt,
    current_attempt_id,
)
from hatchet_operator.decisions.retry import backoff, has_retries_left
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.durations import format_duration
from hatchet_operator.resources.limits import cut_error
from hatchet_operator.resources.reasons import (
    ConditionType,
    OnParentClose,
    Phase,
    Reason,
    ScheduleTimeoutCounts,
)
from hatchet_operator.resources.run import RunStatus, StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

TIMED_OUT = "TIMED_OUT"  # the whole error text of a timed-out step, as Hatchet's clients expect it
_CANCELLED_TEXT = "this step run was cancelled due to "  # likewise

_LONGEST_MESSAGE = 2000

RunRule = Callable[[ObservedRun, datetime], RunPlan | None]


def plan_run(seen: ObservedRun, now: datetime) -> RunPlan:
    """Say what a run needs next."""
    for rule in RUN_RULES:
        if (plan := rule(seen, now)) is not None:
            return plan
    raise AssertionError("the last rule always has an opinion")


# --- Rules of the run


def execute_again(seen: ObservedRun, now: datetime) -> RunPlan | None:
    wanted, described = seen.run.spec.execution, seen.run.status.execution
    if wanted <= described or not seen.run.status.phase.is_final:
        return None  # asked for while the run goes on: once more after its end
    return RunPlan(
        status=RunStatus(execution=wanted, children=seen.run.status.children, observed_generation=_generation(seen))
    )


def keep_finished_run(seen: ObservedRun, now: datetime) -> RunPlan | None:
    if not seen.run.status.phase.is_final:
        return None
    # Children may outlive their parent; their counts go on.
    due, status = _with_children(seen, seen.run.status, now)
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
    give_up_at = created + DEFAULT_SCHEDULE_TIMEOUT
    if now >= give_up_at:
        message = (
            f'no worker registered workflow "{workflow}" within {format_duration(DEFAULT_SCHEDULE_TIMEOUT)}; '
            "check spec.workflow, or start a worker that registers it and create the run again"
        )
        return RunPlan(status=_final(seen, now, Phase.FAILED, Reason.WORKFLOW_MISSING, message, steps={}))
    message = f'no worker has registered workflow "{workflow}" yet; the run starts when one does'
    missing = Condition(
        type=ConditionType.WORKFLOW_MISSING,
        status="True",
        reason=Reason.WORKFLOW_MISSING,
        message=message,
        last_transition_time=now,
        observed_generation=_generation(seen),
    )
    old = _condition(seen.run, ConditionType.WORKFLOW_MISSING)
    if old is not None and old.status == "True":
        return RunPlan(recheck_at=give_up_at)
    status = seen.run.status.model_copy(
        update={
            "reason": Reason.WORKFLOW_MISSING,
            "message": message,
            "conditions": (missing,),
            "observed_generation": _generation(seen),
        }
    )
    return RunPlan(status=status, recheck_at=give_up_at)


def advance_steps(seen: ObservedRun, now: datetime) -> RunPlan:
    graph = seen.graph
    assert graph is not None, "wait_for_workflow comes first"
    advance = _Advance(seen, graph, now)
    for step in graph.steps:
        advance.step(step)
    if graph.on_failure is not None and advance.all_final(graph.steps) and not advance.all_succeeded(graph.steps):
        advance.step(graph.on_failure)
    return advance.plan()


RUN_RULES: tuple[RunRule, ...] = (
    execute_again,
    keep_finished_run,
    cancel_when_asked,
    cancel_with_parent,
    fail_on_bad_input,
    wait_for_workflow,
    advance_steps,
)


# --- Rules of a step


class _Advance:
    """One pass over the steps: their new states, and what has to be told or looked at again."""

    def __init__(self, seen: ObservedRun, graph: Graph, now: datetime) -> None:
        self.seen, self.graph, self.now = seen, graph, now
        self.steps: dict[str, StepStatus] = {}
        self.wanted: list[WantedAttempt] = []
        self.tell_to_stop: list[str] = []
        self.recheck: list[datetime] = []
        self.trouble: str | None = None  # what steps wait for, once that is worth telling

    def step(self, step: StepDefinition) -> None:
        old = self.seen.run.status.steps.get(step.name) or StepStatus()
        self.steps[step.name] = old if old.phase.is_final else self._advanced(step, old)

    def _advanced(self, step: StepDefinition, old: StepStatus) -> StepStatus:
        current = current_attempt_id(self.seen.run, step.name)  # what is left of an earlier attempt says nothing of it
        if (report := self.seen.reports.get(step.name)) is not None and report.attempt_id == current:
            return self._after_report(step, old, report)
        if (live := self.seen.live.get(step.name)) is not None and live.id == current:
            return self._while_live(step, old, live)
        if step is not self.graph.on_failure:
            states = [self.steps[parent] for parent in step.parents]
            if any(state.phase in (Phase.FAILED, Phase.CANCELLED) for state in states):
                return self._ended(
                    old, Phase.CANCELLED, Reason.PREVIOUS_STEP_FAILED, _CANCELLED_TEXT + _why_skipped(states)
                )
            if any(state.phase is not Phase.SUCCEEDED for state in states):
                return old
        return self._while_waiting(step, old)

    def _after_report(self, step: StepDefinition, old: StepStatus, report: Report) -> StepStatus:
        live = self.seen.live.get(step.name)
        if live is not None:
            old = old.model_copy(update={"worker": live.worker, "started_at": live.started_at})
        match report.outcome:
            case Outcome.COMPLETED:
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
            case Outcome.CANCELLED if live is not None and live.cancel_sent_at is not None:
                return self._next_attempt(step, old, Reason.TIMED_OUT, TIMED_OUT)  # the answer to our own CANCEL
            case Outcome.CANCELLED:
                text = _CANCELLED_TEXT + "CANCELLED_BY_STEP"
                return self._ended(old, Phase.CANCELLED, Reason.CANCELLED_BY_STEP, text)
            case Outcome.FAILED:
                error = cut_error(report.error or "the step failed and gave no reason")
                if report.may_retry and has_retries_left(step, old.attempt):
                    return self._next_attempt(step, old, Reason.STEP_FAILED, error, wait=report.retry_after)
                return self._ended(old, Phase.FAILED, Reason.STEP_FAILED, error)
            case Outcome.LOST:
                losses = old.losses + 1
                old = old.model_copy(update={"losses": losses})
                text = f"its worker died {losses} times while the step ran" if losses > 1 else "its worker died"
                text += f"; {report.error}" if report.error else ""
                if losses >= self.seen.policy.max_losses:
                    return self._ended(old, Phase.FAILED, Reason.WORKER_LOST, f"WORKER_LOST: {text}")
                return self._given_out_anew(old, Reason.WORKER_LOST, text)
            case Outcome.UNKNOWN:
                return self._given_out_anew(old, None, None)

    def _while_live(self, step: StepDefinition, old: StepStatus, live: LiveAttempt) -> StepStatus:
        if live.cancel_sent_at is not None:
            grace_ends = live.cancel_sent_at + self.seen.policy.cancel_grace
            if self.now >= grace_ends:
                return self._next_attempt(step, _with_worker(old, live), Reason.TIMED_OUT, TIMED_OUT)
            self.recheck.append(grace_ends)
        elif self.now >= live.deadline:
            if not has_retries_left(step, old.attempt):
                return self._ended(_with_worker(old, live), Phase.FAILED, Reason.TIMED_OUT, TIMED_OUT)
            self.tell_to_stop.append(step.name)
            self.recheck.append(self.now + self.seen.policy.cancel_grace)
        else:
            self.recheck.append(live.deadline)
        self._want(step, old)
        if old.phase is Phase.RUNNING and old.worker == live.worker:
            return old
        running_at = live.started_at + self.seen.policy.running_after
        if self.now >= running_at:
            return _with_worker(old, live).model_copy(update={"phase": Phase.RUNNING, "retry_at": None, "reason": None})
        self.recheck.append(running_at)
        return old

    def _while_waiting(self, step: StepDefinition, old: StepStatus) -> StepStatus:
        if old.retry_at is not None and old.retry_at > self.now:
            self.recheck.append(old.retry_at)
            return old
        if self.seen.suspended:
            return old
        self._want(step, old)
        wait = self.seen.waits.get(step.name)
        if wait is None:  # it will be in the queue in a moment
            self.recheck.append(self.now + self.graph.schedule_timeout)
            return old
        since = wait.queued_at if self.graph.counts is ScheduleTimeoutCounts.QUEUE else wait.unserved_since
        if since is None:
            return old
        give_up_at = max(since, wait.queued_at) + self.graph.schedule_timeout
        if self.now < give_up_at:
            self.recheck.append(give_up_at)
            self._note_trouble(wait)
            return old
        waited = format_duration(self.graph.schedule_timeout)
        pool = f'pool "{self.graph.pool}"' if self.graph.pool else "any pool"
        what = (
            f'no worker of {pool} that offers "{step.action}" was connected for {waited}; '
            + (wait.trouble or "look at the pool (kubectl describe wp) and its pods")
            if wait.unserved_since is not None
            else f"it was in the queue of {pool} for {waited}"
        )
        return self._ended(
            old, Phase.CANCELLED, Reason.SCHEDULING_TIMED_OUT, f"{_CANCELLED_TEXT}SCHEDULING_TIMED_OUT: {what}"
        )

    def _note_trouble(self, wait: Wait) -> None:
        """Most waits are over before anybody looks, and each telling is a write: only what lasts is told."""
        if wait.trouble is None or wait.unserved_since is None:
            return
        tell_at = max(wait.unserved_since, wait.queued_at) + self.seen.policy.waiting_told_after
        if self.now >= tell_at:
            self.trouble = wait.trouble
        else:
            self.recheck.append(tell_at)

    def _want(self, step: StepDefinition, old: StepStatus) -> None:
        identity = current_attempt_id(self.seen.run, step.name)
        self.wanted.append(WantedAttempt(id=identity, step=step, attempt=old.attempt))

    def _next_attempt(
        self, step: StepDefinition, old: StepStatus, reason: Reason, error: str, *, wait: timedelta | None = None
    ) -> StepStatus:
        pause = wait if wait is not None else backoff(step, old.attempt)
        return old.model_copy(
            update={
                "phase": Phase.PENDING,
                "attempt": old.attempt + 1,
                "dispatch": 0,
                "retry_at": self.now + pause if pause else None,
                "reason": reason,
                "error": error,
            }
        )

    def _given_out_anew(self, old: StepStatus, reason: Reason | None, error: str | None) -> StepStatus:
        return old.model_copy(
            update={"phase": Phase.PENDING, "dispatch": old.dispatch + 1, "reason": reason, "error": error}
        )

    def _ended(self, old: StepStatus, phase: Phase, reason: Reason, error: str) -> StepStatus:
        return old.model_copy(
            update={"phase": phase, "finished_at": self.now, "reason": reason, "error": error, "retry_at": None}
        )

    def all_final(self, steps: tuple[StepDefinition, ...]) -> bool:
        return all(self.steps[step.name].phase.is_final for step in steps)

    def all_succeeded(self, steps: tuple[StepDefinition, ...]) -> bool:
        return all(self.steps[step.name].phase is Phase.SUCCEEDED for step in steps)

    def plan(self) -> RunPlan:
        old = self.seen.run.status
        if all(state.phase.is_final for state in self.steps.values()):
            return RunPlan(status=self._final_status())
        changed = any(state != (old.steps.get(name) or StepStatus()) for name, state in self.steps.items())
        due, with_children = _with_children(self.seen, old, self.now)
        if due is not None:
            self.recheck.append(due)
        reason, message = self._why_it_waits()
        told = message is None or (reason, message) == (old.reason, old.message)
        if (
            not changed and told and with_children == old and not old.conditions
        ):  # a workflow that came is missing no more
            return RunPlan(
                wanted=tuple(self.wanted),
                tell_to_stop=tuple(self.tell_to_stop),
                recheck_at=min(self.recheck, default=None),
            )
        begun = any(state.started_at is not None for state in self.steps.values())
        status = with_children.model_copy(
            update={
                "phase": Phase.RUNNING if begun else Phase.PENDING,
                "reason": reason,
                "message": message,
                "started_at": old.started_at or _first_start(self.steps),
                "definition": self.graph.revision,
                "steps": self.steps,
                "conditions": (),
                "observed_generation": _generation(self.seen),
            }
        )
        return RunPlan(status=status, recheck_at=min(self.recheck, default=None))

    def _why_it_waits(self) -> tuple[Reason | None, str | None]:
        """The kubelet's words change with each of its tries; what was told stands for a while."""
        if self.trouble is None:
            return None, None
        old, told_at = self.seen.run.status, self.seen.waiting_told_at
        message = f"no worker is there to take it: {self.trouble}"[:_LONGEST_MESSAGE]
        if old.reason != Reason.WAITING_FOR_WORKER or old.message == message or told_at is None:
            return Reason.WAITING_FOR_WORKER, message
        if self.now >= (tell_at := told_at + self.seen.policy.waiting_told_every):
            return Reason.WAITING_FOR_WORKER, message
        self.recheck.append(tell_at)
        return Reason.WAITING_FOR_WORKER, old.message

    def _final_status(self) -> RunStatus:
        ordinary = {step.name: self.steps[step.name] for step in self.graph.steps}
        if self.all_succeeded(self.graph.steps):
            return _final(
                self.seen, self.now, Phase.SUCCEEDED, Reason.COMPLETED, None, steps=self.steps, graph=self.graph
            )
        culprits = [
            (name, state)
            for name, state in ordinary.items()
            if state.phase is not Phase.SUCCEEDED and state.reason != Reason.PREVIOUS_STEP_FAILED
        ]
        name, state = min(culprits, key=lambda culprit: culprit[1].phase is not Phase.FAILED)  # failed before cancelled
        by_choice = all(
            state.phase is not Phase.FAILED and state.reason in (None, Reason.CANCELLED_BY_STEP)
            for _, state in culprits
        )
        phase = Phase.CANCELLED if by_choice else Phase.FAILED
        message = f'step "{name}" (attempt {state.attempt}): {_in_one_line(state.error)}'
        reason = Reason(state.reason) if state.reason else Reason.STEP_FAILED
        return _final(self.seen, self.now, phase, reason, message, steps=self.steps, graph=self.graph)


# --- Building statuses


def input_problem(run: WorkflowRun) -> str | None:
    """Say what is wrong with a run's input, or None. The API server can't look into a text."""
    spec = run.spec
    if spec.input_json is None:
        return None
    try:
        value = orjson.loads(spec.input_json)
    except orjson.JSONDecodeError as error:
        return f"spec.inputJson is not JSON ({error}); expected the text of a JSON object, as in '{{\"a\": 1}}'"
    if not isinstance(value, dict):
        return f"spec.inputJson is a JSON {type(value).__name__}; expected an object, as in '{{\"a\": 1}}'"
    return None


def _cancelled(seen: ObservedRun, now: datetime, reason: Reason, message: str) -> RunPlan:
    text = _CANCELLED_TEXT + "JOB_RUN_CANCELLED"
    names = dict.fromkeys([step.name for step in seen.graph.steps] if seen.graph else ())
    names |= dict.fromkeys((*seen.run.status.steps, *seen.live))  # the on-failure step, if it began
    steps = {}
    for name in names:
        old = seen.run.status.steps.get(name) or StepStatus()
        if (live := seen.live.get(name)) is not None:
            old = _with_worker(old, live)
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
    succeeded = "True" if phase is Phase.SUCCEEDED else "False"
    conditions = tuple(
        Condition(
            type=kind,
            status=value,
            reason=reason,
            message=message or "",
            last_transition_time=now,
            observed_generation=_generation(seen),
        )
        for kind, value in ((ConditionType.FINISHED, "True"), (ConditionType.SUCCEEDED, succeeded))
    )
    return RunStatus(
        phase=phase,
        reason=reason,
        message=message,
        execution=old.execution,
        started_at=started,
        finished_at=now,
        duration=_readable_duration(now - started) if started else None,
        definition=graph.revision if graph else old.definition,
        steps=steps,
        children=seen.children or old.children,
        conditions=conditions,
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


def _with_worker(old: StepStatus, live: LiveAttempt) -> StepStatus:
    return old.model_copy(update={"worker": live.worker, "started_at": live.started_at})


def _first_start(steps: dict[str, StepStatus]) -> datetime | None:
    return min((state.started_at for state in steps.values() if state.started_at), default=None)


def _generation(seen: ObservedRun) -> int | None:
    return seen.run.metadata.generation or None


def _condition(run: WorkflowRun, kind: ConditionType) -> Condition | None:
    return next((condition for condition in run.status.conditions if condition.type == kind), None)


def _in_one_line(error: str | None) -> str:
    """Shorten an error for a table: a traceback says what it is about in its last line, other texts in the first."""
    lines = (error or "").strip().splitlines() or [""]
    return (lines[-1] if any(line.startswith("Traceback ") for line in lines) else lines[0])[:500]


def _why_skipped(parents: list[StepStatus]) -> str:
    if any(state.reason == Reason.TIMED_OUT for state in parents):
        return "PREVIOUS_STEP_TIMED_OUT"
    if any(state.phase is Phase.FAILED for state in parents):
        return "PREVIOUS_STEP_FAILED"
    return "PREVIOUS_STEP_CANCELLED"


def _readable_duration(duration: timedelta) -> str:
    """Round to what a person reads in a table: 0.012s, 3.4s, 2m5s, 3h2m."""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds:.3f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m"
