"""Groups through any history of runs that come, end and are deleted: no limit is exceeded, nobody is forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatchet_operator.decisions.concurrency import SeenGroup
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.groups import Groups
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import LimitStrategy, Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import ConcurrencyLimit
from tests.unit.operator.decisions.builders import NOW, make_graph
from tests.unit.operator.engine.test_records import make_run

CANCELS = (
    LimitStrategy.CANCEL_IN_PROGRESS,
    LimitStrategy.CANCEL_NEWEST,
    LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST,
)


class World:
    """Runs of one workflow, decided about until nothing changes."""

    def __init__(self, *limits: ConcurrencyLimit) -> None:
        self.graph: Graph = replace(make_graph(), concurrency=limits)
        self.store = RunStore()
        self.todo: list[RunRecord] = []
        self.groups = Groups(clock=Clock(), requeue=self.todo.append)
        self.going: set[str] = set()
        self.cancelling: set[str] = set()
        self.version = 0
        self.groups.on_change.append(self.tell)
        self.told: list[SeenGroup] = []
        self.came: list[RunRecord] = []

    def tell(self, workflow: ObjectRef) -> None:
        self.told = self.groups.seen(workflow)

    def shown(self) -> list[SeenGroup]:
        return self.groups.seen(next(iter(self.store)).workflow_ref) if len(self.store) else []

    def run(self, name: str, phase: Phase, user: str = "ada") -> WorkflowRun:
        self.version += 1
        run = make_run(name, phase, version=self.version)
        metadata = run.metadata.model_copy(update={"creation_timestamp": NOW + timedelta(seconds=self.version)})
        spec = run.spec.model_copy(update={"input": {"user": user, "team": user[0]}})
        return run.model_copy(update={"metadata": metadata, "spec": spec})

    def come(self, name: str, user: str = "ada") -> None:
        record = self.store.put(self.run(name, Phase.PENDING, user)).record
        self.came.append(record)
        self.decide(record)

    def end(self, name: str, phase: Phase = Phase.SUCCEEDED) -> None:
        self.going.discard(name)
        self.cancelling.discard(name)
        self.groups.run_changed(self.store.put(self.run(name, phase)))
        self.settle()

    def decide(self, record: RunRecord) -> None:
        self.groups.follow(record, self.graph)
        state = self.groups.state_of(record)
        assert state is not None
        name = record.ref.name
        if state.cancelled_for is not None:
            self.cancelling.add(name)
        elif state.waits is None and state.problem is None:
            self.going.add(name)
        self.settle()

    def settle(self) -> None:
        while self.todo:
            record = self.todo.pop(0)
            if not record.is_final and not record.gone:
                self.decide(record)

    def unfinished(self) -> set[str]:
        return {record.ref.name for record in self.store.unfinished()}


def limit(strategy: LimitStrategy, most: int = 1, expression: str = "input.user") -> ConcurrencyLimit:
    return ConcurrencyLimit(expression=expression, max_runs=most, strategy=strategy)


def test_a_successor_starts_when_the_one_that_it_replaces_is_final() -> None:
    world = World(limit(LimitStrategy.CANCEL_IN_PROGRESS))
    world.come("old")
    world.come("new")
    assert (world.going, world.cancelling) == ({"old"}, {"old"})
    world.end("old", Phase.CANCELLED)
    assert world.going == {"new"}


def test_groups_do_not_wait_for_each_other() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST))
    for number in range(2):
        world.come(f"ada-{number}", "ada")
        world.come(f"bob-{number}", "bob")
    assert world.going == {"ada-0", "bob-0"}


def test_all_limits_have_to_let_a_run_and_one_that_is_kept_by_another_holds_up_nobody() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST), limit(LimitStrategy.QUEUE_NEWEST, 2, "'all'"))
    for name, user in (("a1", "ada"), ("a2", "ada"), ("b1", "bob"), ("c1", "cyd")):
        world.come(name, user)
    assert world.going == {"a1", "b1"}
    world.end("b1")
    assert world.going == {"a1", "c1"}, "a2 is kept by its user"
    world.end("a1")
    assert world.going == {"c1", "a2"}


def test_of_two_limits_of_one_expression_the_first_counts() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST, 2), limit(LimitStrategy.QUEUE_NEWEST, 9))
    for name in "abc":
        world.come(name)
    assert world.going == {"a", "b"}
    world.end("a")
    assert world.going == {"b", "c"}


def test_a_run_that_may_be_out_from_before_a_start_counts_until_it_is_known() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST))
    before = world.store.put(world.run("before", Phase.PENDING)).record
    before.may_be_assigned = True
    world.decide(before)
    world.come("new")
    assert world.going == {"before"}
    before.may_be_assigned = False  # nobody has it
    world.going.clear()
    world.decide(before)
    assert world.going == {"before"}, "it is the older one"


def test_a_limit_that_a_person_raises_lets_those_that_wait_go() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST))
    for name in "abc":
        world.come(name)
    world.graph = replace(world.graph, concurrency=(limit(LimitStrategy.QUEUE_NEWEST, 2),))
    for record in list(world.store):
        world.decide(record)
    assert world.going == {"a", "b"}


def test_a_group_says_who_goes_on_who_is_leaving_and_whose_turn_is_next() -> None:
    world = World(limit(LimitStrategy.QUEUE_NEWEST, 2))
    for number in range(9):
        world.come(f"run-{number}")
    (group,) = world.shown()
    assert (group.expression, group.key, group.active, group.waiting) == ("input.user", "ada", 2, 7)
    assert group.active_runs == ("run-0", "run-1")
    assert group.waiting_runs == ("run-2", "run-3", "run-4", "run-5", "run-6")
    world = World(limit(LimitStrategy.CANCEL_IN_PROGRESS))
    world.come("old")
    world.come("new")
    (group,) = world.shown()
    assert (group.active_runs, group.waiting_runs) == (("old",), ("new",))


@given(
    strategy=st.sampled_from(list(LimitStrategy)),
    most=st.integers(1, 3),
    acts=st.lists(st.tuples(st.sampled_from(["come", "end", "delete"]), st.integers(0, 9)), max_size=60),
)
@example(  # one that was cancelled outlives its group, of which another is made meanwhile
    strategy=LimitStrategy.CANCEL_NEWEST,
    most=1,
    acts=[("come", 0), ("come", 0), ("end", 0), ("come", 0), ("end", 0), ("come", 0)],
)
def test_no_limit_is_exceeded_and_nobody_is_forgotten(
    strategy: LimitStrategy, most: int, acts: list[tuple[str, int]]
) -> None:
    world = World(limit(strategy, most))
    for number, (act, which) in enumerate(acts):
        there = sorted(world.unfinished() & (world.going | world.cancelling))
        if act == "come":
            world.come(f"run-{number:03}")
        elif there:
            name = there[which % len(there)]
            if act == "end":
                world.end(name, Phase.CANCELLED if name in world.cancelling else Phase.SUCCEEDED)
            else:
                record = next(record for record in world.store if record.ref.name == name)
                world.going.discard(name)
                world.cancelling.discard(name)
                world.groups.run_changed(world.store.drop(record))
                world.settle()
        unfinished = world.unfinished()
        assert len(world.going) <= most
        assert world.told == world.shown(), "what is shown has changed, and nobody was told"
        idle = unfinished - world.going - world.cancelling
        if len(world.going) < most and not (world.going & world.cancelling):
            assert not idle, "there is room, and somebody waits"
        if strategy not in CANCELS:
            assert not world.cancelling
    while left := world.unfinished():
        busy = sorted((world.going | world.cancelling) & left)
        assert busy, "nobody goes on, and somebody waits"
        world.end(busy[0], Phase.CANCELLED if busy[0] in world.cancelling else Phase.SUCCEEDED)
    for record in world.came:
        assert world.groups.state_of(record) is None, "it is over, and still a member"
        assert not world.groups.seen(record.workflow_ref)


@pytest.mark.parametrize("strategy", list(LimitStrategy))
def test_the_newest_run_of_each_group_has_its_say_at_once(strategy: LimitStrategy) -> None:
    world = World(limit(strategy))
    world.come("first")
    assert world.going == {"first"}
