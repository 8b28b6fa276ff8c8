"""When finished runs are looked at again, and how many are deleted at a time; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.expiry import Expiry
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import Conflict, NotFound, Refused
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunSpec, RunStatus, WorkflowRun
from tests.kube.memory import kept_bytes
from tests.kube.virtual_time import VirtualTimeLoop

BEGIN = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
T = BEGIN.timestamp()


class SlowApi(Api):
    """Takes a second for a deletion, and notes how many are under way."""

    def __init__(self, *answers: Exception) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.deleted: list[str] = []
        self.answers = list(answers)
        self.under_way = self.most = 0

    async def delete(self, resource: Any, namespace: Any, name: str, **_: Any) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(1)
        self.under_way -= 1
        self.deleted.append(name)
        if self.answers:
            raise self.answers.pop(0)


class World:
    """Finished runs, and what is told of them."""

    def __init__(self, api: SlowApi) -> None:
        self.store = RunStore()
        self.told: list[tuple[str, float]] = []
        self.expiry = Expiry(api, self.store, clock=Clock(now=self.clock), expired=self.expired)

    def clock(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def expired(self, record: RunRecord) -> None:
        self.told.append((record.ref.name, round(asyncio.get_running_loop().time())))

    def add(self, name: str) -> RunRecord:
        metadata = ObjectMeta(name=name, namespace="default", uid=name, resource_version="1")
        status = RunStatus(phase=Phase.SUCCEEDED, finished_at=BEGIN)
        return self.store.put(WorkflowRun(metadata=metadata, spec=RunSpec(workflow="etl"), status=status)).record


def in_virtual_time(api: SlowApi, play: Callable[[World], Coroutine[Any, Any, None]]) -> World:
    async def main() -> World:
        world = World(api)
        await play(world)
        await world.expiry.stop()
        return world

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def test_each_is_looked_at_in_its_time_however_far_off_it_was_said() -> None:
    async def play(world: World) -> None:
        for name, seconds in (("c", 7200), ("a", 10), ("b", 100)):
            world.expiry.look_at(world.add(name), T + seconds)
        await asyncio.sleep(10_000)

    assert in_virtual_time(SlowApi(), play).told == [("a", 10), ("b", 100), ("c", 7200)]


def test_the_last_time_that_was_said_counts_and_none_of_a_run_that_is_gone() -> None:
    async def play(world: World) -> None:
        later, sooner, gone = (world.add(name) for name in ("later", "sooner", "gone"))
        for record in (later, sooner, gone):
            world.expiry.look_at(record, T + 100)
            world.expiry.look_at(record, T + 100)
        world.expiry.look_at(later, T + 200)
        world.expiry.look_at(sooner, T + 50)
        world.store.drop(gone)
        await asyncio.sleep(1000)

    assert in_virtual_time(SlowApi(), play).told == [("sooner", 50), ("later", 200)]


def test_times_that_count_no_more_are_not_kept_for_ever() -> None:
    async def play(world: World) -> None:
        record = world.add("run")
        with kept_bytes() as kept:
            for number in range(10_000):
                world.expiry.look_at(record, T + 10_000 + number)
            assert kept() < 400_000, "a million, if all are kept"

    in_virtual_time(SlowApi(), play)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="all go well"),
        pytest.param(
            [NotFound("gone", status=404), Conflict("changed", status=409), Refused("no right", status=403)],
            id="some are refused",
        ),
    ],
)
def test_a_few_are_deleted_at_a_time_and_each_once(answers: list[Exception]) -> None:
    async def play(world: World) -> None:
        for number in range(20):
            record = world.add(f"run-{number}")
            world.expiry.delete(record)
            world.expiry.delete(record)
        gone = world.add("gone")
        world.expiry.delete(gone)
        gone.mark_gone()
        await asyncio.sleep(100)

    api = SlowApi(*answers)
    in_virtual_time(api, play)
    assert sorted(api.deleted) == sorted(f"run-{number}" for number in range(20))
    assert api.most == 4
