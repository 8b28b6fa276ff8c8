"""A run's life as a state machine: whatever happens, in whatever order, some things never do.

The machine plays the engine around `plan_run`: it keeps the status that was "written", the queue, the attempts that
are out and the reports that came, and moves the clock. Every plan is checked as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import (
    LiveAttempt,
    ObservedRun,
    Outcome,
    ParentState,
    Report,
    RunPlan,
    Wait,
    current_attempt_id,
)
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import OnParentClose, OnRetriesExhausted, Phase, Reason, RunOn
from hatchet_operator.resources.run import RunStatus, StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import WorkflowSpec
from tests.unit.operator.decisions.builders import NOW, PARENT, POLICY, make_graph, make_run, make_step

_RANK = {Phase.PENDING: 0, Phase.RUNNING: 1, Phase.SUCCEEDED: 2, Phase.FAILED: 2, Phase.CANCELLED: 2}
_MOST_WRITES_IN_A_ROW = 20  # far above the longest chain that a change may cause: one write per step and a few
_MOST_MOVES_TO_THE_END = 300


@dataclass
class World:
    """What the engine would know."""

    run: WorkflowRun
    graph: Graph
    now: datetime = NOW
    parent: ParentState | None = None
    suspended: bool = False
    served: bool = True
    unserved_since: datetime | None = None
    queued: dict[str, datetime] = field(default_factory=dict)
    live: dict[str, LiveAttempt] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    given_out: set[str] = field(default_factory=set)
    meaning: dict[str, tuple[int, str, int, int]] = field(default_factory=dict)

    def observed(self) -> ObservedRun:
        waits = {name: Wait(queued_at=since, unserved_since=self.unserved_since) for name, since in self.queued.items()}
        return ObservedRun(
            run=self.run,
            graph=self.graph,
            policy=POLICY,
            parent=self.parent,
            suspended=self.suspended,
            live=self.live,
            reports=self.reports,
            waits=waits,
        )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 5))
    steps = []
    for number in range(count):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        steps.append(
            make_step(
                f"s{number}",
                parents=tuple(f"s{parent}" for parent in sorted(parents)),
                retries=draw(st.integers(0, 2)),
                timeout=timedelta(seconds=draw(st.sampled_from([1, 5, 60]))),
                backoff_factor=draw(st.sampled_from([None, 2.0])),
            )
        )
    on_failure = make_step("tidy", retries=draw(st.integers(0, 1))) if draw(st.booleans()) else None
    run_on = draw(st.sampled_from(RunOn)) if on_failure else None
    spec = WorkflowSpec(on_retries_exhausted=draw(st.sampled_from(OnRetriesExhausted)))
    timeout = timedelta(seconds=30)
    return make_graph(*steps, spec=spec, on_failure=on_failure, run_on=run_on, schedule_timeout=timeout)


class RunMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(graph=graphs(), is_child=st.booleans(), on_close=st.sampled_from(OnParentClose))
    def begin(self, graph: Graph, is_child: bool, on_close: OnParentClose) -> None:
        spec: dict[str, Any] = {"parent": PARENT, "on_parent_close": on_close} if is_child else {}
        self.world = World(run=make_run(**spec), graph=graph)
        if is_child:
            self.world.parent = ParentState(cancelled=False, closed=False)
        self.reconcile()

    # --- What can happen

    @precondition(lambda self: self.world.queued and self.world.served)
    @rule(data=st.data())
    def give_out(self, data: st.DataObject) -> None:
        world = self.world
        name = data.draw(st.sampled_from(sorted(world.queued)))
        del world.queued[name]
        identity = current_attempt_id(world.run, name)
        assert identity not in world.given_out, f"{name} went out twice under one id"
        world.given_out.add(identity)
        step = world.graph.step(name)
        assert step is not None
        world.live[name] = LiveAttempt(
            id=identity, worker="pod-1", started_at=world.now, deadline=world.now + step.timeout
        )
        self.reconcile()

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), may_retry=st.booleans())
    def an_attempt_ends(self, data: st.DataObject, outcome: Outcome, may_retry: bool) -> None:
        self.report(data.draw(st.sampled_from(sorted(self.world.live))), outcome, may_retry=may_retry)
        self.reconcile()

    @precondition(lambda self: len(self.world.live) > 1)
    @rule(outcome=st.sampled_from([Outcome.COMPLETED, Outcome.LOST]))
    def all_attempts_end_at_once(self, outcome: Outcome) -> None:
        for name in sorted(self.world.live):
            self.report(name, outcome)
        self.reconcile()

    @rule(seconds=st.sampled_from([0.1, 1, 7, 70]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)
        self.reconcile()

    @precondition(lambda self: not self.world.run.spec.cancelled)
    @rule(often_not=st.integers(0, 5))
    def a_person_cancels(self, often_not: int) -> None:
        if often_not == 0:
            self.change_spec(cancelled=True)
            self.reconcile()

    @precondition(lambda self: self.world.parent is not None)
    @rule(cancelled=st.booleans(), often_not=st.integers(0, 5))
    def the_parent_ends(self, cancelled: bool, often_not: int) -> None:
        if often_not == 0:
            self.world.parent = ParentState(cancelled=cancelled, closed=not cancelled)
            self.reconcile()

    @rule(suspended=st.booleans())
    def a_person_suspends_the_workflow(self, suspended: bool) -> None:
        self.world.suspended = suspended
        self.reconcile()

    @rule(suspended=st.booleans())
    def a_person_suspends_the_run(self, suspended: bool) -> None:
        self.change_spec(suspended=suspended)
        self.reconcile()

    @rule()
    def a_person_resumes_the_run(self) -> None:
        self.change_spec(resumes=(self.world.run.spec.resumes or 0) + 1)
        self.reconcile()

    @rule(served=st.booleans())
    def workers_come_and_go(self, served: bool) -> None:
        world = self.world
        world.served = served
        world.unserved_since = None if served else world.unserved_since or world.now
        self.reconcile()

    @precondition(lambda self: self.world.run.status.phase.is_final)
    @rule()
    def a_person_executes_it_again(self) -> None:
        self.change_spec(reruns=self.world.run.status.reruns + 1)
        self.reconcile()

    # --- The engine around the decision

    def report(self, name: str, outcome: Outcome, *, may_retry: bool = True) -> None:
        world = self.world
        output = '{"n":1}' if outcome is Outcome.COMPLETED else None
        world.reports.setdefault(
            name,
            Report(attempt_id=world.live[name].id, outcome=outcome, at=world.now, output=output, may_retry=may_retry),
        )

    def change_spec(self, **changes: object) -> None:
        world = self.world
        world.run = world.run.model_copy(update={"spec": world.run.spec.model_copy(update=changes)})

    def reconcile(self) -> RunPlan:
        world = self.world
        for _ in range(_MOST_WRITES_IN_A_ROW):
            self.settle()
            plan = plan_run(world.observed(), world.now)
            if plan.status is None:
                self.apply_wanted(plan)
                self.last_plan = plan
                return plan
            assert plan.wanted == ()
            assert plan.tell_to_stop == ()
            self.check_transition(world.run.status, plan.status)
            # What is read back is what was written.
            status = RunStatus.model_validate(plan.status.to_wire())
            world.run = world.run.model_copy(update={"status": status})
        raise AssertionError("statuses are written for ever")

    def settle(self) -> None:
        """Drop what the written status speaks of."""
        world, status = self.world, self.world.run.status
        for name, report in list(world.reports.items()):
            state = status.steps.get(name)
            is_over = status.phase.is_final or (state is not None and state.phase.is_final)
            if is_over or current_attempt_id(world.run, name) != report.attempt_id:
                del world.reports[name]
                if name in world.live and world.live[name].id == report.attempt_id:
                    del world.live[name]

    def apply_wanted(self, plan: RunPlan) -> None:
        world = self.world
        if world.run.spec.suspended:
            assert all(attempt.step.name in world.live for attempt in plan.wanted), "a suspended run starts a step"
        wanted = {attempt.step.name: attempt.id for attempt in plan.wanted}
        assert len(wanted) == len(plan.wanted), "a step is wanted twice"
        world.live = {name: live for name, live in world.live.items() if wanted.get(name) == live.id}
        world.queued = {name: since for name, since in world.queued.items() if name in wanted}
        for attempt in plan.wanted:
            name, state = attempt.step.name, world.run.status.steps.get(attempt.step.name, StepStatus())
            self.check_may_start(name)
            meaning = (world.run.status.reruns, name, state.attempt, state.dispatch)
            assert world.meaning.setdefault(attempt.id, meaning) == meaning, "an attempt's id is not unique"
            assert attempt.attempt == state.attempt
            if name not in world.live:
                assert attempt.id not in world.given_out, f"{name} is to go out again under an id that was out"
                world.queued.setdefault(name, world.now)
        for name in plan.tell_to_stop:
            world.live[name] = replace(world.live[name], cancel_sent_at=world.now)

    # --- What never happens

    def check_may_start(self, name: str) -> None:
        graph, steps = self.world.graph, self.world.run.status.steps
        assert not self.world.run.status.phase.is_final, "a finished run wants an attempt"
        if graph.on_failure is not None and name == graph.on_failure.name:
            ordinary = [steps.get(step.name, StepStatus()).phase for step in graph.steps]
            assert all(phase.is_final for phase in ordinary)
            assert graph.run_on is RunOn.ALWAYS or any(phase is not Phase.SUCCEEDED for phase in ordinary)
            return
        step = graph.step(name)
        assert step is not None
        for parent in step.parents:
            assert steps[parent].phase is Phase.SUCCEEDED, f"{name} started before {parent} had succeeded"

    def check_transition(self, old: RunStatus, new: RunStatus) -> None:
        if new.reruns != old.reruns:
            assert new.reruns > old.reruns
            return
        assert not old.phase.is_final, "a final phase changed within one execution"
        assert _RANK[new.phase] >= _RANK[old.phase], "a phase went back"
        assert new.started_at == old.started_at or old.started_at is None
        for name, before in old.steps.items():
            self.check_step(name, before, new.steps[name])
        if new.phase.is_final:
            assert all(state.phase.is_final for state in new.steps.values())
            assert new.finished_at is not None
        if new.phase is Phase.SUCCEEDED:
            assert all(new.steps[step.name].phase is Phase.SUCCEEDED for step in self.world.graph.steps)

    def check_step(self, name: str, before: StepStatus, after: StepStatus) -> None:
        if before.phase.is_final:
            assert after == before, f"step {name} changed after it was final"
        assert after.attempt >= before.attempt
        assert after.attempt > before.attempt or after.dispatch >= before.dispatch
        was_resumed = before.paused_at is not None and after.paused_at is None and not after.phase.is_final
        assert was_resumed or after.losses >= before.losses
        assert not was_resumed or self.world.run.spec.resumes, "nobody resumed it"
        assert after.paused_at is None or self.world.graph.pauses
        step = self.world.graph.step(name)
        assert step is not None
        was_paused = before.paused_at is not None or after.paused_at is not None  # with the attempt that is to come
        assert after == before or after.attempt - (after.retries_from or 0) <= step.retries + was_paused

    @invariant()
    def somebody_will_look_again(self) -> None:
        """Only an attempt that is out, a person or a point in time may keep a run from its end."""
        world, plan = self.world, self.last_plan
        is_over = world.run.status.phase.is_final
        is_held = world.suspended or world.run.spec.suspended or world.run.status.reason == Reason.PAUSED
        assert is_over or is_held or plan.recheck_at is not None or not world.unserved_since
        again = plan_run(world.observed(), world.now)
        assert again.status is None, "what was reconciled has nothing left to write"
        assert again.recheck_at is None or again.recheck_at > world.now

    def teardown(self) -> None:
        """Left alone with a worker that completes everything, the run ends."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.suspended, world.served, world.unserved_since = False, True, None
        self.change_spec(suspended=False)
        for _ in range(_MOST_MOVES_TO_THE_END):
            plan = self.reconcile()
            if world.run.status.phase.is_final:
                break
            if world.run.status.reason == Reason.PAUSED:
                self.a_person_resumes_the_run()
            elif world.live:
                self.report(sorted(world.live)[0], Outcome.COMPLETED)
            elif world.queued:
                self.give_out_first()
            else:
                assert plan.recheck_at is not None
                world.now = max(world.now, plan.recheck_at)
        assert world.run.status.phase.is_final, "the run never ends"
        assert not world.live
        assert not world.queued

    def give_out_first(self) -> None:
        world = self.world
        name = sorted(world.queued)[0]
        del world.queued[name]
        identity = current_attempt_id(world.run, name)
        assert identity not in world.given_out
        world.given_out.add(identity)
        world.live[name] = LiveAttempt(
            id=identity, worker="pod-1", started_at=world.now, deadline=world.now + timedelta(minutes=1)
        )


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_machine_knows_every_phase() -> None:
    ranks: Mapping[Phase, int] = _RANK
    assert set(ranks) == set(Phase)
