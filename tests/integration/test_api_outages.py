"""The API server is away, answers errors, or its watches lie: nothing is lost, and nothing is promised too early."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc
import grpc.aio
import pytest

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.base import Json
from tests.integration.harness import NAMESPACE, Cluster, assert_done_once, output_of, phase_of
from tests.integration.raw_worker import COMPLETED, next_action, raw_worker
from tests.kube.eventually import eventually

CHILDREN = 5
OPERATOR: Json = {"userAgent": "hatchet-operator"}
RUNS_WATCH: Json = {**OPERATOR, "verb": "watch", "resource": "workflowruns"}


# --- Away


@asynccontextmanager
async def frozen(cluster: Cluster) -> AsyncIterator[None]:
    cluster.server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        cluster.server.signal(signal.SIGCONT)


def faulty(**action: object) -> Callable[[Cluster], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def outage(cluster: Cluster) -> AsyncIterator[None]:
        await cluster.inject(
            {"match": OPERATOR, "times": 0, **action}, {"match": RUNS_WATCH, "times": 1, "action": "cut"}
        )
        try:
            yield
        finally:
            await cluster.clear_faults()

    return outage


OUTAGES = [
    pytest.param(frozen, id="hangs"),
    pytest.param(faulty(action="status", code=503), id="answers 503"),
    pytest.param(faulty(action="status", code=429, retryAfter=1), id="answers 429 with Retry-After"),
    pytest.param(faulty(action="drop"), id="drops connections"),
    pytest.param(faulty(action="commit-then-drop"), id="does what it is asked and drops the answer"),
]
Outage = Callable[[Cluster], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("outage", [outage for outage in OUTAGES if "does what" not in str(outage.id)])
async def test_a_result_is_acknowledged_when_it_is_written_and_not_before(cluster: Cluster, outage: Outage) -> None:
    await cluster.start_operator()
    async with raw_worker(cluster.grpc_address, cluster.token()) as worker:
        await worker.register("raw")
        stream = worker.listen(held=[])
        await cluster.create_run("run", "raw")
        action = await next_action(stream)
        async with outage(cluster):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await worker.report(action, COMPLETED, '{"n": 1}', seconds=1.5)
            assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await worker.report(action, COMPLETED, '{"n": 1}')
        assert output_of(await cluster.run("run"), "work") == {"n": 1}, "answered, so written"


@pytest.mark.parametrize("outage", OUTAGES)
async def test_a_fan_out_goes_on_when_the_api_server_is_back(cluster: Cluster, outage: Outage) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    await cluster.create_run("spawns", children=CHILDREN, before_spawning="now")
    await cluster.create_run("awaits", children=CHILDREN, in_child="now")
    await cluster.until_executing("process", CHILDREN)
    await cluster.until_executing("spawn", 2)
    async with outage(cluster):
        cluster.open_gate("now")
        await asyncio.sleep(2)  # how long it is away is the point
    for name in ("spawns", "awaits"):
        await assert_done_once(cluster, name, children=CHILDREN)


async def test_an_operator_that_starts_while_the_api_server_is_away_waits_for_it(cluster: Cluster) -> None:
    await cluster.start_operator()
    worker = await cluster.start_worker()
    assert cluster.operator is not None
    cluster.operator.kill()
    await cluster.create_run("run", children=CHILDREN)
    await cluster.inject({"match": OPERATOR, "times": 4, "action": "status", "code": 503})
    await cluster.start_operator()
    assert await cluster.fired_count() == 4
    await assert_done_once(cluster, "run", children=CHILDREN)
    assert worker.is_alive


# --- Watches


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([{"action": "gone"}], id="ends with an event that says 410"),
        pytest.param(
            [{"action": "status", "code": 410}, {"action": "cut"}], id="ends, and the next is answered with status 410"
        ),
        pytest.param([{"action": "cut", "times": 20}], id="is cut again and again"),
        pytest.param([{"action": "gone", "times": 20}], id="says 410 again and again"),
        pytest.param([{"action": "silent"}], id="goes silent"),
        pytest.param([{"action": "duplicate", "times": 0}], id="sends every event twice"),
        pytest.param([{"action": "stale", "times": 0}], id="sends stale states after new ones"),
        pytest.param(
            [{"action": "stale", "times": 0}, {"action": "duplicate", "times": 0}], id="sends stale and double events"
        ),
    ],
)
async def test_a_fan_out_does_not_mind_a_watch_that(cluster: Cluster, faults: list[Json]) -> None:
    await cluster.start_operator(watch_silence=3)  # bookmarks come every second
    await cluster.start_worker()
    await cluster.inject(*({"match": RUNS_WATCH, **fault} for fault in faults))
    await cluster.create_run("run", children=CHILDREN)
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_a_watch_that_is_refused_for_ever_is_not_asked_for_in_a_hot_loop(cluster: Cluster) -> None:
    await cluster.start_operator()
    before = await cluster.requests("list", "workflowruns")
    await cluster.inject({"match": RUNS_WATCH, "times": 0, "action": "gone"})

    async def is_asked_for_again() -> bool:
        return await cluster.requests("list", "workflowruns") - before >= 2

    await eventually(is_asked_for_again)
    await asyncio.sleep(3)  # the rate is the point
    assert await cluster.requests("list", "workflowruns") - before < 20


@asynccontextmanager
async def without_watch_of_runs(cluster: Cluster) -> AsyncIterator[None]:
    """The operator sees nothing of what happens meanwhile, and its last version is forgotten when it looks again."""
    await cluster.inject(
        {"match": RUNS_WATCH, "times": 0, "action": "status", "code": 503}, {"match": RUNS_WATCH, "action": "cut"}
    )

    async def was_cut_and_refused_another() -> bool:
        return await cluster.fired_count() >= 2

    await eventually(was_cut_and_refused_another)
    yield
    await cluster.forget_history()
    await cluster.clear_faults()


async def test_whoever_awaits_a_run_whose_deletion_nobody_saw_is_told_so(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    await cluster.create_run("run", children=3, in_child="child")
    await cluster.until_executing("process", 3)
    deleted, *others = sorted(child["metadata"]["name"] for child in await cluster.children_of("run"))
    async with without_watch_of_runs(cluster):
        await cluster.api.delete(RUNS, NAMESPACE, deleted)
    cluster.open_gate("child")
    results = output_of(await cluster.finished("run"))["results"]
    (error,) = (result for result in results if isinstance(result, str))
    assert error.startswith(f"run {deleted} was deleted")
    assert len([result for result in results if isinstance(result, dict)]) == len(others)


async def test_a_parent_whose_deletion_nobody_saw_is_dropped_with_its_children(cluster: Cluster) -> None:
    await cluster.start_operator()
    worker = await cluster.start_worker()
    await cluster.create_run("run", children=3, in_child="child")
    await cluster.until_executing("process", 3)
    async with without_watch_of_runs(cluster):
        await cluster.api.delete(RUNS, NAMESPACE, "run")
        await eventually(lambda: nothing_is_left(cluster))  # children go by garbage collection
    await cluster.create_run("run", children=2)  # under the same name, and none of its children
    await assert_done_once(cluster, "run", children=2, called_before=4)
    assert await worker.end() == 0, "nothing is left that it would have to finish"


async def nothing_is_left(cluster: Cluster) -> bool:
    return not await cluster.runs()


async def test_a_run_that_was_made_anew_under_its_name_unseen_runs_anew(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    await cluster.create_run("run", "child", a="old", gate="never")
    await cluster.until_executing("process", 1)
    async with without_watch_of_runs(cluster):
        await cluster.api.delete(RUNS, NAMESPACE, "run")
        await cluster.create_run("run", "child", a="new")
    run = await cluster.finished("run")
    assert output_of(run, "process") == {"status": "success new"}
    assert phase_of(run) == "Succeeded"
