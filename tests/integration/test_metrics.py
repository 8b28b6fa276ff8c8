"""What Prometheus reads: numbers of what happened; and a real Prometheus answers the dashboard's questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hatchet_operator.cluster.kinds import POOLS, RATE_LIMITS
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_sdk import Context, Hatchet, RateLimit
from tests.integration.harness import free_port
from tests.integration.inprocess import NAMESPACE, POOL, Instance, running_operator
from tests.kube.eventually import eventually
from tests.kube.helm import CHART
from tests.kube.prometheus import find_program, running_prometheus

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(metrics_port=0, running_after=0.2) as instance:
        pod = {"containers": [{"name": "worker", "image": "nowhere:1"}]}
        body: Json = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": POOL}}
        await instance.api.create(POOLS, NAMESPACE, body | {"spec": {"minReplicas": 0, "template": {"spec": pod}}})
        yield instance


async def scraped(world: Instance) -> Samples:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{world.operator.probes_port}/metrics") as answer,
    ):
        families = text_string_to_metric_families(await answer.text())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    wanted = labels.items()
    return sum(
        value for (found, has), value in samples.items() if found == f"hatchet_operator_{name}" and wanted <= has
    )


async def test_numbers_are_those_of_what_happened(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl", [{"retries": 1}])
    await worker.start(slots=1)
    for name in ("a", "b", "c"):
        await world.create_run(name, "etl")
    await world.create_run("stray", "nobody-has-it")
    first = await worker.next()

    async def all_wait() -> bool:
        return of(await scraped(world), "pool_queued", pool=POOL) == 2

    await eventually(all_wait)
    samples = await scraped(world)
    assert of(samples, "pool_running", namespace=NAMESPACE, pool=POOL) == 1
    assert of(samples, "pool_slots", pool=POOL) == 1
    assert of(samples, "pool_workers", pool=POOL) == 1
    assert of(samples, "pool_oldest_seconds", pool=POOL) > 0
    assert of(samples, "runs_unfinished", workflow="etl") == 3
    assert of(samples, "runs_created_total", workflow="etl") == 3
    assert of(samples, "runs_created_total", workflow="other") == 1, "a name that anybody may make up is no label"
    assert not any(("workflow", "nobody-has-it") in labels for _, labels in samples)

    await worker.fail(first, "no")
    for _ in range(3):
        await worker.complete(await worker.next())
    for name in ("a", "b", "c"):
        await world.finished(name)
    samples = await scraped(world)
    assert of(samples, "runs_finished_total", workflow="etl", phase="Succeeded", namespace=NAMESPACE) == 3
    assert of(samples, "step_duration_seconds_count", workflow="etl") == 3
    assert of(samples, "step_retries_total", workflow="etl") == 1
    assert of(samples, "runs_unfinished", workflow="etl") == 0
    assert of(samples, "pool_queued", pool=POOL) == 0
    assert of(samples, "api_requests_total", method="PUT", resource="workflowruns/status", code="200") >= 3
    assert of(samples, "api_request_duration_seconds_count", method="PUT") >= 3
    assert of(samples, "watch_age_seconds", kind="runs") < 60
    assert of(samples, "terms_total") == 1
    assert of(samples, "is_leader") == 1


async def test_each_rate_limit_says_how_much_of_it_is_used_and_who_waits(world: Instance) -> None:
    body: Json = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "calls"}}
    await world.api.create(RATE_LIMITS, NAMESPACE, body | {"spec": {"limit": 3, "window": "1h"}})
    hatchet = Hatchet(config=world.config())

    @hatchet.workflow(name="Call")
    class Call:
        @hatchet.step(rate_limits=[RateLimit("calls", units=2)])
        async def call(self, context: Context) -> None: ...

    @hatchet.workflow(name="Mail")
    class Mail:
        @hatchet.step(rate_limits=[RateLimit(dynamic_key="input.user", units=1, limit="1")])
        async def mail(self, context: Context) -> None: ...

    await world.work(Call(), Mail())
    for name in ("a", "b", "c"):
        await world.create_run(name, "call")
    await world.create_run("d", "mail", {"user": "a-customer"})
    await world.create_run("e", "mail", {})
    assert [(await world.finished(name))["phase"] for name in "de"] == ["Succeeded", "Failed"]

    async def two_wait() -> bool:
        return of(await scraped(world), "rate_limit_waiting", namespace=NAMESPACE, rate_limit="calls") == 2

    await eventually(two_wait)
    samples = await scraped(world)
    assert of(samples, "rate_limit_units", rate_limit="calls") == 3
    assert of(samples, "rate_limit_used", rate_limit="calls") == 2
    assert of(samples, "rate_limit_units_taken_total", rate_limit="calls") == 2
    assert of(samples, "rate_limit_wait_seconds_count") == 2
    assert of(samples, "rate_limits_refused_total") == 1
    limits = {labels for name, labels in samples if name == "hatchet_operator_rate_limit_used"}
    assert limits == {frozenset({("namespace", NAMESPACE), ("rate_limit", "calls")})}, "none of a customer's name"


async def test_a_real_prometheus_answers_every_question_of_the_dashboard(world: Instance, tmp_path: Path) -> None:
    find_program("prometheus")
    rules = CHART / "files" / "alerts.yaml"
    worker = await world.scripted()
    await worker.put_workflow("etl", [{"retries": 1}])
    await worker.start()
    target = f"127.0.0.1:{world.operator.probes_port}"
    with running_prometheus(tmp_path, port=free_port(), target=target, rules=rules) as prometheus:

        async def scrapes() -> bool:
            return await asyncio.to_thread(prometheus.is_ready) and bool(
                await asyncio.to_thread(prometheus.value, "hatchet_operator_is_leader")
            )

        await eventually(scrapes)
        refused = {"match": {"verb": "update", "resource": "workflowruns"}, "action": "status", "code": 500, "times": 2}
        world.server.faults.install([refused])
        for number in range(5):
            await world.create_run(f"r{number}", "etl")
        for number in range(5):
            attempt = await worker.next()
            await (worker.fail(attempt, "no", should_not_retry=True) if number == 0 else worker.complete(attempt))
        for number in range(5):
            await world.finished(f"r{number}")

        async def has_seen_all() -> bool:
            done = await asyncio.to_thread(prometheus.value, "sum(hatchet_operator_runs_finished_total)")
            return done == 5

        await eventually(has_seen_all)
        failed = prometheus.query('hatchet_operator_runs_finished_total{phase="Failed"}')
        assert [(each["metric"]["workflow"], each["value"][1]) for each in failed] == [("etl", "1")]

        async def rules_are_evaluated() -> bool:
            return all(rule["health"] == "ok" for rule in await asyncio.to_thread(prometheus.rules))

        await eventually(rules_are_evaluated)
        silent: list[str] = []

        async def is_answered() -> bool:
            nonlocal silent
            silent = [title for title, asked in dashboard() if not await asyncio.to_thread(prometheus.query, asked)]
            return not silent

        try:
            await eventually(is_answered, within_seconds=60)
        except TimeoutError:
            raise AssertionError(f"no answer for {silent}") from None


def dashboard() -> list[tuple[str, str]]:
    """Each panel's title and questions, as Grafana would ask them."""
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    return [
        (panel["title"], target["expr"].replace("$namespace", ".*").replace("$__rate_interval", "1m"))
        for panel in panels
        for target in panel["targets"]
    ]
