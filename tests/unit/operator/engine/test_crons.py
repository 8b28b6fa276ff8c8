"""Crons over hours and restarts, against an API server of a few lines; in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS, Resource
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.triggers.crons import Crons
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import AlreadyExists, Refused
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from tests.kube.virtual_time import VirtualTimeLoop

BEGIN = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
NOTHING = cast("Any", None)
MINUTES = 60


def clock() -> datetime:
    return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())


class Server(Api):
    """One workflow and its runs; each answer takes a moment."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.version = 1
        self.asked: Counter[str] = Counter()
        self.runs: dict[str, Json] = {}
        self.events: list[str] = []
        self.refuses = self.silent = False
        self.workflow: Json = {}
        self.spec = spec

    def register(self, **definition: Any) -> None:
        step = StepDefinition(name="work", action="etl:work", timeout=timedelta(minutes=1))
        registered = WorkflowDefinition(name="etl", steps=(step,), schedule_timeout=timedelta(minutes=5), **definition)
        self.workflow = {
            "metadata": {"name": "etl", "namespace": "default", "uid": "w", "resourceVersion": "1"},
            "spec": self.spec,
            "status": {"definition": registered.to_wire(), "revision": "r", "pool": "main"},
        }

    def next_version(self) -> str:
        self.version += 1
        return str(self.version)

    async def create(self, resource: Resource, namespace: str | None, body: Json, **_: Any) -> Json:
        await asyncio.sleep(0.01)
        if resource is not RUNS:
            self.events.append(body["message"])
            return body
        self.asked["create"] += 1
        if self.refuses:
            raise Refused("exceeded quota", status=403)
        name = body["metadata"]["name"]
        if name in self.runs:
            raise AlreadyExists(f"run {name} is there", status=409)
        metadata = {**body["metadata"], "uid": name, "resourceVersion": self.next_version()}
        self.runs[name] = {**body, "metadata": metadata}
        return self.runs[name]

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        self.asked["get"] += 1
        return self.runs[name]

    async def patch(self, resource: Resource, namespace: str | None, name: str, body: Json, **_: Any) -> Json:
        self.asked["patch"] += 1
        self.runs[name]["spec"] |= body["spec"]
        return self.runs[name]

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Json, **_: Any) -> Json:
        await asyncio.sleep(0.01)
        if self.silent:
            await asyncio.Event().wait()
        self.asked["status"] += 1
        self.workflow["status"] = body["status"]
        self.workflow["metadata"]["resourceVersion"] = self.next_version()
        return self.workflow

    @property
    def ticks(self) -> list[str]:
        return [run["metadata"]["annotations"]["hatchet-operator.dev/tick"][11:16] for run in self.runs.values()]

    @property
    def cron(self) -> Json:
        [cron] = self.workflow["status"]["crons"]
        return cast("Json", cron)


class Leader:
    """What an operator knows that begins to lead."""

    def __init__(self, server: Server) -> None:
        self.server = server
        events = EventRecorder(server)
        store = RunStore()
        feed = RunFeed()
        feed.react_with()
        observer = RunObserver(store, feed, clock=Clock())
        self.workflows = Workflows(
            server,
            events=events,
            clock=Clock(now=clock),
            on_change=lambda ref: self.crons.workflow_changed(ref),
            template_of=lambda pool: None,
            pool_exists=lambda pool: True,
            revisions_in_use=lambda ref: set(),
            is_offered=lambda pool, action: True,
        )
        metrics = Metrics()
        spawning = Spawning(
            server,
            store=store,
            observer=observer,
            reader=NOTHING,
            root_labels=NOTHING,
            runs=NOTHING,
            workflows=self.workflows,
            events=events,
            metrics=metrics,
            clock=Clock(now=clock),
            may_begin_light=False,
        )
        self.crons = Crons(
            server,
            store=store,
            workflows=self.workflows,
            spawning=spawning,
            events=events,
            metrics=metrics,
            clock=Clock(now=clock),
        )
        self.workflows.observe("ADDED", server.workflow)
        observer.loading = False
        for run in server.runs.values():
            observer.observe("ADDED", run)
        self.crons.start()

    def edit(self, **spec: Any) -> None:
        self.server.workflow["spec"] = spec
        self.server.workflow["metadata"]["resourceVersion"] = self.server.next_version()
        self.workflows.observe("MODIFIED", self.server.workflow)


def play(server: Server, scene: Callable[[], Coroutine[Any, Any, None]], **definition: Any) -> Server:
    server.register(**definition)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scene())
    return server


def for_minutes(server: Server, minutes: float, **definition: Any) -> Server:
    async def scene() -> None:
        leader = Leader(server)
        await asyncio.sleep(minutes * MINUTES)
        await leader.crons.stop()

    return play(server, scene, **definition)


def test_a_registered_cron_starts_a_run_at_each_tick() -> None:
    server = for_minutes(Server(), 60, crons=("*/15 * * * *",), cron_input='{"a":1}')
    assert server.ticks == ["15:15", "15:30", "15:45", "16:00"]
    run = next(iter(server.runs.values()))
    assert run["spec"] == {"workflow": "etl", "inputJson": '{"a":1}'}
    assert run["metadata"]["labels"]["hatchet-operator.dev/triggered-by"] == "cron"
    assert run["metadata"]["annotations"]["hatchet-operator.dev/schedule"] == "*/15 * * * * UTC"


def test_a_tick_costs_one_run_and_one_status_for_all_crons_of_a_workflow() -> None:
    spec = [{"schedule": "*/15 * * * *", "timeZone": zone} for zone in ("UTC", "Europe/Berlin", "Asia/Tokyo")]
    server = for_minutes(Server(crons=spec), 60)
    assert server.asked == {"create": 4 * 3, "status": 1 + 4}


def test_a_workflow_without_crons_costs_nothing() -> None:
    assert for_minutes(Server(), 600).asked == {}


def test_two_operators_start_a_tick_once() -> None:
    server = Server()

    async def scene() -> None:
        leaders = [Leader(server), Leader(server)]
        await asyncio.sleep(60 * MINUTES)
        for leader in leaders:
            await leader.crons.stop()

    play(server, scene, crons=("*/15 * * * *",))
    assert server.ticks == ["15:15", "15:30", "15:45", "16:00"]
    assert server.asked["create"] > len(server.ticks)  # or they were not two


@pytest.mark.parametrize("policy", ["Allow", "Forbid", "Replace"])
def test_a_crash_between_the_run_and_the_status_starts_nothing_twice(policy: str) -> None:
    server = Server(crons=[{"schedule": "*/15 * * * *", "concurrencyPolicy": policy}])

    async def scene() -> None:
        first = Leader(server)
        await asyncio.sleep(5 * MINUTES)
        server.silent = True
        await asyncio.sleep(1 * MINUTES)
        await first.crons.stop()
        server.silent = False
        assert (server.ticks, server.cron.get("lastTick")) == (["15:15"], None)
        second = Leader(server)
        await asyncio.sleep(1 * MINUTES)
        await second.crons.stop()

    play(server, scene)
    assert server.ticks == ["15:15"]
    assert (server.asked["create"], server.asked["get"]) == (2, 1), "that which is there is looked at"
    assert server.asked["patch"] == 0
    assert (server.cron["lastTick"][11:16], server.cron["nextTick"][11:16]) == ("15:15", "15:30")


@pytest.mark.parametrize(
    ("catch_up", "want"),
    [("Skip", ["15:10"]), ("Last", ["15:10", "17:10"])],
)
def test_after_two_hours_without_an_operator(catch_up: str, want: list[str]) -> None:
    server = Server(crons=[{"schedule": "*/10 * * * *", "catchUp": catch_up}])

    async def scene() -> None:
        for pause in (120 * MINUTES, 0):
            leader = Leader(server)
            await asyncio.sleep(5 * MINUTES)
            await leader.crons.stop()
            await asyncio.sleep(pause)

    play(server, scene)
    assert server.ticks == want


def test_a_run_that_goes_on_is_replaced() -> None:
    server = for_minutes(Server(crons=[{"schedule": "*/15 * * * *", "concurrencyPolicy": "Replace"}]), 30)
    assert [run["spec"].get("cancelled") for run in server.runs.values()] == [True, None]


def test_a_tick_is_skipped_while_a_run_goes_on() -> None:
    server = for_minutes(Server(crons=[{"schedule": "*/15 * * * *", "concurrencyPolicy": "Forbid"}]), 60)
    assert server.ticks == ["15:15"]
    assert "has not finished" in server.cron["message"]
    assert server.events


def test_what_is_resumed_goes_on_with_its_next_tick() -> None:
    server = Server()

    async def scene() -> None:
        leader = Leader(server)
        leader.edit(suspended=True)
        await asyncio.sleep(40 * MINUTES)
        assert not server.runs
        leader.edit()
        await asyncio.sleep(15 * MINUTES)
        await leader.crons.stop()

    play(server, scene, crons=("*/15 * * * *",))
    assert server.ticks == ["16:00"]


def test_a_cron_that_is_none_is_told_and_stops_no_other() -> None:
    server = for_minutes(Server(), 10, crons=("nonsense", "*/15 * * * *"))
    assert server.ticks == ["15:15"]
    assert [cron.get("nextTick", "")[11:16] for cron in server.workflow["status"]["crons"]] == ["", "15:30"]
    assert any('"nonsense" has 1 field;' in event for event in server.events)


@pytest.mark.parametrize("value", [[1], {"a": 1}, ""])
def test_a_deduplication_value_that_makes_no_sense_is_told_and_keeps_no_other_cron_waiting(value: object) -> None:
    crons = [
        {"schedule": "*/15 * * * *", "additionalMetadata": {"dedupe": value}},
        {"schedule": "*/20 * * * *"},
    ]
    server = for_minutes(Server(crons=crons), 30)
    assert server.ticks == ["15:20"]
    bad, _ = server.workflow["status"]["crons"]
    assert 'additionalMetadata of the cron: metadata entry "dedupe"' in bad["message"]
    assert bad["nextTick"][11:16] == "15:45"


def test_a_tick_that_the_api_server_refuses_is_told_and_the_next_one_tried() -> None:
    server = Server()

    async def scene() -> None:
        leader = Leader(server)
        server.refuses = True
        await asyncio.sleep(10 * MINUTES)
        assert "exceeded quota" in server.cron["message"]
        server.refuses = False
        await asyncio.sleep(15 * MINUTES)
        await leader.crons.stop()

    play(server, scene, crons=("*/15 * * * *",))
    assert server.ticks == ["15:30"]
    assert "message" not in server.cron


def test_a_workflow_that_is_deleted_has_no_ticks() -> None:
    server = Server()

    async def scene() -> None:
        leader = Leader(server)
        await asyncio.sleep(1)
        leader.workflows.forget(ObjectRef("default", "etl"))
        await asyncio.sleep(60 * MINUTES)
        await leader.crons.stop()

    play(server, scene, crons=("*/15 * * * *",))
    assert not server.runs
