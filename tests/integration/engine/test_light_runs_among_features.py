"""Light children that meet what else runs can have: rate limits, sticky workflows, a replayed parent, shards."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RATE_LIMITS, RUNS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.shards import shard_of
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.reasons import Stickiness
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.test_light_runs import (
    LIGHT,
    NEVER,
    begin,
    light_trigger,
    read,
    server,
    until_phase_once_there,
)
from tests.integration.engine.test_rate_limits import HOURLY, connect_limited, ledger_of, out_of, rate_limit, told
from tests.integration.engine.test_sticky import connect as connect_named
from tests.integration.engine.test_sticky import register
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    connect,
    make_run,
    next_attempt,
    observed,
    requests_to,
    started,
    until,
    until_phase,
)

__all__ = ["server"]  # an API server whose CRDs have the version that light children are recorded in


async def is_recorded(api: Api, name: str) -> bool:
    try:
        await api.get(RUNS, NAMESPACE, name)
    except NotFound:
        return False
    return True


def attempt_of(worker: Worker, run: str) -> str:
    (attempt,) = (each for each in worker.assigned.values() if each.ref.name == run)
    return attempt.id


async def test_a_light_child_that_waits_for_units_is_recorded_and_says_so_and_the_first_is_one_write(
    server: ApiServer, api: Api
) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=1, window="1h"))
    settings: dict[str, Any] = {"running_after": NEVER, "children_every": NEVER}
    async with started(server, waiting_told_after=timedelta(seconds=0.2), **settings, **LIGHT) as engine:
        parent, _ = await begin(engine, api)
        worker, _ = await connect_limited(engine, HOURLY, workflow="limited")
        first = await engine.spawning.trigger(light_trigger(parent, "parent", workflow="limited", key="a"))
        await until(lambda: out_of(worker) == [first])
        waits = await engine.spawning.trigger(light_trigger(parent, "parent", workflow="limited", key="b"))
        await until_phase_once_there(api, waits, "Pending")
        status = await told(api, waits, 'rate limit "api" has 1 unit per 1h', "they come back at")
        assert status["reason"] == "WaitingForRateLimit"
        assert not await is_recorded(api, first)
        await engine.report(MAIN, attempt_of(worker, first), Outcome.COMPLETED, payload="{}")
        assert (await read(api, first)).status.phase == "Succeeded"
        assert await ledger_of(api, engine) == {"api": 1}
        assert out_of(worker) == []
    assert requests_to(server, "create", "workflowruns") == 2


async def test_units_that_an_unrecorded_light_child_used_stay_used_when_it_is_spawned_again(
    server: ApiServer, api: Api
) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=2, window="1h"))
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, _ = await begin(engine, api)
        await spawn_limited(engine, api, parent)
        assert await ledger_of(api, engine) == {"api": 1}
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        await observed(engine, "parent")
        await spawn_limited(engine, api, parent)
        assert await ledger_of(api, engine) == {"api": 2}


async def spawn_limited(engine: Engine, api: Api, parent: str) -> None:
    """Have a light child of a limited workflow start, for a worker of its own."""
    worker, _ = await connect_limited(engine, HOURLY, workflow="limited")
    child = await engine.spawning.trigger(light_trigger(parent, "parent", workflow="limited"))
    await until(lambda: out_of(worker) == [child])
    assert not await is_recorded(api, child)


async def test_a_light_child_of_a_sticky_workflow_goes_to_its_parents_worker_and_its_record_says_which(
    server: ApiServer, api: Api
) -> None:
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        await register(engine, "etl", None)
        await register(engine, "child", Stickiness.HARD)
        first, stream = await connect_named(engine, "first", "etl:work", "child:work")
        await api.create(RUNS, NAMESPACE, make_run("parent"))
        parent = await next_attempt(stream)
        other, _ = await connect_named(engine, "other", "child:work", slots=9)
        trigger = replace(light_trigger(parent, "parent", workflow="child"), worker_id=first.id)
        child = await engine.spawning.trigger(trigger)
        await until(lambda: child in out_of(first))
        assert out_of(other) == []
        assert not await is_recorded(api, child)
        await engine.report(MAIN, attempt_of(first, child), Outcome.COMPLETED, payload="{}")
        run = await read(api, child)
        assert run.status.phase == "Succeeded"
        assert run.spec.sticky_worker is not None
        assert (run.spec.sticky_worker.id, run.spec.sticky_worker.name) == (first.id, "first")


@pytest.mark.parametrize("fails", [False, True], ids=["one that succeeded", "one that failed"])
async def test_a_replayed_parent_finds_its_light_children_as_it_finds_full_ones(
    server: ApiServer, api: Api, fails: bool
) -> None:
    """What becomes of a child is the same whether it was recorded at once or at its end."""
    seen: dict[bool, tuple[bool, int, str]] = {}
    for light in (False, True):
        name = "light" if light else "full"
        async with started(server, running_after=NEVER, light_runs=light) as engine:
            parent, stream = await begin(engine, api, name)
            child = await engine.spawning.trigger(light_trigger(parent, name))
            assert await is_recorded(api, child) is not light
            ends = Outcome.FAILED if fails else Outcome.COMPLETED
            await engine.report(MAIN, await next_attempt(stream), ends, payload="{}")
            await engine.report(MAIN, parent, Outcome.FAILED, payload="no")
            await until_phase(api, name, "Failed")
            await api.patch(RUNS, NAMESPACE, name, {"spec": {"reruns": 1}})
            again = await next_attempt(stream)
            same = await engine.spawning.trigger(light_trigger(again, name, retry_failed=True))
            if fails:
                await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
            await until_phase(api, child, "Succeeded")
            run = await read(api, child)
            seen[light] = (same == child, run.status.reruns, run.status.phase)
            await engine.report(MAIN, again, Outcome.COMPLETED, payload="{}")
            await until_phase(api, name, "Succeeded")
    assert seen[True] == seen[False] == (True, int(fails), "Succeeded")


async def test_a_light_child_belongs_to_the_shard_of_its_parent(server: ApiServer, api: Api) -> None:
    ours = shard_of(NAMESPACE, 2)
    settings: dict[str, Any] = {"running_after": NEVER, "shards": 2, **LIGHT}
    async with started(server, shard=ours, **settings) as engine, started(server, shard=1 - ours, **settings) as other:
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("parent"))
        parent = await next_attempt(stream)
        child = await engine.spawning.trigger(light_trigger(parent, "parent"))
        await until(lambda: child in out_of(worker))
        assert not await is_recorded(api, child)
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
        assert (await read(api, child)).status.phase == "Succeeded"
        assert len(engine.store) == 2
        await other.resync()
        assert len(other.store) == 0
    assert requests_to(server, "create", "workflowruns") == 1


async def test_an_operator_that_stops_in_good_order_records_none_and_loses_none_that_was_recorded(
    server: ApiServer, api: Api
) -> None:
    """It could not when it is killed, so the parent's client spawns again in both cases."""
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        parent, stream = await begin(engine, api)
        done, runs = [await engine.spawning.trigger(light_trigger(parent, "parent", key=key)) for key in "ab"]
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload='{"a": 1}')
        await next_attempt(stream)
    assert await is_recorded(api, done)
    assert not await is_recorded(api, runs)
    async with started(server, running_after=NEVER, **LIGHT) as engine:
        _, stream = await connect(engine, "etl")
        await observed(engine, done)
        assert await engine.spawning.trigger(light_trigger(parent, "parent", key="a")) == done
        assert await engine.spawning.trigger(light_trigger(parent, "parent", key="b")) == runs
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
        assert (await read(api, runs)).status.phase == "Succeeded"
