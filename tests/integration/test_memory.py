"""What finished runs take: memory at a start, after a relist and in another term of leadership, and time at a start.

HATCHET_TEST_FINISHED_RUNS says how many there are; 50,000 take some minutes. The bound is of each run, whatever their
number: what Python, its libraries and a page of a list take is measured without runs, or is small beside ten thousand.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.processes import install_crds
from benchmarks.watched_operator import WatchedOperator, peak_bytes
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.integration.harness import Cluster
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.filling import fill, make_finished_runs, put_all
from tests.kube.real_api import RealApi

RUNS = int(os.environ.get("HATCHET_TEST_FINISHED_RUNS", "10000"))
BYTES_PER_RUN = 3 * 1024
LIMIT_BYTES = 2**30  # the chart's
SECONDS_PER_RUN = 0.5 / 1000
"""Until it is ready. Of CPU: it does all of it in one thread, and takes no longer if it is not kept waiting."""
PATIENCE_SECONDS = 60.0 * (8 + RUNS / 5_000)  # half a minute for ten thousand on a quiet machine


@pytest.mark.timeout(PATIENCE_SECONDS)
async def test_a_start_takes_little_memory_and_time_for_each_finished_run(
    server: EmbeddedApi | RealApi, tmp_path: Path
) -> None:
    async with Api(find_endpoint(server.endpoint.kubeconfig), user_agent="test", may_write=always) as api:
        await install_crds(api)
    without, seconds_without = await cost_of_a_start(server, tmp_path / "without")
    await asyncio.to_thread(fill, server, make_finished_runs(RUNS))
    peak, seconds = await cost_of_a_start(server, tmp_path / "with")
    assert peak - without < RUNS * BYTES_PER_RUN
    assert peak < LIMIT_BYTES
    assert seconds - seconds_without < RUNS * SECONDS_PER_RUN


async def cost_of_a_start(server: EmbeddedApi | RealApi, directory: Path) -> tuple[int, float]:
    """Return the most memory that it had, and the seconds of CPU that it used until it was ready."""
    directory.mkdir()  # noqa: ASYNC240  # a local folder: microseconds
    operator = WatchedOperator(server.endpoint.kubeconfig, directory)
    try:
        await operator.until_ready()
        return operator.peak_bytes, operator.cpu_seconds
    finally:
        operator.kill()


@pytest.mark.timeout(PATIENCE_SECONDS)
async def test_a_relist_and_another_term_take_no_more_than_a_start(cluster: Cluster) -> None:
    await cluster.start_operator()
    assert cluster.operator is not None
    without = peak_bytes(cluster.operator.pid)
    await cluster.crash_operator()
    await asyncio.to_thread(put_all, cluster.url, make_finished_runs(RUNS))
    operator = await cluster.start_operator(leader_election=True, lease_duration=3)
    limit = without + RUNS * BYTES_PER_RUN
    assert peak_bytes(operator.pid) < limit

    lists = await cluster.requests("list", "workflowruns")
    await cluster.inject({"match": {"verb": "watch", "resource": "workflowruns"}, "action": "gone"})
    await eventually(lambda: has_listed(cluster, lists + 1), within_seconds=PATIENCE_SECONDS / 2)
    await cluster.create_run("after-the-relist", "nobody-registered-it")  # which a watch tells, after the list
    await eventually(lambda: is_told_to_wait(cluster, "after-the-relist"), within_seconds=PATIENCE_SECONDS / 2)
    assert await has_listed(cluster, lists + RUNS // 1000), "it read all of them anew"
    assert peak_bytes(operator.pid) < limit, "after a relist"

    match = {"verb": ["update", "patch"], "resource": "leases", "name": "hatchet-operator"}
    rule = {"match": match, "action": "status", "times": 0}
    await cluster.inject(rule)
    await eventually(
        lambda: has_said(operator.log, "lease could not be renewed in time", 1), within_seconds=PATIENCE_SECONDS / 2
    )
    await cluster.clear_faults()
    await eventually(lambda: has_said(operator.log, "operator ready", 2), within_seconds=PATIENCE_SECONDS / 2)
    assert peak_bytes(operator.pid) < limit, "in another term"


async def has_listed(cluster: Cluster, times: int) -> bool:
    return await cluster.requests("list", "workflowruns") >= times


async def is_told_to_wait(cluster: Cluster, name: str) -> bool:
    return bool((await cluster.run(name)).get("status", {}).get("reason"))


async def has_said(log: Path, text: str, times: int) -> bool:
    return log.read_text(errors="replace").count(text) >= times  # noqa: ASYNC240  # a local file: microseconds
