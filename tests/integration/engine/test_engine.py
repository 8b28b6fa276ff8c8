"""The engine as a whole: its end, its memory, and a server that is no help."""

from __future__ import annotations

import asyncio

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.engine import Engine
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    connect,
    make_definition,
    make_run,
    next_attempt,
    on_status,
    requests_to,
    started,
    until,
)
from tests.kube.memory import alive


async def test_no_lock_is_kept_for_what_is_done(engine: Engine) -> None:
    before = alive(asyncio.Lock)
    for number in range(5):
        await engine.workflows.register(NAMESPACE, POOL, make_definition(f"etl-{number}"))
    await until(lambda: alive(asyncio.Lock) <= before)


async def test_the_end_does_not_wait_for_events_that_can_not_be_written(server: ApiServer, api: Api) -> None:
    match = {"verb": ["create"], "resource": ["events"]}
    server.faults.install([{"match": match, "action": "status", "code": 429, "retryAfter": 1, "times": 0}])
    async with started(server) as engine:
        run = await api.create(RUNS, NAMESPACE, make_run("run"))
        engine.events.warn(WorkflowRun.model_validate(run), "Trouble", "this is never written")
        await asyncio.sleep(0.1)
        async with asyncio.timeout(SECONDS):
            await engine.events.stop()


async def test_a_watch_that_is_always_closed_at_once_is_not_opened_all_the_time(server: ApiServer, api: Api) -> None:
    async with started(server):
        server.faults.install([{"match": {"verb": ["watch"]}, "action": "cut", "times": 0}])
        before = requests_to(server, "watch", "workflowruns")
        await until(lambda: requests_to(server, "watch", "workflowruns") >= before + 2)  # it is opened again
        await asyncio.sleep(1)  # what is tested is how much happens in this time
        assert requests_to(server, "watch", "workflowruns") - before < 12
        server.faults.clear()


async def test_a_server_that_says_to_come_back_at_once_is_given_time_all_the_same(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    on_status(server, action="status", code=429, retryAfter=0, times=0)
    reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED))
    await until(lambda: requests_to(server, "update", "workflowruns/status") >= 2)  # it is tried again
    await asyncio.sleep(1)  # what is tested is how much happens in this time
    assert requests_to(server, "update", "workflowruns/status") < 15
    server.faults.clear()
    async with asyncio.timeout(SECONDS):
        await reporting
