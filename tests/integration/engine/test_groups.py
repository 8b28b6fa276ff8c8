"""Concurrency groups against the API server: what is written, told to workers, and kept through a restart."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.decisions.observed import ObservedRun, Outcome, RunPlan
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.engine.dispatch.worker import CancelCommand, StartCommand, Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import ClaimedAttempt, RegistrationRequest
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import LimitStrategy
from hatchet_operator.resources.workflow import ConcurrencyLimit
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    make_definition,
    make_run,
    next_attempt,
    observed,
    requests_to,
    started,
    until,
    until_phase,
)
from tests.kube.eventually import eventually


async def connect_limited(
    engine: Engine, strategy: LimitStrategy, expression: str = "input.user"
) -> tuple[Worker, WorkerStream]:
    limit = ConcurrencyLimit(expression=expression, strategy=strategy)
    definition = make_definition("etl").model_copy(update={"concurrency": (limit,)})
    await engine.workflows.register(NAMESPACE, POOL, definition)
    request = RegistrationRequest(name="worker", actions=("etl:work",), slots=10)
    worker = await engine.registry.register(MAIN, request)
    return engine.registry.listen(MAIN, worker.id, [])


def run_of(name: str, user: str = "ada") -> dict[str, Any]:
    return make_run(name, input={"user": user})


def out_of(worker: Worker) -> list[str]:
    return [attempt.ref.name for attempt in worker.assigned.values()]


async def next_command(stream: WorkerStream) -> StartCommand | CancelCommand:
    async with asyncio.timeout(SECONDS):
        (command,) = await anext(stream.commands())
    return command


async def test_runs_of_a_group_go_one_after_the_other_without_a_write_more(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        for name, user in (("a1", "ada"), ("a2", "ada"), ("b1", "bob")):
            await api.create(RUNS, NAMESPACE, run_of(name, user))
            await observed(engine, name)
        before = requests_to(server, "update", "workflowruns/status")
        for first, others in (("a1", ["b1"]), ("a2", ["b1"])):
            await until(lambda: first in out_of(worker))  # noqa: B023  # awaited within the loop
            assert [name for name in out_of(worker) if name != first] == others
            done = next(attempt for attempt in worker.assigned.values() if attempt.ref.name == first)
            await engine.report(MAIN, done.id, Outcome.COMPLETED, payload="{}")
        await until_phase(api, "a2", "Succeeded")
        assert requests_to(server, "update", "workflowruns/status") == before + 2
        assert (await api.get(RUNS, NAMESPACE, "a2"))["status"]["concurrencyGroups"] == ["ada"]


async def test_who_is_replaced_is_final_before_its_successor_starts(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        worker, stream = await connect_limited(engine, LimitStrategy.CANCEL_IN_PROGRESS)
        await api.create(RUNS, NAMESPACE, run_of("old"))
        await next_attempt(stream)
        await api.create(RUNS, NAMESPACE, run_of("new"))
        told = [await next_command(stream), await next_command(stream)]
        assert [type(command) for command in told] == [CancelCommand, StartCommand]
        old = await api.get(RUNS, NAMESPACE, "old")
        assert (old["status"]["phase"], old["status"]["reason"]) == ("Cancelled", "ConcurrencyLimit")
        assert out_of(worker) == ["new"]


async def test_a_limit_holds_through_a_restart(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        worker, stream = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await api.create(RUNS, NAMESPACE, run_of("z-first"))
        attempt = await next_attempt(stream)
        await api.create(RUNS, NAMESPACE, run_of("a-second"))
        await observed(engine, "a-second")
    async with started(server) as engine:
        held = ClaimedAttempt(
            run="z-first", attempt_id=attempt, step="work", started_at=worker.registration.registered_at
        )
        again, stream = engine.registry.listen(MAIN, worker.id, [held])
        await until(lambda: not engine.runs.has_runs_on_hold)
        assert out_of(again) == ["z-first"]
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        await until(lambda: out_of(again) == ["a-second"])


async def test_a_run_whose_input_names_no_group_fails_in_words(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await api.create(RUNS, NAMESPACE, make_run("run", input={}))
        await until_phase(api, "run", "Failed")
        message = (await api.get(RUNS, NAMESPACE, "run"))["status"]["message"]
        assert "'input.user' can't be evaluated for this run: there is no 'user'" in message


@pytest.mark.parametrize("expression", ["user", "input.", "input.l.all(x, true)"])
async def test_an_expression_that_makes_no_sense_is_refused_at_registration(engine: Engine, expression: str) -> None:
    with pytest.raises(InvalidRequest, match="concurrency expression"):
        await connect_limited(engine, LimitStrategy.QUEUE_NEWEST, expression)


async def test_a_persons_limits_replace_those_of_the_code_and_a_bad_one_is_told_on_the_workflow(
    engine: Engine, api: Api
) -> None:
    await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
    await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"concurrency": [{"expression": "nonsense"}]}})
    engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "etl"))
    await engine.workflows.reconcile(ObjectRef(NAMESPACE, "etl"))
    status = (await api.get(WORKFLOWS, NAMESPACE, "etl"))["status"]
    valid = next(each for each in status["conditions"] if each["type"] == "Valid")
    assert valid["status"] == "False"
    assert "spec.concurrency: concurrency expression 'nonsense' names nonsense" in valid["message"]


async def test_runs_of_a_workflow_at_a_time_beside_what_its_code_says(server: ApiServer, api: Api) -> None:
    async with started(server, waiting_told_after=timedelta(seconds=0.1)) as engine:
        worker, _ = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)

        async def limit(runs: int) -> None:
            await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"maxParallel": runs}})
            engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "etl"))
            await engine.workflows.reconcile(ObjectRef(NAMESPACE, "etl"))

        await limit(2)
        for name in ("ada", "ada2", "bob", "cy"):
            await api.create(RUNS, NAMESPACE, run_of(name, name.rstrip("2")))
            await observed(engine, name)
        await until(lambda: out_of(worker) == ["ada", "bob"])
        await until_phase(api, "cy", "Pending")

        for runs, words in ((2, "2 runs"), (1, "1 run"), (2, "2 runs")):
            await limit(runs)

            async def is_told(words: str = words) -> bool:
                message = (await api.get(RUNS, NAMESPACE, "cy"))["status"].get("message", "")
                return f"{words} of its workflow may go on at a time (spec.maxParallel" in message

            await eventually(is_told, within_seconds=SECONDS)
        status = (await api.get(RUNS, NAMESPACE, "cy"))["status"]
        assert (status["reason"], status["concurrencyGroups"]) == ("ConcurrencyLimit", ["maxParallel", "cy"])
        (attempt, _) = worker.assigned
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        await until(lambda: out_of(worker) == ["bob", "ada2"])


async def test_max_parallel_holds_through_a_restart(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"maxParallel": 1}})
        engine.workflows.observe("MODIFIED", await api.get(WORKFLOWS, NAMESPACE, "etl"))
        worker = await engine.registry.register(MAIN, RegistrationRequest(name="w", actions=("etl:work",), slots=10))
        _, stream = engine.registry.listen(MAIN, worker.id, [])
        await api.create(RUNS, NAMESPACE, make_run("z-first"))
        attempt = await next_attempt(stream)
        await api.create(RUNS, NAMESPACE, make_run("a-second"))
        await observed(engine, "a-second")
    async with started(server) as engine:
        held = ClaimedAttempt(
            run="z-first", attempt_id=attempt, step="work", started_at=worker.registration.registered_at
        )
        again, _ = engine.registry.listen(MAIN, worker.id, [held])
        await until(lambda: not engine.runs.has_runs_on_hold)
        assert out_of(again) == ["z-first"]
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        await until(lambda: out_of(again) == ["a-second"])


async def test_a_run_of_a_workflow_without_limits_costs_no_write_more(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        worker = await engine.registry.register(MAIN, RegistrationRequest(name="w", actions=("etl:work",), slots=10))
        _, stream = engine.registry.listen(MAIN, worker.id, [])
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        await until_phase(api, "run", "Succeeded")
        assert requests_to(server, "update", "workflowruns/status") == 1


async def shown(api: Api) -> dict[str, Any]:
    status = (await api.get(WORKFLOWS, NAMESPACE, "etl"))["status"]
    return {key: status[key] for key in ("concurrencyGroups", "groups", "waiting") if key in status}


async def until_shown(api: Api, want: dict[str, Any]) -> None:
    async def holds() -> bool:
        return await shown(api) == want

    await eventually(holds, within_seconds=SECONDS)


def ada_of(active: list[str], waiting: list[str]) -> dict[str, Any]:
    group: dict[str, Any] = {"expression": "input.user", "key": "ada"}
    for name, runs in (("active", active), ("waiting", waiting)):
        group |= {name: len(runs), f"{name}Runs": runs}
    return group


async def test_a_workflow_shows_who_goes_on_and_who_waits(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        _, stream = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await api.create(RUNS, NAMESPACE, run_of("a1"))
        first = await next_attempt(stream)
        await api.create(RUNS, NAMESPACE, run_of("a2"))
        await api.create(RUNS, NAMESPACE, run_of("a3"))
        await until_shown(api, {"concurrencyGroups": [ada_of(["a1"], ["a2", "a3"])], "groups": 1, "waiting": 2})
        await engine.report(MAIN, first, Outcome.COMPLETED, payload="{}")
        await until_shown(api, {"concurrencyGroups": [ada_of(["a2"], ["a3"])], "groups": 1, "waiting": 1})


async def test_what_a_workflow_shows_is_written_once_in_ten_seconds(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        worker, _ = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await until(lambda: not engine.runs.has_runs_on_hold)
        before = requests_to(server, "update", "workflows/status")
        begun = asyncio.get_running_loop().time()
        for number in range(30):
            await api.create(RUNS, NAMESPACE, run_of(f"run-{number:02}"))
        for _ in range(25):  # one run a second ends, and another goes on
            await until(lambda: bool(worker.assigned))
            (attempt,) = worker.assigned
            await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
            await asyncio.sleep(1)
        passed = asyncio.get_running_loop().time() - begun
        written = requests_to(server, "update", "workflows/status") - before
        assert 2 <= written <= passed / 10 + 1


async def test_runs_that_are_over_within_seconds_leave_no_trace_on_their_workflow(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        worker, stream = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await asyncio.sleep(5)  # of virtual time: until it is written who offers the workflow
        before = requests_to(server, "update", "workflows/status")
        await api.create(RUNS, NAMESPACE, run_of("a1"))
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload="{}")
        await until_phase(api, "a1", "Succeeded")
        await asyncio.sleep(15)
        assert requests_to(server, "update", "workflows/status") == before
        assert not worker.assigned


async def test_what_a_workflow_shows_of_runs_that_went_while_no_operator_was_there_is_removed(
    server: ApiServer, api: Api
) -> None:
    async with started(server) as engine:
        _, stream = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await api.create(RUNS, NAMESPACE, run_of("a1"))
        await next_attempt(stream)
        await until_shown(api, {"concurrencyGroups": [ada_of(["a1"], [])], "groups": 1})
    await api.delete(RUNS, NAMESPACE, "a1")
    async with started(server):
        await until_shown(api, {})


async def test_what_a_workflow_shows_has_none_of_its_runs_decided_about_again(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(server) as engine:
        _, stream = await connect_limited(engine, LimitStrategy.QUEUE_NEWEST)
        await api.create(RUNS, NAMESPACE, run_of("a1"))
        await next_attempt(stream)
        await until_shown(api, {"concurrencyGroups": [ada_of(["a1"], [])], "groups": 1})
        await api.create(RUNS, NAMESPACE, run_of("a2"))
        await observed(engine, "a2")
        await until(lambda: engine.runs.are_at_rest)
        decided: list[str] = []

        def decide(seen: ObservedRun, now: datetime) -> RunPlan:
            decided.append(seen.run.metadata.name)
            return plan_run(seen, now)

        monkeypatch.setattr("hatchet_operator.engine.runs.reconciler.plan_run", decide)
        await until_shown(api, {"concurrencyGroups": [ada_of(["a1"], ["a2"])], "groups": 1, "waiting": 1})
        assert "a1" not in decided, "nothing has changed for it"
