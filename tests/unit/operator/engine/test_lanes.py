"""What waits aside holds up nobody, whoever can take something has it, and no priority starves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchet_operator.decisions.placing import Requirement, fits, has_room
from hatchet_operator.decisions.turns import BOUND
from hatchet_operator.engine.dispatch import queue
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.lanes import Entry, Lane, Urgency
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.resources.worker_labels import Comparator
from tests.kube.memory import alive
from tests.unit.operator.decisions.builders import NOW
from tests.unit.operator.engine.test_queue import CHILD, Desk

ACTIONS = ("etl:a", "etl:b")
LABELS = st.dictionaries(st.just("model"), st.sampled_from(["large", "small"]))
REQUIRED = [(), (), *((Requirement("model", each, "large"),) for each in (Comparator.EQUAL, Comparator.NOT_EQUAL))]


def play(acts: Callable[[], None]) -> None:
    async def main() -> None:
        acts()  # streams belong to a loop

    asyncio.run(main())


class Model:
    """A queue with some workers, and what has to be true of it at any moment."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.workers: list[Worker] = []
        self.attempts: list[Attempt] = []
        self.ids: list[str] = []  # of workers, also of those that left

    def connect(self, draw: st.DataObject) -> None:
        actions = tuple(draw.draw(st.sets(st.sampled_from(ACTIONS), min_size=1)))
        worker = self.desk.connect(
            slots=draw.draw(st.integers(1, 3)),
            actions=actions,
            name=f"w{len(self.ids)}",
            labels=draw.draw(LABELS),
        )
        self.ids.append(worker.id)
        self.workers.append(worker)

    def label(self, draw: st.DataObject) -> None:
        if self.workers:
            worker = draw.draw(st.sampled_from(self.workers))
            worker.registration = worker.registration.model_copy(update={"labels": draw.draw(LABELS)})
            self.desk.queue.labels_changed(worker, NOW)

    def add(self, draw: st.DataObject) -> None:
        name = f"a{len(self.attempts)}"
        self.attempts += self.desk.add(
            name,
            tree=draw.draw(st.sampled_from("xyz")),
            priority=draw.draw(st.integers(1, 3)),
            is_root=draw.draw(st.booleans()),
            action=draw.draw(st.sampled_from(ACTIONS)),
            trial=draw.draw(st.sampled_from([None, None, None, timedelta(seconds=5)])),
            required=draw.draw(st.sampled_from(REQUIRED)),
            only_worker=draw.draw(st.sampled_from([None, None, None, *self.ids])),
        )

    def end(self, draw: st.DataObject) -> None:
        if out := self._out():
            attempt = draw.draw(st.sampled_from(out))
            assert attempt.worker is not None
            self.desk.ends(attempt.worker, attempt)

    def wait_for_children(self, draw: st.DataObject) -> None:
        if out := self._out():
            attempt = draw.draw(st.sampled_from(out))
            assert attempt.worker is not None
            self.desk.awaits_children(attempt.worker, attempt)

    def go_on(self, draw: st.DataObject) -> None:
        if out := [attempt for attempt in self._out() if attempt.awaits]:
            attempt = draw.draw(st.sampled_from(out))
            attempt.change_slot(lambda: attempt.awaits.discard(CHILD))

    def clear(self, draw: st.DataObject) -> None:
        if out := [attempt for attempt in self._out() if attempt.trial is not None]:
            attempt = draw.draw(st.sampled_from(out))
            attempt.is_cleared = True
            assert attempt.worker is not None
            self.desk.queue.fill(attempt.worker)

    def relax(self, draw: st.DataObject) -> None:
        if waiting := [attempt for attempt in self._waiting() if attempt.trial is not None]:
            self.desk.queue.relax(draw.draw(st.sampled_from(waiting)), NOW)

    def withdraw(self, draw: st.DataObject) -> None:
        if waiting := self._waiting():
            self.desk.queue.withdraw(draw.draw(st.sampled_from(waiting)))

    def leave(self, draw: st.DataObject) -> None:
        if self.workers:
            worker = self.workers.pop(draw.draw(st.integers(0, len(self.workers) - 1)))
            worker.stream = None
            self.desk.queue.disconnect(worker, NOW)
            worker.assigned.clear()

    def _out(self) -> list[Attempt]:
        return [attempt for worker in self.workers for attempt in worker.assigned.values()]

    def _waiting(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.lane is not None]

    def check(self) -> None:
        waiting = self._waiting()
        assert {attempt.id for attempt in waiting} == {
            each.id for each in self.desk.queue.waiting_in("default", "main")
        }
        assert self.desk.queue.waiting_for("default", "main") == len(waiting)
        assert len(self.desk.given) == len(set(self.desk.given)), "one was given out twice"
        for attempt in self._out():
            assert attempt.needs.worker in (None, attempt.worker and attempt.worker.id)
        for attempt in waiting:
            offered = [worker for worker in self.workers if attempt.step.action in worker.registration.actions]
            able = [worker for worker in offered if fits(worker, attempt.needs)]
            wait = self.desk.queue.wait_of(attempt)
            assert (wait.unserved_since is None) is bool(able), "it is said to wait for a worker, or it is not"
            for worker in able:
                assert not has_room(worker, attempt.needs), f"{attempt.id} waits though a worker has room for it"


ACTS = (
    Model.connect,
    Model.label,
    Model.add,
    Model.add,
    Model.add,
    Model.end,
    Model.wait_for_children,
    Model.go_on,
    Model.clear,
    Model.relax,
    Model.withdraw,
    Model.leave,
)


@given(acts=st.lists(st.sampled_from(ACTS), max_size=60), draw=st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_waits_that_somebody_has_room_for(acts: list[Any], draw: st.DataObject) -> None:
    def act() -> None:
        model = Model()
        for each in acts:
            each(model, draw)
            model.check()

    play(act)


@given(
    backlog=st.lists(st.tuples(st.integers(1, 3), st.sampled_from("vwxyz"), st.sampled_from(ACTIONS)), max_size=60),
    newcomers=st.lists(st.lists(st.tuples(st.integers(2, 3), st.sampled_from("vwxyzn")), max_size=4), max_size=400),
)
@settings(max_examples=60, deadline=None)
def test_the_first_of_a_tree_waits_for_ten_slots_of_each_tree_at_most(
    backlog: list[tuple[int, str, str]], newcomers: list[list[tuple[int, str]]]
) -> None:
    """However much of a higher priority comes meanwhile."""

    def act() -> None:
        desk = Desk()
        worker = desk.connect(slots=1, actions=ACTIONS)
        for number, (priority, tree, action) in enumerate(backlog):
            desk.add(f"old{number}", priority=priority, tree=tree, action=action, is_root=False)
        (last,) = desk.add("last", tree="last", priority=1, action=ACTIONS[0], is_root=False)
        others = {each.tree for each in desk.queue.waiting_in("default", "main") if each.priority == 1}
        for served, coming in enumerate(newcomers):
            if last.worker is not None:
                assert served <= BOUND * (len(others) + 1)
                return
            for number, (priority, tree) in enumerate(coming):
                desk.add(f"new{served}-{number}", priority=priority, tree=tree, action=ACTIONS[1], is_root=False)
            for attempt in list(worker.assigned.values()):
                desk.ends(worker, attempt)
        assert last.worker is not None or len(newcomers) <= BOUND * (len(others) + 1)

    play(act)


async def test_those_that_left_are_not_looked_through_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Entry] = []
    urgency = Lane.urgency

    def look(lane: Lane, entry: Entry) -> Urgency:
        looked_at.append(entry)
        return urgency(lane, entry)

    desk = Desk()
    for attempt in desk.add(*(f"run{number}" for number in range(1_000)))[:450]:
        desk.queue.withdraw(attempt)
    monkeypatch.setattr(Lane, "urgency", look)
    assert [each.id for each in desk.queue.first_in("default", "main", 2, served=False)] == ["run450", "run451"]
    assert len(looked_at) < 20


async def test_a_low_priority_gets_one_slot_of_ten_while_higher_ones_never_end() -> None:
    desk = Desk()
    worker = desk.connect()
    desk.add("first")
    desk.add(*(f"low{number}" for number in range(3)), priority=1)
    desk.add(*(f"high{number}" for number in range(100)), priority=3)
    for _ in range(30):
        for attempt in list(worker.assigned.values()):
            desk.ends(worker, attempt)
    assert [place for place, name in enumerate(desk.given) if name.startswith("low")] == [9, 18, 27]


async def test_a_worker_goes_on_with_the_turns_of_one_that_left() -> None:
    desk = Desk()
    desk.add("low", priority=1)
    desk.add(*(f"high{number}" for number in range(100)), priority=3)
    for _ in range(BOUND):  # none of which lives for long enough to have a turn of its own
        worker = desk.connect()
        desk.queue.disconnect(worker, NOW)
    assert "low" in desk.given


@pytest.mark.parametrize("queued", [100, 10_000])
async def test_a_look_at_who_is_next_costs_the_same_however_much_waits(queued: int) -> None:
    desk = Desk()
    added = desk.add(*(f"a{number}" for number in range(queued)), priority=1)
    added += desk.add(*(f"b{number}" for number in range(queued)), priority=3)
    assert len({attempt.lane for attempt in added}) == 2
    desk.connect(slots=5)
    assert desk.given == ["b0", "b1", "b2", "b3", "b4"]


async def test_attempts_that_nobody_ever_takes_leave_nothing_behind() -> None:
    desk = Desk()
    desk.add("waits", "another")
    before = alive(Attempt)
    for number in range(1000):
        (attempt,) = desk.add(f"a{number}")
        desk.queue.withdraw(attempt)
    assert alive(Attempt) - before < 200


async def test_what_is_bound_to_other_workers_costs_a_worker_nothing() -> None:
    desk = Desk()
    for number in range(1000):
        desk.add(f"a{number}", only_worker=f"w{number}")
    with mock.patch.object(queue, "fits", wraps=fits) as compare:
        desk.connect(slots=5, name="w7")
    assert desk.given == ["a7"]
    assert compare.call_count <= 2, "with its own, once when it connects and once when it gets it"
    assert desk.queue.demand_for("default", "main") == 0, "another worker would not help"


async def test_what_no_worker_fits_waits_aside() -> None:
    desk = Desk()
    worker = desk.connect(slots=1, labels={"model": "small"})
    (running,) = desk.add("running")
    large = (Requirement("model", Comparator.EQUAL, "large"),)
    desk.add(*(f"large{number}" for number in range(10)), priority=3, required=large)
    desk.add("small")
    desk.ends(worker, running)
    assert desk.given == ["running", "small"]
    assert len(desk.queue.first_in("default", "main", 100, served=False)) == 10
    worker.registration = worker.registration.model_copy(update={"labels": {"model": "large"}})
    desk.queue.labels_changed(worker, NOW)
    desk.ends(worker, next(iter(worker.assigned.values())))
    assert desk.given[-1] == "large0"
