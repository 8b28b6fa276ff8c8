"""The operator is killed at any moment; what was answered stays true, and nothing is done twice."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest

from hatchet_operator.resources.base import Json
from tests.integration.harness import (
    FINAL,
    OPERATOR_WRITES,
    SOON_SECONDS,
    Cluster,
    assert_done_once,
    phase_of,
)
from tests.kube.eventually import eventually

CHILDREN = 5
LEAST_WRITES = CHILDREN * 2 + 1


@pytest.fixture
async def pool(cluster: Cluster) -> Cluster:
    """An operator with two worker pods, which an operator that is started again knows from their annotations."""
    await cluster.start_operator()
    await cluster.start_pool(replicas=2)
    return cluster


# --- After every API write


async def fires_before_it_ends(cluster: Cluster, name: str) -> bool:
    fired = False

    async def holds() -> bool:
        nonlocal fired
        ended = phase_of(await cluster.run(name)) in FINAL
        fired = await cluster.fault_fired(within_seconds=0)
        return fired or ended

    await eventually(holds)
    return fired


@pytest.mark.parametrize(
    "action",
    [
        pytest.param({"action": "commit-then-hang"}, id="the n-th write is done and never answered"),
        pytest.param({"action": "drop"}, id="the n-th write is dropped before it is done"),
        pytest.param({"action": "delay", "seconds": 1.5}, id="the n-th write is done when its operator is dead"),
    ],
)
@pytest.mark.timeout(600)
async def test_a_crash_at_any_write_of_a_run_changes_nothing(pool: Cluster, action: Json) -> None:
    for n in range(1, 100):
        name = f"run-{n:02d}"
        fault = {"match": OPERATOR_WRITES | {"resource": "workflowruns"}, "skip": n - 1, "optional": True, **action}
        await pool.inject(fault)
        await pool.create_run(name, children=CHILDREN)
        if not await fires_before_it_ends(pool, name):
            break
        await pool.crash_operator()
        await pool.clear_faults()
        await pool.start_operator()
        await assert_done_once(pool, name, children=CHILDREN)
    await assert_done_once(pool, name, children=CHILDREN)
    assert n > LEAST_WRITES, "the run has more writes than were hit"


# --- In every phase


async def no_operator_yet(cluster: Cluster, name: str) -> None:
    await cluster.crash_operator()
    await cluster.create_run(name, children=CHILDREN)
    await cluster.start_operator()


async def parent_started(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, before_spawning="spawn")
    await cluster.until_executing("spawn", 1)
    await cluster.crash_operator()
    await cluster.start_operator()
    cluster.open_gate("spawn")


async def parent_spawns_while_it_is_away(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, before_spawning="spawn")
    await cluster.until_executing("spawn", 1)
    await cluster.crash_operator()
    cluster.open_gate("spawn")
    await cluster.start_operator()


async def children_run(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    await cluster.crash_operator()
    await cluster.start_operator()
    cluster.open_gate("child")


async def children_end_while_it_is_away(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    await cluster.crash_operator()
    cluster.open_gate("child")
    await cluster.start_operator()


async def twice_in_a_row(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    for _ in range(2):
        await cluster.crash_operator()
        await cluster.start_operator()
    cluster.open_gate("child")


async def parent_ends_while_it_is_away(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, after_results="end")
    await cluster.until_succeeded(name, CHILDREN)
    await cluster.crash_operator()
    cluster.open_gate("end")
    await cluster.start_operator()


async def long_running_was_written_down(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, in_child="child")

    async def holds() -> bool:
        return [phase_of(child) for child in await cluster.children_of(name)] == ["Running"] * CHILDREN

    await eventually(holds)
    await cluster.crash_operator()
    cluster.open_gate("child")
    await cluster.start_operator()


async def asked_to_end(cluster: Cluster, name: str) -> None:
    await cluster.create_run(name, children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    assert cluster.operator is not None
    assert await cluster.operator.end() == 0
    cluster.open_gate("child")
    await cluster.start_operator()


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(no_operator_yet, id="the run was created while no operator was there"),
        pytest.param(parent_started, id="the operator is killed when the parent has started"),
        pytest.param(parent_spawns_while_it_is_away, id="the parent spawns while the operator is away"),
        pytest.param(children_run, id="the operator is killed while children run"),
        pytest.param(children_end_while_it_is_away, id="children end while the operator is away"),
        pytest.param(twice_in_a_row, id="the operator is killed twice in a row"),
        pytest.param(parent_ends_while_it_is_away, id="the parent ends while the operator is away"),
        pytest.param(long_running_was_written_down, id="the operator is killed when Running was written"),
        pytest.param(asked_to_end, id="the operator is asked to end while children run"),
    ],
)
async def test_nothing_is_lost_or_done_twice(pool: Cluster, phase: Callable[[Cluster, str], Awaitable[None]]) -> None:
    await phase(pool, "run")
    await assert_done_once(pool, "run", children=CHILDREN)


async def test_a_worker_outside_of_a_pod_registers_again_and_keeps_what_it_has(cluster: Cluster) -> None:
    await cluster.start_operator()
    await cluster.start_worker()
    await children_end_while_it_is_away(cluster, "run")
    await assert_done_once(cluster, "run", children=CHILDREN)


# --- Workers outside of Pods


async def test_a_worker_outside_of_pods_is_waited_for_too(cluster: Cluster) -> None:
    await cluster.start_operator(running_after=60)
    await cluster.start_worker("one")
    two = await cluster.start_worker("two")
    await cluster.until_registered()
    await cluster.create_run("run", children=CHILDREN, in_child="child")
    await cluster.until_executing("process", CHILDREN)
    two.signal(signal.SIGSTOP)
    await cluster.crash_operator()
    await cluster.start_operator()
    # a run that begins now goes to the first worker at once, while what the second may have is held back
    await cluster.create_run("probe", children=0)
    assert phase_of(await cluster.finished("probe")) == "Succeeded"
    two.signal(signal.SIGCONT)
    cluster.open_gate("child")
    await assert_done_once(cluster, "run", children=CHILDREN)


async def test_a_worker_that_signs_off_leaves_nothing_behind(cluster: Cluster) -> None:
    await cluster.start_operator()
    worker = await cluster.start_worker("one")
    await cluster.create_run("run", "child", a="x")
    await cluster.finished("run")  # so it listens, and can sign off

    async def is_gone() -> bool:
        return not await cluster.worker_leases()

    assert len(await cluster.worker_leases()) == 1
    worker.signal(signal.SIGTERM)
    await worker.ended()
    await eventually(is_gone, within_seconds=SOON_SECONDS)  # not after the silence that a `PATIENT` operator bears
