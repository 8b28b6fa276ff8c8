"""Who gets a slot: priorities, parents that await their children, and a bound on these."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import always
from hatchet_operator.decisions.placing import Requirement
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.lanes import Queue
from hatchet_operator.engine.dispatch.queue import AttemptQueue
from hatchet_operator.engine.dispatch.worker import Registration, Worker, WorkerStream
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.worker_labels import LabelValue, StickyWorker
from tests.kube.memory import alive
from tests.unit.operator.decisions.builders import NOW, later, make_graph, make_step

CHILD = ObjectRef("default", "child")


class Desk:
    """A queue whose assignments and complaints are written down."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.complaints: list[list[str]] = []
        self.queue = AttemptQueue(
            assign=self._assign,
            unserved=self._unserved,
            on_demand=lambda namespace, pool, run_uid: None,
            on_activity=lambda namespace, pool: None,
            buckets=Buckets(Clock(now=lambda: NOW)),
        )
        self._numbers = itertools.count()

    def _assign(self, attempt: Attempt, worker: Worker) -> None:
        worker.take(attempt)
        self.given.append(attempt.id)

    def _unserved(self, attempts: list[Attempt]) -> None:
        self.complaints.append([attempt.id for attempt in attempts])

    def add(self, *names: str, **changes: Any) -> list[Attempt]:
        attempts = [make_attempt(name, **changes) for name in names]
        for attempt in attempts:
            self.queue.add(attempt, NOW)
        return attempts

    def connect(self, slots: int = 1, **changes: Any) -> Worker:
        worker = make_worker(slots=slots, **changes)
        worker.stream = WorkerStream(may_command=always)
        self.queue.connect(worker)
        return worker

    def awaits_children(self, worker: Worker, attempt: Attempt) -> None:
        attempt.change_slot(lambda: attempt.awaits.add(CHILD))
        self.queue.fill(worker)

    def ends(self, worker: Worker, attempt: Attempt) -> None:
        worker.leave(attempt, at=0)
        self.queue.fill(worker)


@pytest.fixture
async def desk() -> Desk:
    return Desk()  # in a loop, since streams belong to one


def make_attempt(
    name: str,
    *,
    priority: int = 1,
    tree: str | None = None,
    is_root: bool = True,
    action: str = "etl:work",
    run_uid: str | None = None,
    trial: timedelta | None = None,
    required: tuple[Requirement, ...] = (),
    only_worker: str | None = None,
) -> Attempt:
    step = make_step(action=action)
    return Attempt(
        id=name,
        ref=ObjectRef("default", name),
        step=step,
        number=0,
        graph=make_graph(step),
        priority=priority,
        tree=tree or name,
        is_root=is_root,
        queued_at=NOW,
        of_run={},
        run_uid=run_uid,
        trial=trial,
        required=required,
        bound_to=StickyWorker(id=only_worker) if only_worker else None,
    )


def make_worker(
    *,
    slots: int = 1,
    actions: tuple[str, ...] = ("etl:work",),
    pool: str = "main",
    revisions: tuple[str, ...] = (),
    run_uid: str | None = None,
    name: str = "w",
    labels: dict[str, LabelValue] | None = None,
) -> Worker:
    registration = Registration(
        worker_id=name,
        name="w",
        pool=pool,
        actions=actions,
        slots=slots,
        revisions=revisions,
        labels=labels or {},
        registered_at=NOW,
    )
    return Worker(namespace="default", registration=registration, slots=slots, run_uid=run_uid)


async def test_an_attempt_goes_to_a_free_worker_at_once(desk: Desk) -> None:
    desk.connect()
    desk.add("a")
    assert desk.given == ["a"]


async def test_slots_bound_what_a_worker_has(desk: Desk) -> None:
    worker = desk.connect(slots=2)
    a, *_ = desk.add("a", "b", "c", "d")
    assert desk.given == ["a", "b"]
    desk.ends(worker, a)
    assert desk.given == ["a", "b", "c"]
    assert desk.queue.depth() == {("default", "main", "etl:work", None): 1}


async def test_what_waited_is_given_out_when_a_worker_comes(desk: Desk) -> None:
    desk.add("a", "b")
    desk.connect(slots=5)
    assert desk.given == ["a", "b"]


@pytest.mark.parametrize(
    "worker",
    [
        pytest.param({"pool": "other"}, id="of another pool"),
        pytest.param({"actions": ("etl:other",)}, id="with other actions"),
    ],
)
async def test_a_worker_that_can_not_take_it_does_not_get_it(desk: Desk, worker: dict[str, Any]) -> None:
    desk.connect(**worker)
    desk.add("a")
    assert desk.given == []


async def test_an_attempt_of_a_run_with_its_own_pod_goes_there_and_nowhere_else(desk: Desk) -> None:
    desk.connect(slots=5)
    desk.connect(slots=5, run_uid="another-run")
    (mine,) = desk.add("mine", run_uid="run")
    assert desk.given == []
    assert desk.queue.wait_of(mine).unserved_since == NOW
    assert desk.queue.waiting_for("default", "main") == 0
    desk.connect(slots=5, run_uid="run")
    assert desk.given == ["mine"]


async def test_a_pod_of_a_run_takes_nothing_of_the_pool(desk: Desk) -> None:
    desk.connect(slots=5, run_uid="run")
    desk.add("of the pool")
    assert desk.given == []
    assert desk.queue.waiting_for("default", "main") == 1


async def test_nothing_is_left_of_the_queue_of_a_run_that_is_over(desk: Desk) -> None:
    before = alive(Queue)
    (waits,) = desk.add("waits", run_uid="run")
    worker = desk.connect(run_uid="another-run")
    assert alive(Queue) == before + 2
    desk.queue.withdraw(waits)
    desk.queue.disconnect(worker, NOW)
    assert alive(Queue) == before


async def test_the_higher_priority_goes_first_then_the_older(desk: Desk) -> None:
    desk.add("old", "older-than-new")
    desk.add("urgent", priority=3)
    desk.add("middling", priority=2)
    desk.add("new")
    desk.connect(slots=10)
    assert desk.given == ["urgent", "middling", "old", "older-than-new", "new"]


async def test_priorities_hold_over_all_actions_of_a_worker(desk: Desk) -> None:
    desk.add("a", action="etl:a")
    desk.add("b", action="etl:b", priority=3)
    desk.add("c", action="etl:a")
    desk.connect(slots=10, actions=("etl:a", "etl:b"))
    assert desk.given == ["b", "a", "c"]


async def test_the_emptiest_worker_gets_it(desk: Desk) -> None:
    busy, idle = desk.connect(slots=2), make_worker(slots=2)
    desk.add("a")
    idle.stream = WorkerStream(may_command=always)
    desk.queue.connect(idle)
    desk.add("b")
    assert (set(busy.assigned), set(idle.assigned)) == ({"a"}, {"b"})


async def test_a_worker_with_the_same_code_comes_first(desk: Desk) -> None:
    desk.connect(slots=5)
    same = desk.connect(slots=1, revisions=("etl-1",))
    desk.add("a")
    assert set(same.assigned) == {"a"}


async def test_parents_that_await_children_occupy_no_slot(desk: Desk) -> None:
    worker = desk.connect(slots=1)
    (parent,) = desk.add("parent")
    desk.add("child", is_root=False)
    assert desk.given == ["parent"]
    desk.awaits_children(worker, parent)
    assert desk.given == ["parent", "child"]
    assert (worker.free_slots, worker.waiting) == (0, 1)


async def test_a_parent_whose_children_ended_takes_its_slot_back(desk: Desk) -> None:
    worker = desk.connect(slots=1)
    (parent,) = desk.add("parent")
    desk.awaits_children(worker, parent)
    parent.change_slot(parent.awaits.clear)
    desk.add("next")
    assert desk.given == ["parent"]
    desk.ends(worker, parent)
    assert desk.given == ["parent", "next"]
    assert worker.waiting == 0


async def test_a_released_slot_is_free_for_good(desk: Desk) -> None:
    worker = desk.connect(slots=1)
    (a,) = desk.add("a")
    a.change_slot(lambda: setattr(a, "released", True))
    desk.queue.fill(worker)
    desk.add("b")
    assert desk.given == ["a", "b"]
    desk.ends(worker, a)
    assert worker.occupied == 1


async def test_ten_waiting_parents_a_slot_hold_back_other_roots_but_no_children(desk: Desk) -> None:
    worker = desk.connect(slots=1)
    for number in range(10):
        (parent,) = desk.add(f"parent-{number}")
        desk.awaits_children(worker, parent)
    desk.add("parent-10")
    assert len(desk.given) == 10
    desk.add("child", is_root=False)
    assert desk.given[-1] == "child"
    assert len(desk.given) == 11


async def test_a_suspect_that_runs_lets_no_more_roots_in_than_others_do(desk: Desk) -> None:
    worker = desk.connect(slots=2)
    (suspect,) = desk.add("suspect", trial=timedelta(seconds=9))
    suspect.is_cleared = True
    for parent in desk.add(*(f"parent{number}" for number in range(20))):
        desk.awaits_children(worker, parent)
    desk.add("one too many")
    assert desk.given == ["suspect", *(f"parent{number}" for number in range(20))]


async def test_a_root_that_was_held_back_goes_when_a_parent_ends(desk: Desk) -> None:
    worker = desk.connect(slots=1)
    parents = [desk.add(f"parent-{number}")[0] for number in range(1)]
    desk.awaits_children(worker, parents[0])
    for number in range(1, 10):
        (parent,) = desk.add(f"parent-{number}")
        desk.awaits_children(worker, parent)
    desk.add("parent-10")
    desk.ends(worker, parents[0])
    assert desk.given[-1] == "parent-10"


async def test_what_was_withdrawn_is_given_to_nobody(desk: Desk) -> None:
    a, _ = desk.add("a", "b")
    desk.queue.withdraw(a)
    desk.queue.withdraw(a)
    assert desk.queue.depth() == {("default", "main", "etl:work", None): 1}
    desk.connect(slots=2)
    assert desk.given == ["b"]


async def test_withdrawing_what_is_out_changes_nothing(desk: Desk) -> None:
    worker = desk.connect()
    (a,) = desk.add("a")
    desk.queue.withdraw(a)
    assert worker.assigned == {"a": a}
    assert desk.queue.depth() == {}


async def test_a_draining_worker_gets_nothing(desk: Desk) -> None:
    worker = desk.connect()
    worker.draining_since = 0.0
    desk.queue.disconnect(worker, NOW)
    desk.add("a")
    assert desk.given == []


async def test_waiting_without_a_worker_counts_from_when_there_was_none(desk: Desk) -> None:
    (a,) = desk.add("a")
    assert desk.queue.wait_of(a).unserved_since == NOW
    worker = desk.connect(slots=1)
    (b,) = desk.add("b")
    assert desk.queue.wait_of(b).unserved_since is None
    desk.queue.disconnect(worker, later(7))
    assert desk.queue.wait_of(b).unserved_since == later(7)
    assert desk.complaints == [["b"]]


async def test_the_last_of_several_workers_is_missed_only(desk: Desk) -> None:
    first, second = desk.connect(), desk.connect()
    desk.add("a", "b", "c")
    desk.queue.disconnect(first, NOW)
    assert desk.complaints == []
    desk.queue.disconnect(second, later(1))
    assert desk.complaints == [["c"]]


async def test_deadlines_are_no_business_of_the_queue(desk: Desk) -> None:
    (a,) = desk.add("a")
    a.queued_at = NOW - timedelta(days=1)
    desk.connect()
    assert desk.given == ["a"]


async def test_the_first_that_wait_are_found_in_their_order(desk: Desk) -> None:
    desk.add(*(f"low{number}" for number in range(50)))
    desk.add("child", is_root=False)
    desk.add("other", action="etl:tidy")
    withdrawn, _ = desk.add("gone", "urgent", priority=3)
    desk.queue.withdraw(withdrawn)
    desk.add("elsewhere", run_uid="u")
    desk.add("suspect", trial=timedelta(seconds=9))
    found = desk.queue.first_in("default", "main", 5, served=False)
    assert [attempt.id for attempt in found] == ["suspect", "urgent", "low0", "low1", "low2"]
    everything = [attempt.id for attempt in desk.queue.first_in("default", "main", 1000, served=False)]
    assert everything == ["suspect", "urgent", *(f"low{number}" for number in range(50)), "child", "other"]
