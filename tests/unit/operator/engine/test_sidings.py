"""Attempts that need units of limits: who goes when units come back, and that they hold up nobody."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hatchet_operator.cluster.api import always
from hatchet_operator.decisions.rate_limits import Limit
from hatchet_operator.decisions.step_limits import Need
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.queue import AttemptQueue
from hatchet_operator.engine.dispatch.worker import Worker, WorkerStream
from hatchet_operator.engine.limits.buckets import Bucket, Buckets
from tests.kube.virtual_time import VirtualTimeLoop
from tests.unit.operator.engine.test_queue import make_attempt, make_worker

SECOND = Limit(units=2, seconds=1.0)


class Desk:
    """A queue on virtual time, whose limits begin with this moment's units."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.told: list[str] = []
        self.demands = 0
        self.buckets = Buckets(Clock(now=self.clock))
        self.queue = AttemptQueue(
            assign=self._assign,
            unserved=lambda attempts: self.told.extend(attempt.id for attempt in attempts),
            on_demand=self._demand,
            on_activity=lambda namespace, pool: None,
            buckets=self.buckets,
        )

    @staticmethod
    def clock() -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())

    def _assign(self, attempt: Attempt, worker: Worker) -> None:
        for bucket, _ in attempt.units:
            assert bucket.limit is not None
            assert bucket.used(self.buckets.now()) <= bucket.limit.units
        worker.take(attempt)
        self.given.append(attempt.id)

    def _demand(self, namespace: str, pool: str | None, run_uid: str | None) -> None:
        self.demands += 1

    async def limit(self, key: str, limit: Limit = SECOND) -> Bucket:
        bucket = self.buckets.bucket(("default", key))
        self.buckets.set_limit(bucket, limit, has_object=True)
        await asyncio.sleep(limit.seconds)  # the leader before may have used all of this window
        return bucket

    def add(self, *names: str, needs: dict[str, int] | None = None, **changes: Any) -> list[Attempt]:
        attempts = [make_attempt(name, **changes) for name in names]
        for attempt in attempts:
            found = [Need(key=key, units=units) for key, units in (needs or {}).items()]
            attempt.queued_at = self.clock()
            attempt.units = self.buckets.of_needs("default", found)
            self.queue.add(attempt, self.clock())
        return attempts

    def connect(self, slots: int = 1, **changes: Any) -> Worker:
        worker = make_worker(slots=slots, **changes)
        worker.stream = WorkerStream(may_command=always)
        self.queue.connect(worker)
        return worker

    def ends(self, worker: Worker) -> None:
        for attempt in list(worker.assigned.values()):
            worker.leave(attempt, at=0)
        self.queue.fill(worker)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test())

    return run


@in_virtual_time
async def test_as_many_go_as_there_are_units_and_as_many_again_when_they_come_back() -> None:
    desk = Desk()
    await desk.limit("api")
    desk.connect(slots=10)
    desk.add("a", "b", "c", "d", "e", needs={"api": 1})
    assert desk.given == ["a", "b"]
    await asyncio.sleep(0.9)
    assert desk.given == ["a", "b"]
    await asyncio.sleep(0.11)
    assert desk.given == ["a", "b", "c", "d"]
    await asyncio.sleep(1.01)
    assert desk.given == ["a", "b", "c", "d", "e"]


def test_a_window_that_ends_while_it_is_looked_at_wakes_those_that_wait() -> None:
    class Lagging(Desk):
        """Its clock is behind the loop's timers, and goes on with each look: time passes while things are decided."""

        behind = timedelta()

        def clock(self) -> datetime:  # type: ignore[override]  # the other one knows no desk
            self.behind = max(self.behind - timedelta(microseconds=1), timedelta())
            return Desk.clock() - self.behind

    async def third_goes(looks: int) -> bool:
        desk = Lagging()
        await desk.limit("api")
        desk.connect(slots=10)
        desk.add("a", "b", "c", needs={"api": 1})
        assert desk.given == ["a", "b"]
        desk.behind = timedelta(microseconds=looks)  # so at the end of the window, it ends after as many looks
        await asyncio.sleep(5)
        return desk.given == ["a", "b", "c"]

    for looks in range(60):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(third_goes(looks)), f"it ended at the look number {looks}"


@in_virtual_time
async def test_who_needs_nothing_passes_those_that_are_kept() -> None:
    desk = Desk()
    await desk.limit("api")
    worker = desk.connect(slots=3)
    desk.add("a", "b", "c", needs={"api": 1}, priority=3)
    desk.add("free", priority=1)
    assert desk.given == ["a", "b", "free"]
    desk.ends(worker)
    desk.add("another")
    assert desk.given[3:] == ["another"], "c stays aside"


@in_virtual_time
async def test_units_are_taken_when_a_slot_is_there_and_not_before() -> None:
    desk = Desk()
    bucket = await desk.limit("api")
    desk.add("a", "b", needs={"api": 1})
    assert (bucket.used(desk.buckets.now()), desk.queue.waiting_for("default", "main")) == (0, 2)
    await asyncio.sleep(5)
    desk.connect(slots=10)
    assert desk.given == ["a", "b"]
    assert bucket.used(desk.buckets.now()) == 2


@in_virtual_time
async def test_what_a_limit_keeps_asks_for_no_pods() -> None:
    desk = Desk()
    await desk.limit("api")
    desk.add(*map(str, range(50)), needs={"api": 1})
    assert desk.queue.waiting_for("default", "main") == 2
    assert [attempt.id for attempt in desk.queue.blocked_in("default", "main", 3)] == ["1", "2", "3"]


@in_virtual_time
async def test_one_with_fewer_units_goes_before_one_that_needs_more_than_are_left() -> None:
    desk = Desk()
    await desk.limit("api", Limit(units=3, seconds=1.0))
    desk.connect(slots=10)
    desk.add("a", needs={"api": 2})
    desk.add("large", needs={"api": 2})
    desk.add("small", "smaller", needs={"api": 1})
    assert desk.given == ["a", "small"]
    await asyncio.sleep(1.01)
    assert desk.given == ["a", "small", "large", "smaller"], "the oldest goes first as soon as there is room"


@in_virtual_time
async def test_of_several_limits_all_or_none_are_taken() -> None:
    desk = Desk()
    wide = await desk.limit("wide", Limit(units=5, seconds=1.0))
    await desk.limit("narrow", Limit(units=1, seconds=1.0))
    desk.connect(slots=10)
    desk.add("a", "b", needs={"wide": 1, "narrow": 1})
    desk.add("c", "d", needs={"wide": 1})
    assert desk.given == ["a", "c", "d"]
    assert wide.used(desk.buckets.now()) == 3


@in_virtual_time
async def test_a_limit_that_is_not_there_keeps_until_somebody_makes_it() -> None:
    desk = Desk()
    desk.connect(slots=10)
    [attempt] = desk.add("a", needs={"api": 1})
    wait = desk.queue.wait_of(attempt)
    assert 'there is no RateLimit "api"' in (wait.limited or "")
    assert wait.impossible_since is not None
    await desk.limit("api")
    assert desk.given == ["a"]


@in_virtual_time
async def test_more_units_than_the_limit_go_when_it_is_raised() -> None:
    desk = Desk()
    bucket = await desk.limit("api")
    desk.connect(slots=10)
    [attempt] = desk.add("a", needs={"api": 3})
    desk.add("b", needs={"api": 1})
    assert desk.given == ["b"], "it holds up nobody"
    want = 'needs 3 units of rate limit "api", which has only 2 units per 1s'
    assert want in (desk.queue.wait_of(attempt).limited or "")
    desk.buckets.set_limit(bucket, Limit(units=4, seconds=1.0), has_object=True)
    await asyncio.sleep(0)
    assert desk.given == ["b", "a"]


@in_virtual_time
async def test_what_waits_says_what_is_used_and_when_it_comes_back() -> None:
    desk = Desk()
    await desk.limit("api")
    desk.connect(slots=10)
    *_, kept = desk.add("a", "b", "c", needs={"api": 1})
    wait = desk.queue.wait_of(kept)
    assert (wait.unserved_since, wait.impossible_since) == (None, None)
    want = 'rate limit "api" has 2 units per 1s, of which 2 are used, and it needs 1; they come back at 00:00:02 UTC'
    assert wait.limited == want


@in_virtual_time
async def test_the_schedule_timeout_begins_when_no_limit_keeps_it_any_more() -> None:
    desk = Desk()
    await desk.limit("api", Limit(units=1, seconds=60.0 / 10))
    worker = desk.connect()
    *_, kept = desk.add("a", "b", needs={"api": 1})
    desk.queue.disconnect(worker, desk.clock())
    assert desk.queue.wait_of(kept).unserved_since is None
    before = desk.clock()
    await asyncio.sleep(6.01)
    since = desk.queue.wait_of(kept).unserved_since
    assert since is not None
    assert since > before + timedelta(seconds=5)
    assert desk.told == ["b"], "its run has another thing to tell"


@in_virtual_time
async def test_all_behind_the_first_wait_for_a_worker_too_and_at_the_same_time() -> None:
    desk = Desk()
    await desk.limit("api")
    worker = desk.connect(slots=1)
    desk.add("a", needs={"api": 1})
    desk.add("b", "c", "d", needs={"api": 1})
    desk.queue.disconnect(worker, desk.clock())
    await asyncio.sleep(1.01)
    assert sorted(set(desk.told)) == ["b", "c", "d"]
    kept = desk.queue.blocked_in("default", "main", 9)
    assert [attempt.id for attempt in kept] == ["c", "d"]
    assert {desk.queue.wait_of(attempt).unserved_since is None for attempt in kept} == {False}


@in_virtual_time
async def test_who_is_withdrawn_lets_the_next_go() -> None:
    desk = Desk()
    await desk.limit("api", Limit(units=1, seconds=1.0))
    a, b, c = desk.add("a", "b", "c", needs={"api": 1})
    for attempt in (a, b):
        desk.queue.withdraw(attempt)
    desk.connect(slots=10)
    assert desk.given == ["c"]
    assert desk.queue.waiting_for("default", "main") == 0
    assert not list(desk.queue.blocked_in("default", "main", 9))
    assert c.siding is None


@in_virtual_time
async def test_pools_take_turns_at_a_limit_that_they_share() -> None:
    desk = Desk()
    await desk.limit("api", Limit(units=1, seconds=1.0))
    desk.connect(slots=10, actions=("etl:one", "etl:other"))
    for number in range(3):
        desk.add(f"one{number}", action="etl:one", needs={"api": 1})
        desk.add(f"other{number}", action="etl:other", needs={"api": 1})
        await asyncio.sleep(0.001)
    await asyncio.sleep(6)
    assert Counter(name.rstrip("012") for name in desk.given[:4]) == {"one": 2, "other": 2}
    assert len(desk.given) == 6


@in_virtual_time
async def test_no_priority_starves_at_a_limit() -> None:
    desk = Desk()
    await desk.limit("api", Limit(units=1, seconds=1.0))
    desk.connect(slots=100)
    desk.add(*(f"urgent{number}" for number in range(30)), needs={"api": 1}, priority=3)
    desk.add("patient", needs={"api": 1}, priority=1)
    await asyncio.sleep(20)
    assert "patient" in desk.given
    assert desk.given[:3] == ["urgent0", "urgent1", "urgent2"]


@in_virtual_time
async def test_ten_thousand_that_are_kept_cost_nothing_when_units_come_back() -> None:
    desk = Desk()
    bucket = await desk.limit("api")
    desk.connect(slots=10_000)
    desk.add(*map(str, range(10_000)), needs={"api": 1})
    asked = itertools.count()
    first_blocking = desk.buckets.first_blocking
    desk.buckets.first_blocking = lambda needs: (next(asked), first_blocking(needs))[1]  # type: ignore[method-assign]
    await asyncio.sleep(1.01)
    assert len(desk.given) == 4
    assert next(asked) < 20, "and not once for each that waits"
    assert bucket.waiting == 9_996


@in_virtual_time
async def test_who_gets_units_next_is_named_once_and_in_that_order() -> None:
    desk = Desk()
    bucket = await desk.limit("api", Limit(units=2, seconds=1.0))
    desk.connect(slots=100)
    desk.add("first", needs={"api": 2})
    for number in range(9):
        desk.add(f"later{number}", needs={"api": 1})
    desk.add("large", needs={"api": 2})
    (urgent,) = desk.add("urgent", needs={"api": 1}, priority=3)
    assert desk.given == ["first"]
    assert bucket.next_runs(3) == ("urgent", "later0", "later1")
    assert bucket.next_runs(20)[-2:] == ("later8", "large")
    desk.queue.withdraw(urgent)
    assert bucket.next_runs(2) == ("later0", "later1")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
@example(49131, 2, False)
def test_nobody_starves_that_could_go_and_no_limit_is_exceeded(seed: int, slots: int, comes_late: bool) -> None:
    """Whatever comes, is withdrawn or ends: limits hold in each window, and after a look nobody waits who could go."""
    chance = random.Random(seed)  # no secret
    limits = {"a": Limit(units=2, seconds=1.0), "b": Limit(units=3, seconds=0.7), "c": Limit(units=5, seconds=5.0)}

    async def play() -> None:
        desk = Desk()
        for key, limit in limits.items():
            await desk.limit(key, limit)
        waiting: dict[str, Attempt] = {}
        workers = [] if comes_late else [desk.connect(slots=slots)]
        for number in range(60):
            match chance.choice(("add", "add", "wait", "end", "withdraw")):
                case "add":
                    needs = {key: chance.randint(1, 3) for key in limits if chance.random() < 0.4}
                    needs = {key: min(units, limits[key].units) for key, units in needs.items()}
                    root, priority = chance.random() < 0.5, chance.randint(1, 3)
                    [added] = desk.add(str(number), needs=needs, is_root=root, priority=priority)
                    waiting[added.id] = added
                case "wait":
                    await asyncio.sleep(chance.random())
                case "end":
                    for worker in workers:
                        desk.ends(worker)
                case "withdraw" if waiting:
                    desk.queue.withdraw(waiting.pop(chance.choice(list(waiting))))
            if number == 30 and not workers:
                workers.append(desk.connect(slots=slots))
            waiting = {name: one for name, one in waiting.items() if one.worker is None}
            await asyncio.sleep(0)
            for worker in workers:
                able = [one for one in waiting.values() if desk.buckets.first_blocking(one.units) is None]
                if able and worker.free_slots:
                    await asyncio.sleep(0.011)  # a window has just ended, and is looked at soon
                    able = [
                        one for one in able if one.worker is None and desk.buckets.first_blocking(one.units) is None
                    ]
                assert not (able and worker.free_slots), "who could go goes"
        for _ in range(400):
            await asyncio.sleep(1.0)
            for worker in workers:
                desk.ends(worker)
        assert not [one.id for one in waiting.values() if one.worker is None], "all go in the end"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())
