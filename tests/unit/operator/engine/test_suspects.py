"""Steps that end their workers among steps that do not: the guilty end with their reason, the others cost one attempt.

A pool is played in time of its own, with the real queue and the real decisions.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchet_operator.decisions.losses import TRIAL_WAITS, LostAttempt, kinds_of_loss, trial_of
from hatchet_operator.decisions.observed import LiveAttempt, Outcome, Report
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.queue import AttemptQueue
from hatchet_operator.engine.dispatch.worker import Registration, Worker, WorkerStream
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus
from tests.unit.operator.decisions.builders import NOW, make_graph, make_observed_run, make_step

_RESTART_SECONDS = 3.0
_MOST_EVENTS = 20_000
FOR_EVER = TRIAL_WAITS[0], timedelta(days=1)


@dataclass
class Step:
    """One run of one step.

    Attributes:
        seconds: How long it takes.
        kills_after: When it ends its worker; None: it does not.
        awaits: The step of its child: it waits for that after a second, and ends with it.
    """

    name: str
    seconds: float = 10
    kills_after: float | None = None
    awaits: Step | None = None
    state: StepStatus = field(default_factory=StepStatus)
    given_out: int = 0
    ended_at: float = 0.0


class Pool:
    """Workers that begin anew a while after they died."""

    def __init__(
        self, steps: list[Step], *, workers: int, slots: int, trial_waits: tuple[timedelta, ...] = TRIAL_WAITS
    ) -> None:
        self.now = 0.0
        self.trial_waits = trial_waits
        self.steps = {step.name: step for step in steps}
        self.queue = AttemptQueue(
            assign=self.assign,
            unserved=lambda attempts: None,
            on_demand=lambda namespace, pool, run: None,
            on_activity=lambda namespace, pool: None,
            buckets=Buckets(Clock(now=lambda: NOW)),
        )
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for number in range(workers):
            self.connect(number, slots)

    def run(self) -> None:
        for step in self.steps.values():
            self.give_out(step)
        for _ in range(_MOST_EVENTS):
            if not self._events:
                return
            self.now, _, happens = heapq.heappop(self._events)
            happens()
        raise AssertionError("it goes on for ever")

    def later(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happens))

    @property
    def clock(self) -> datetime:
        return NOW + timedelta(seconds=self.now)

    def connect(self, number: int, slots: int) -> None:
        self.connected(number, slots)

    def connected(self, number: int, slots: int) -> Worker:
        registration = Registration(
            worker_id=f"w{number}", name="w", pool="main", actions=("etl:work",), slots=slots, registered_at=NOW
        )
        worker = Worker(namespace="default", registration=registration, slots=slots)
        worker.stream = WorkerStream(lambda: True)
        self.queue.connect(worker)
        return worker

    def give_out(self, step: Step) -> None:
        attempt = Attempt(
            id=f"{step.name}/{step.state.dispatch}",
            ref=ObjectRef("default", step.name),
            step=make_step(action="etl:work"),
            number=0,
            graph=make_graph(make_step(action="etl:work")),
            priority=1,
            tree=step.name,
            is_root=False,
            queued_at=self.clock,
            of_run={},
            trial=trial_of(step.state),
        )
        self.queue.add(attempt, self.clock)
        if attempt.trial is not None and attempt.worker is None:
            for trial_waits in itertools.accumulate(self.trial_waits):
                self.later(trial_waits.total_seconds(), lambda: self.queue.relax(attempt, self.clock))

    def assign(self, attempt: Attempt, worker: Worker) -> None:
        step = self.steps[attempt.ref.name]
        step.given_out += 1
        attempt.started_at = self.clock
        worker.take(attempt)

        def while_it_runs(happens: Callable[[], None]) -> Callable[[], None]:
            return lambda: happens() if attempt.id in worker.assigned else None

        if attempt.trial is not None:
            self.later(attempt.trial.total_seconds(), while_it_runs(lambda: self.clear(attempt, worker)))
        if step.kills_after is not None:
            self.later(step.kills_after, while_it_runs(lambda: self.die(worker)))
        elif step.awaits is not None:
            self.later(1, while_it_runs(lambda: self.wait(step, attempt, worker)))
        else:
            self.later(step.seconds, while_it_runs(lambda: self.end(step, attempt, worker)))

    def clear(self, attempt: Attempt, worker: Worker) -> None:
        attempt.is_cleared = True
        self.queue.fill(worker)

    def wait(self, step: Step, attempt: Attempt, worker: Worker) -> None:
        assert step.awaits is not None
        child = step.awaits
        if child.state.phase.is_final:
            self.end(step, attempt, worker)
            return
        attempt.change_slot(lambda: attempt.awaits.add(ObjectRef("default", child.name)))
        self.queue.fill(worker)
        self.later(1, lambda: self.wait(step, attempt, worker) if attempt.id in worker.assigned else None)

    def end(self, step: Step, attempt: Attempt, worker: Worker) -> None:
        step.state = step.state.model_copy(update={"phase": Phase.SUCCEEDED})
        step.ended_at = self.now
        worker.leave(attempt, at=self.now)
        self.queue.fill(worker)

    def die(self, worker: Worker) -> None:
        self.queue.disconnect(worker, self.clock)
        worker.stream, worker.dead = None, True
        lost = list(worker.assigned.values())
        worker.assigned.clear()
        kinds = kinds_of_loss(
            [
                LostAttempt(id=attempt.id, is_waiting=bool(attempt.awaits), stood_its_trial=attempt.is_cleared)
                for attempt in lost
            ],
            disrupted=False,
        )
        for attempt in lost:
            step = self.steps[attempt.ref.name]
            seen = make_observed_run(steps={"work": step.state})
            assert attempt.started_at is not None
            live = LiveAttempt(id="x", worker="w", started_at=attempt.started_at, deadline=self.clock)
            current = step.state.model_copy(update={"worker": live.worker, "started_at": live.started_at})
            seen = make_observed_run(
                steps={"work": current},
                reports={
                    "work": Report(
                        attempt_id="", outcome=Outcome.LOST, at=self.clock, loss=kinds[attempt.id], error="OOM"
                    )
                },
            )
            status = plan_run(seen, self.clock).status
            assert status is not None
            # What the next operator would read.
            step.state = StepStatus.model_validate(status.steps["work"].to_wire())
            if step.state.phase is Phase.PENDING:
                self.give_out(step)
            else:
                step.ended_at = self.now
        number = int(worker.id[1:])
        self.later(_RESTART_SECONDS, lambda: self.connect(number, worker.slots))


def assert_just(pool: Pool) -> None:
    """The guilty are found out, nobody else is taken for one, and nobody waits for ever.

    Only three that nobody knew yet, and that it met one after another, take an innocent step with them.
    """
    guilty = [step for step in pool.steps.values() if step.kills_after is not None]
    for step in guilty:
        assert (step.state.phase, step.state.losses) == (Phase.FAILED, 3), step
    for step in pool.steps.values():
        assert step.state.phase.is_final, step
        if step not in guilty and len(guilty) < 3:
            assert step.state.phase is Phase.SUCCEEDED, step
            assert step.state.losses <= 2, step


@given(
    innocent=st.lists(st.floats(0.5, 100), max_size=12),
    guilty=st.lists(st.floats(0.1, 50), min_size=1, max_size=4),
    parents=st.integers(0, 3),
    workers=st.integers(1, 3),
    slots=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_the_guilty_are_found_and_the_others_succeed(
    innocent: list[float], guilty: list[float], parents: int, workers: int, slots: int, order: object
) -> None:
    steps = [Step(f"innocent-{number}", seconds) for number, seconds in enumerate(innocent)]
    steps += [Step(f"guilty-{number}", kills_after=seconds) for number, seconds in enumerate(guilty)]
    steps += [Step(f"parent-{number}", awaits=steps[-1 - number % len(guilty)]) for number in range(parents)]
    order.shuffle(steps)  # type: ignore[attr-defined]  # hypothesis' own kind of Random
    pool = Pool(steps, workers=workers, slots=slots, trial_waits=FOR_EVER)
    pool.run()
    assert_just(pool)


@given(
    innocent=st.lists(st.floats(0.5, 60), max_size=12),
    guilty=st.floats(0.1, 20),
    workers=st.integers(1, 3),
    slots=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_one_that_is_guilty_costs_each_of_the_others_one_attempt_at_most(
    innocent: list[float], guilty: float, workers: int, slots: int
) -> None:
    steps = [Step(f"innocent-{number}", seconds) for number, seconds in enumerate(innocent)]
    steps.insert(len(steps) // 2, Step("guilty", kills_after=guilty))
    pool = Pool(steps, workers=workers, slots=slots, trial_waits=FOR_EVER)
    pool.run()
    assert_just(pool)
    assert all(step.given_out <= 2 for step in steps if step.kills_after is None)


def test_a_parent_on_the_same_worker_gets_the_end_of_its_poisonous_child() -> None:
    child = Step("child", kills_after=2)
    parent = Step("parent", awaits=child)
    pool = Pool([parent, child], workers=1, slots=4)
    pool.run()
    assert_just(pool)
    assert parent.state.losses == 0
    assert parent.given_out <= 3


def test_a_worker_of_one_slot_goes_on() -> None:
    steps = [Step("guilty", kills_after=1), Step("innocent")]
    pool = Pool(steps, workers=1, slots=1)
    pool.run()
    assert_just(pool)
    assert steps[1].given_out == 1


@pytest.mark.parametrize("seconds", [5, 60, 600])
def test_a_step_that_comes_later_waits_for_a_trial_and_no_longer(seconds: float) -> None:
    suspects = [Step(f"suspect-{number}", seconds) for number in range(3)]
    pool = Pool([*suspects, Step("guilty", kills_after=4)], workers=1, slots=10)
    late = pool.steps["late"] = Step("late", 1)
    pool.later(5, lambda: pool.give_out(late))
    pool.run()
    assert all(step.state.phase is Phase.SUCCEEDED for step in [*suspects, late])
    assert late.ended_at < 60, "one trial of each suspect, of 4 s times 1.5 and 2 s, and the guilty one's restarts"


def test_a_death_that_was_no_steps_fault_holds_back_hours_of_work_for_minutes() -> None:
    steps = [Step(f"long-{number}", 3600) for number in range(40)]
    pool = Pool(steps, workers=0, slots=40)
    worker = pool.connected(0, slots=40)
    pool.later(1200, lambda: pool.die(worker))
    pool.run()
    assert all(step.state.phase is Phase.SUCCEEDED for step in steps)
    assert max(step.ended_at for step in steps) < 1200 + 3600 + 15 * 60
