"""Rate limits against the API server: what goes, what is written for it, what is told, and what a new leader knows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CONFIG_MAPS, RATE_LIMITS, RUNS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.dispatch.worker import Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.limits.ledger import LEDGER_NAME, PAGES, read_windows, write_windows
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.rate_limit import StepRateLimit
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    loop_time,
    make_definition,
    make_run,
    observed,
    requests_to,
    started,
    until,
    until_phase,
)
from tests.kube.eventually import eventually


async def connect_limited(engine: Engine, *limits: StepRateLimit, workflow: str = "etl") -> tuple[Worker, WorkerStream]:
    definition = make_definition(workflow).model_copy(update={"schedule_timeout": timedelta(seconds=4)})
    step = definition.steps[0].model_copy(update={"rate_limits": limits or None})
    await engine.workflows.register(NAMESPACE, POOL, definition.model_copy(update={"steps": (step,)}))
    request = RegistrationRequest(name="worker", actions=(f"{workflow}:work",), slots=100)
    worker = await engine.registry.register(MAIN, request)
    return engine.registry.listen(MAIN, worker.id, [])


def rate_limit(name: str, *, limit: int, window: str, **spec: Any) -> dict[str, Any]:
    body = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": name, "namespace": NAMESPACE}}
    return body | {"spec": {"limit": limit, "window": window, **spec}}


async def create_runs(engine: Engine, api: Api, *names: str, **spec: Any) -> None:
    for name in names:
        await api.create(RUNS, NAMESPACE, make_run(name, **spec))
        await observed(engine, name)


def out_of(worker: Worker) -> list[str]:
    return sorted(attempt.ref.name for attempt in worker.assigned.values())


async def complete_all(engine: Engine, worker: Worker) -> None:
    for attempt in list(worker.assigned.values()):
        await engine.report(MAIN, attempt.id, Outcome.COMPLETED, payload="{}")


async def told(api: Api, run: str, *words: str) -> dict[str, Any]:
    """Wait until a run's message says all of this."""
    found: dict[str, Any] = {}

    async def says() -> bool:
        found.update(await api.get(RUNS, NAMESPACE, run))
        message = found.get("status", {}).get("message") or ""
        return all(word in message for word in words)

    await eventually(says, within_seconds=15)
    status: dict[str, Any] = found["status"]
    return status


async def ledger_of(api: Api, engine: Engine) -> dict[str, int]:
    """Return what is reserved, by key."""
    pages, _ = await api.list_all(CONFIG_MAPS, engine.settings.operator_namespace)
    texts = [page["data"]["windows"] for page in pages if page["metadata"]["name"].startswith(LEDGER_NAME)]
    return {key: window.reserved for text in texts for (_, key), (_, window) in read_windows(text).items()}


HOURLY = StepRateLimit(key="api")


async def test_as_many_start_as_there_are_units_and_the_others_say_why_they_wait(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=2, window="1h"))
    async with started(server, waiting_told_after=timedelta(seconds=0.2)) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a", "b", "c")
        await until(lambda: out_of(worker) == ["a", "b"])
        status = await told(api, "c", 'rate limit "api" has 2 units per 1h, of which 2 are used', "they come back at")
        assert status["reason"] == "WaitingForRateLimit"
        assert status["conditions"][0]["type"] == "Ready"
        await complete_all(engine, worker)
        assert out_of(worker) == [], "an attempt that ended gives no units back"


async def test_who_needs_no_units_is_not_held_up_and_costs_no_write(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=0, window="1h"))
    async with started(server) as engine:
        limited, _ = await connect_limited(engine, HOURLY)
        free, _ = await connect_limited(engine, workflow="free")
        await create_runs(engine, api, "kept")
        before = requests_to(server, "update", "workflowruns/status")
        await create_runs(engine, api, "free", workflow="free")
        await until(lambda: out_of(free) == ["free"])
        assert out_of(limited) == []
        assert requests_to(server, "update", "workflowruns/status") == before
        assert requests_to(server, "create", "configmaps") == 0


async def test_a_short_window_comes_back_by_itself_and_writes_nothing(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=2, window="500ms"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        began = loop_time()
        await create_runs(engine, api, *"abcdef")
        await until(lambda: out_of(worker) == list("abcdef"))
        starts = sorted(attempt.started_at for attempt in worker.assigned.values() if attempt.started_at)
        assert (starts[2] - starts[0]).total_seconds() >= 0.45
        assert (starts[4] - starts[2]).total_seconds() >= 0.45
        assert loop_time() - began < 5
        assert await ledger_of(api, engine) == {}


async def test_units_of_a_long_window_are_written_before_they_go_and_many_with_one_write(
    server: ApiServer, api: Api
) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=160, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        names = [f"r{number:02}" for number in range(25)]
        await create_runs(engine, api, *names)
        await until(lambda: out_of(worker) == names)
        assert await ledger_of(api, engine) == {"api": 30}
        assert requests_to(server, "create", "configmaps") + requests_to(server, "update", "configmaps") == 3


async def test_a_new_leader_counts_what_was_reserved_as_used(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=32, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a")
        await until(lambda: out_of(worker) == ["a"])
        await complete_all(engine, worker)
        await until_phase(api, "a", "Succeeded")
        assert await ledger_of(api, engine) == {"api": 2}
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        names = [f"r{number:02}" for number in range(40)]
        await create_runs(engine, api, *names)
        await until(lambda: len(out_of(worker)) == 30)  # one of the two that were reserved nobody had
        await engine.ledger.close()
    async with started(server) as engine:
        bucket = engine.buckets.get((NAMESPACE, "api"))
        assert bucket is not None
        assert bucket.used(engine.buckets.now()) == 32


async def test_an_orderly_end_hands_over_what_was_not_used(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=32, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a")
        await until(lambda: out_of(worker) == ["a"])
        await engine.ledger.close()
        assert await ledger_of(api, engine) == {"api": 1}


async def test_keys_units_and_limits_are_made_of_input_metadata_and_outputs(server: ApiServer, api: Api) -> None:
    limit = StepRateLimit(
        key_expression="input.user", units_expression="input.units", limit_expression="3", window=timedelta(hours=1)
    )
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, limit)
        for name, user, units in (("a1", "ada", 2), ("a2", "ada", 2), ("b1", "bob", 3), ("a3", "ada", 1)):
            await create_runs(engine, api, name, input={"user": user, "units": units})
        await until(lambda: out_of(worker) == ["a1", "a3", "b1"])
        assert (await ledger_of(api, engine)).keys() == {"ada", "bob"}


async def test_an_expression_that_makes_no_units_fails_the_step_in_words(server: ApiServer, api: Api) -> None:
    limit = StepRateLimit(key="api", units_expression="input.units")
    async with started(server) as engine:
        await connect_limited(engine, limit)
        for name, units, words in (
            ("fraction", 1.5, "yields 1.5 from this run's input; expected a whole number from 0"),
            ("negative", -1, "yields -1 from this run's input"),
            ("text", "many", "yields 'many' from this run's input"),
        ):
            await create_runs(engine, api, name, input={"units": units})
            status = await told(api, name, 'step "work"', words)
            assert (status["phase"], status["reason"]) == ("Failed", "InvalidRateLimit")
        await create_runs(engine, api, "none", input={})
        await told(api, "none", "can't be evaluated for this run", "units")


async def test_a_limit_that_nobody_made_is_said_and_waited_for_until_the_schedule_timeout(
    server: ApiServer, api: Api
) -> None:
    async with started(server, waiting_told_after=timedelta(seconds=0.2)) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a", "b")
        await told(api, "a", 'there is no RateLimit "api"', "it gives up at")
        await engine.rate_limits.put(NAMESPACE, "api", units=1, window=timedelta(hours=1))
        await until(lambda: out_of(worker) == ["a"])
        await api.patch(RATE_LIMITS, NAMESPACE, "api", {"spec": {"limit": 0}})
        status = await told(api, "b", 'it needs 1 unit of rate limit "api", which has only 0 units per 1h')
        await until_phase(api, "b", "Failed")
        status = (await api.get(RUNS, NAMESPACE, "b"))["status"]
        assert status["reason"] == "SchedulingTimedOut"
        assert 'it needs 1 unit of rate limit "api"' in status["message"]


async def test_what_programs_set_is_an_object_and_a_second_one_of_a_key_does_not_count(
    server: ApiServer, api: Api
) -> None:
    async with started(server) as engine:
        await engine.rate_limits.put(NAMESPACE, "api", units=5, window=timedelta(minutes=1))
        await engine.rate_limits.put(NAMESPACE, "Calls of api.example.com", units=7, window=timedelta(days=1))
        made, _ = await api.list_all(RATE_LIMITS, NAMESPACE)
        assert {(each["spec"].get("key", each["metadata"]["name"]), each["spec"]["limit"]) for each in made} == {
            ("api", 5),
            ("Calls of api.example.com", 7),
        }
        before = requests_to(server, "patch", "ratelimits")
        await engine.rate_limits.put(NAMESPACE, "api", units=5, window=timedelta(minutes=1))
        assert requests_to(server, "patch", "ratelimits") == before
        await api.create(RATE_LIMITS, NAMESPACE, rate_limit("second", limit=9, window="1s", key="api"))

        async def is_stalled() -> bool:
            conditions = (await api.get(RATE_LIMITS, NAMESPACE, "second"))["status"]["conditions"]
            return any(each["type"] == "Stalled" and "older RateLimit" in each["message"] for each in conditions)

        await eventually(is_stalled)
        bucket = engine.buckets.get((NAMESPACE, "api"))
        assert bucket is not None
        assert bucket.limit is not None
        assert bucket.limit.units == 5


async def test_the_status_shows_what_is_used_with_few_writes(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=50, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)

        async def is_ready() -> bool:
            return bool((await api.get(RATE_LIMITS, NAMESPACE, "api"))["status"]["conditions"][0]["status"] == "True")

        await eventually(is_ready)
        await asyncio.sleep(10)  # since the status was written
        await create_runs(engine, api, *(f"r{number}" for number in range(30)))
        await until(lambda: len(out_of(worker)) == 30)

        async def shows() -> bool:
            return bool((await api.get(RATE_LIMITS, NAMESPACE, "api"))["status"].get("used"))

        await eventually(shows)
        assert requests_to(server, "update", "ratelimits/status") <= 3, "one of them says that it is there"


async def test_an_object_that_goes_leaves_the_limit_that_runs_say(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=0, window="1h"))
    limit = StepRateLimit(key="api", limit_expression="1", window=timedelta(hours=1))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, limit)
        await create_runs(engine, api, "a")
        assert out_of(worker) == [], "the object counts"
        await api.delete(RATE_LIMITS, NAMESPACE, "api")
        await until(lambda: out_of(worker) == ["a"])


async def test_a_reservation_whose_answer_is_lost_goes_once(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=2, window="1h"))
    lost = {"match": {"verb": "create", "resource": "configmaps"}, "action": "commit-then-drop"}
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        server.faults.install([lost])
        await create_runs(engine, api, "a", "b", "c")
        await until(lambda: len(out_of(worker)) == 2)
        assert await ledger_of(api, engine) == {"api": 2}


async def test_what_another_leader_wrote_meanwhile_counts(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=32, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a")
        await until(lambda: out_of(worker) == ["a"])
        await another_leader_reserves(api, engine, 20)
        await create_runs(engine, api, *(f"r{number:02}" for number in range(40)))
        await until(lambda: len(out_of(worker)) == 14)  # two of our own, and those that the other had not reserved
        status = await told(api, "r13", 'rate limit "api" has 32 units per 1h, of which 32 are used')
        assert status["reason"] == "WaitingForRateLimit"


async def another_leader_reserves(api: Api, engine: Engine, units: int) -> None:
    """Have the limit's window written as if another had reserved that many of its units in all."""
    pages, _ = await api.list_all(CONFIG_MAPS, engine.settings.operator_namespace)
    (page,) = (page for page in pages if page["data"]["windows"] != "{}")
    ends_at, window = read_windows(page["data"]["windows"])[NAMESPACE, "api"]
    text = write_windows({(NAMESPACE, "api"): (ends_at, replace(window, reserved=units))})
    name, namespace = page["metadata"]["name"], page["metadata"]["namespace"]
    await api.patch(CONFIG_MAPS, namespace, name, {"data": {"windows": text}})


async def test_who_finds_that_another_leader_has_taken_all_of_it_waits_for_the_next_window(
    server: ApiServer, api: Api
) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=32, window="1h"))
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a", "b")
        await until(lambda: out_of(worker) == ["a", "b"])
        await another_leader_reserves(api, engine, 32)
        await create_runs(engine, api, "late")
        await told(api, "late", "of which 32 are used")
        bucket = engine.buckets.get((NAMESPACE, "api"))
        assert bucket is not None
        await until(lambda: bucket.timer is not None)


async def test_while_nothing_can_be_written_nothing_goes_and_the_run_says_why(server: ApiServer, api: Api) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=2, window="1h"))
    refused = {"match": {"resource": "configmaps", "verb": "create"}, "action": "status", "code": 403}
    async with started(server, waiting_told_after=timedelta(seconds=0.2)) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        server.faults.install([refused])
        await create_runs(engine, api, "a")
        await until(lambda: not server.faults.missed())
        assert out_of(worker) == []
        bucket = engine.buckets.get((NAMESPACE, "api"))
        assert bucket is not None
        await until(lambda: bucket.trouble is not None)
        await until(lambda: out_of(worker) == ["a"])  # which is tried again
        assert bucket.trouble is None


def test_keys_are_spread_over_pages() -> None:
    assert PAGES == 8, "as many as the chart names in its rights"
