"""What is done to many runs at once is done in turns, between which the loop does other work.

Calls are counted and not time, so no noise touches it: in one turn there are fewer calls than runs, so nothing is done
for each of them in it. How long the pauses are is measured by ``python -m benchmarks.many_runs``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import hatchet_operator
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import RUNS, Resource
from hatchet_operator.engine.engine import Engine
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    NAMESPACE,
    POOL,
    connect,
    hold_up_writes,
    make_definition,
    make_run,
    running_loop,
    session_of,
    started,
    until,
)
from tests.kube.session import Call

MANY = 300
MOST_CALLS = 20
"""For each run that leaves the queue at once, so that it gets no slot which others give back at this moment."""
ETL, MAIN_POOL = ObjectRef(NAMESPACE, "etl"), ObjectRef(NAMESPACE, POOL)
SOURCES = str(Path(hatchet_operator.__file__).parent)

Act = Callable[[Engine], object]


SHORT = Pace(turn=0.0)
"""Each piece of work ends its turn when it first asks whether that is over."""


@pytest.fixture
async def engine(server: ApiServer) -> AsyncIterator[Engine]:
    async with started(server, pace=SHORT) as engine:
        yield engine


class Turns:
    """Counts the calls that functions of the operator make, from one turn of the loop to the next."""

    def __init__(self) -> None:
        self.most = 0
        self._calls = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        running_loop().before_each = self._begin_anew
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)
            running_loop().before_each = None

    def _begin_anew(self) -> None:
        self._calls = 0

    def _count(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(SOURCES):
            self._calls += 1
            self.most = max(self.most, self._calls)


def make_runs(*, below_one: bool, finished: bool) -> list[Json]:
    """Make runs as an API server has them: a root, and others below it or beside it."""
    made = [make_run("root"), *(make_run(f"run-{number}") for number in range(MANY))]
    for number, run in enumerate(made):
        run["metadata"] |= {"uid": run["metadata"]["name"], "generation": 1}
        if number and below_one:
            run["spec"]["parent"] = {"name": "root", "uid": "root", "step": "work", "index": number}
            owner = {"apiVersion": run["apiVersion"], "kind": run["kind"], "name": "root", "uid": "root"}
            run["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
        if finished:
            at = running_loop().now().isoformat()
            run["status"] = {"phase": "Succeeded", "reason": "Completed", "finishedAt": at}
    return made


def put(server: ApiServer, made: list[Json]) -> None:
    kind = next(kind for kind in server.kinds if kind.kind == RUNS.kind)
    for run in made:
        server.store.put(server.store.collection(kind.collection), run, None)


async def know(server: ApiServer, engine: Engine, *, below_one: bool = False, finished: bool = False) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    put(server, make_runs(below_one=below_one, finished=finished))
    await until(lambda: len(engine.store) == MANY + 1 and engine.runs.are_decided)


async def settle(engine: Engine) -> None:
    await asyncio.sleep(0)
    await until(lambda: engine.runs.are_decided)


def change_workflow(**spec: Any) -> Act:
    def change(engine: Engine) -> None:
        workflow = engine.workflows.get(ETL)
        assert workflow is not None
        body = workflow.model_dump(mode="json", by_alias=True, exclude_none=True)
        version = str(int(workflow.metadata.resource_version) + 1)
        newer = {**body, "metadata": {**body["metadata"], "resourceVersion": version}, "spec": spec}
        engine.workflows.observe("MODIFIED", newer)

    return change


def change_root(**spec: Any) -> Act:
    def change(engine: Engine) -> None:
        run = make_run("root", **spec)
        run["metadata"] |= {"uid": "root", "resourceVersion": "1000000"}
        engine.observer.observe("MODIFIED", run)

    return change


def end_the_hold(engine: Engine) -> None:
    """Have no run wait any more for what workers may still have."""
    for record in engine.store.unfinished():
        record.may_be_assigned = True
    engine.runs.hold.release({record: {} for record in engine.runs.hold.waiting()})


def delete_root(engine: Engine) -> None:
    engine.observer.observe("DELETED", {"metadata": {"name": "root", "namespace": NAMESPACE, "uid": "root"}})


@pytest.mark.parametrize(
    ("act", "bound"),
    [
        pytest.param(change_workflow(suspended=True), MANY, id="their workflow is suspended"),
        pytest.param(change_workflow(pool="other"), MANY, id="their workflow has another pool"),
        pytest.param(lambda engine: engine.workflows.forget(ETL), MANY, id="their workflow is deleted"),
        pytest.param(lambda engine: engine.runs.pool_changed(MAIN_POOL), MANY, id="their pool is in trouble"),
        pytest.param(end_the_hold, MANY * 4, id="workers have said what they have"),
        pytest.param(change_root(cancelled=True), MANY * MOST_CALLS, id="their parent is cancelled"),
        pytest.param(delete_root, MANY * MOST_CALLS, id="their parent is deleted"),
    ],
)
async def test_what_waits_is_decided_about_in_turns(server: ApiServer, engine: Engine, act: Act, bound: int) -> None:
    hold_up_writes(engine)
    await know(server, engine, below_one=True)
    assert len(engine.runs.attempts.queue.waiting_in(NAMESPACE, POOL)) == MANY + 1
    turns = Turns()
    with turns.counted():
        act(engine)
        await settle(engine)
    assert turns.most < bound


async def test_a_workers_end_is_told_to_what_waits_for_it_in_turns(server: ApiServer, engine: Engine) -> None:
    hold_up_writes(engine)
    worker, stream = await connect(engine, "etl", slots=1)
    await know(server, engine)
    turns = Turns()
    with turns.counted():
        engine.registry.left(worker, stream)
        await settle(engine)
    assert turns.most < MANY


@pytest.mark.parametrize(
    ("act", "bound"),
    [
        pytest.param(change_workflow(ttl="2h"), MANY, id="their workflow has another TTL"),
        pytest.param(delete_root, MANY * 4, id="their parent is deleted"),
    ],
)
async def test_what_has_finished_is_looked_at_in_turns(server: ApiServer, engine: Engine, act: Act, bound: int) -> None:
    await know(server, engine, below_one=bound > MANY, finished=True)
    turns = Turns()
    with turns.counted():
        act(engine)
        await settle(engine)
    assert turns.most < bound


async def test_what_expires_at_one_moment_is_deleted_in_turns(server: ApiServer, engine: Engine) -> None:
    deleted: set[str] = set()

    async def be_told(delete: Call, resource: Resource, namespace: str, name: str, **_: Any) -> None:
        deleted.add(name)

    session_of(engine).detours["delete"] = be_told
    await know(server, engine, finished=True)
    await asyncio.sleep(5)  # until the objects of those that have just finished are forgotten, 2000 at most
    turns = Turns()
    with turns.counted():
        change_workflow(ttl="1m")(engine)
        await until(lambda: len(deleted) == MANY + 1)
    assert turns.most < MANY


async def test_a_list_is_read_and_compared_in_turns(server: ApiServer, engine: Engine) -> None:
    await know(server, engine, finished=True)
    informer = engine.watches.runs
    assert isinstance(informer, Informer)
    relists = informer.relists
    turns = Turns()
    with turns.counted():
        server.faults.install([{"match": {"verb": ["watch"], "resource": [RUNS.plural]}, "action": "gone"}])
        await until(lambda: informer.relists > relists)
    assert turns.most < MANY


async def test_a_start_reads_in_turns(server: ApiServer) -> None:
    put(server, make_runs(below_one=False, finished=True))
    turns = Turns()
    with turns.counted():
        async with started(server, pace=SHORT) as engine:
            await settle(engine)
            assert len(engine.store) == MANY + 1
    assert turns.most < MANY
