"""Workers are killed or asked to end at any moment: what they had runs again, and nothing else does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.resources.base import Json
from tests.integration.harness import NAMESPACE, Cluster, fan_out_results, output_of, phase_of
from tests.integration.raw_worker import COMPLETED, RawWorker, next_action, raw_worker
from tests.kube.eventually import eventually

CHILDREN = 6


@pytest.fixture
async def pool(cluster: Cluster) -> Cluster:
    await cluster.start_operator()
    await cluster.start_pool(replicas=2)
    return cluster


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def losses_of(run: Json, step: str) -> int:
    return int(run["status"]["steps"][step].get("losses", 0))


async def until_lost(cluster: Cluster, name: str, step: str, losses: int) -> None:
    async def holds() -> bool:
        run = await cluster.run(name)
        return step in run.get("status", {}).get("steps", {}) and losses_of(run, step) == losses

    await eventually(holds)


async def test_the_children_of_a_killed_worker_run_again_and_others_once(pool: Cluster) -> None:
    await pool.create_run("run", children=CHILDREN, in_child="child")
    (parent,) = await pool.until_executing("spawn", 1)
    first = await pool.until_executing("process", CHILDREN)
    victim = next(call.pid for call in first if call.pid != parent.pid)
    lost = {call.run for call in first if call.pid == victim}
    assert 0 < len(lost) < CHILDREN, "both workers should have some"
    kill(victim)
    await pool.until_executing("process", CHILDREN + 1)  # any of them may be the cause, so they are tried apart
    pool.open_gate("child")
    assert output_of(await pool.finished("run")) == fan_out_results(CHILDREN)
    calls = Counter(call.run for call in pool.executions("process"))
    want = {call.run: 2 if call.run in lost else 1 for call in first}
    assert calls == want
    assert {call.retry_count for call in pool.executions()} == {0}, "a lost worker uses no retry"
    for child in await pool.children_of("run"):
        name = child["metadata"]["name"]
        assert losses_of(child, "process") == (1 if name in lost else 0)
    assert len(pool.executions("spawn")) == 1
    await pool.until_pool_is_ready(2)


@pytest.mark.parametrize(
    "gates",
    [
        pytest.param({"before_spawning": "hold"}, id="before it spawned"),
        pytest.param({"in_child": "hold"}, id="while its children run"),
        pytest.param({"after_results": "hold"}, id="when its children have ended"),
    ],
)
async def test_a_parent_whose_worker_is_killed_runs_again_and_finds_its_children(
    pool: Cluster, gates: dict[str, str]
) -> None:
    await pool.create_run("run", children=CHILDREN, **gates)
    (parent,) = await pool.until_executing("spawn", 1)
    if "in_child" in gates:
        await pool.until_executing("process", CHILDREN)
    elif "after_results" in gates:
        await pool.until_succeeded("run", CHILDREN)
    before = {child["metadata"]["uid"] for child in await pool.children_of("run")}
    held = [call.run for call in pool.executions("process") if call.pid == parent.pid and "in_child" in gates]
    kill(parent.pid)
    await pool.until_executing("spawn", 2)
    pool.open_gate("hold")
    run = await pool.finished("run")
    assert output_of(run) == fan_out_results(CHILDREN)
    assert len(run["status"]["steps"]["spawn"]["lostWorkers"]) == 1
    assert losses_of(run, "spawn") == (0 if held else 1), "while it waited, what ran beside it may be the cause"
    assert [call.retry_count for call in pool.executions("spawn")] == [0, 0]
    after = {child["metadata"]["uid"] for child in await pool.children_of("run")}
    assert len(after) == CHILDREN
    assert before <= after, "children that were there are the ones that are found"
    calls = Counter(call.run for call in pool.executions("process"))
    assert sum(calls.values()) == CHILDREN + len(held), "only what the killed worker had runs again"


async def test_a_step_fails_when_three_of_its_workers_died(pool: Cluster) -> None:
    await pool.create_run("doomed", "child", a="x", gate="never")
    for losses in range(1, 4):
        calls = await pool.until_executing("process", losses)
        kill(calls[-1].pid)
        await until_lost(pool, "doomed", "process", losses)
    run = await pool.finished("doomed")
    step = run["status"]["steps"]["process"]
    assert phase_of(run) == "Failed"
    assert (step["reason"], step["losses"], step["attempt"]) == ("WorkerLost", 3, 0)
    assert len(pool.executions("process")) == 3


async def test_a_worker_that_is_asked_to_end_finishes_what_it_has_and_takes_nothing_new(cluster: Cluster) -> None:
    await cluster.start_operator()
    worker = await cluster.start_worker("first")
    await cluster.create_run("run", "child", a="x", gate="child")
    await cluster.until_executing("process", 1)
    worker.signal(signal.SIGTERM)
    await eventually(lambda: is_draining(cluster))
    await cluster.create_run("later", "child", a="y")
    await cluster.start_worker("second")
    assert (await cluster.finished("later"))["status"]["phase"] == "Succeeded"
    cluster.open_gate("child")
    assert await worker.ended() == 0
    run = await cluster.finished("run")
    assert output_of(run, "process") == {"status": "success x"}
    first, second = cluster.executions("process")
    assert (first.run, first.pid) == ("run", worker.pid)
    assert second.run == "later"
    assert second.pid != worker.pid


async def is_draining(cluster: Cluster) -> bool:
    """Whether the operator knows that a worker is about to end."""
    return "worker draining" in dict(cluster.logs())["operator-1"]


async def test_a_deleted_pod_finishes_what_it_has_and_another_takes_its_place(pool: Cluster) -> None:
    await pool.create_run("run", "child", a="x", gate="child")
    (call,) = await pool.until_executing("process", 1)
    before = {pod["metadata"]["name"] for pod in await pool.pods()}
    for name in before:
        await pool.api.delete(PODS, NAMESPACE, name)
    pool.open_gate("child")
    run = await pool.finished("run")
    assert output_of(run, "process") == {"status": "success x"}
    assert losses_of(run, "process") == 0
    assert pool.executions("process") == [call]

    async def all_are_new() -> bool:
        names = {pod["metadata"]["name"] for pod in await pool.pods()}
        return len(names) == 2 and not names & before

    await eventually(all_are_new)
    await pool.until_pool_is_ready(2)


async def test_a_result_of_a_worker_that_was_given_up_changes_nothing(cluster: Cluster) -> None:
    await cluster.start_operator(worker_silent=5)
    async with (
        raw_worker(cluster.grpc_address, cluster.token()) as silent,
        raw_worker(cluster.grpc_address, cluster.token()) as other,
    ):
        await silent.register("raw")
        stream = silent.listen()
        async with beating(silent):
            await cluster.create_run("run", "raw")
            first = await next_action(stream)
            await other.register("raw")  # in time to get what the silent one loses
        async with beating(other):
            second = await next_action(other.listen())
        assert first.task_run_external_id != second.task_run_external_id
        assert (first.retry_count, second.retry_count) == (0, 0), "a lost worker uses no retry"
        await silent.report(first, COMPLETED, '{"by": "silent"}')
        await other.report(second, COMPLETED, '{"by": "other"}')
        run = await cluster.finished("run")
    assert output_of(run, "work") == {"by": "other"}
    assert run["status"]["steps"]["work"]["losses"] == 1


@asynccontextmanager
async def beating(worker: RawWorker) -> AsyncIterator[None]:
    """Keep a worker from being taken for dead, for as long as the block lasts."""

    async def beat() -> None:
        while True:
            await worker.heartbeat()
            await asyncio.sleep(0.3)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
