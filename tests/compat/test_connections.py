"""What becomes of a published worker's connection: idle for a while, and when the operator starts anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.compat.published import FAN_OUT, PublishedCluster, PublishedSdk
from tests.integration.harness import fan_out_results, output_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_SECONDS = 50
"""A server with gRPC's defaults sends GOAWAY to these clients after about 35 s."""


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(sdk: PublishedSdk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PublishedCluster]:
    """A cluster of its own for each test."""
    async with PublishedCluster(tmp_path_factory.mktemp("cluster"), sdk) as cluster:
        await cluster.start_operator()
        yield cluster


async def test_an_idle_connection_gets_no_goaway(cluster: PublishedCluster) -> None:
    trace = {"GRPC_TRACE": "http", "GRPC_VERBOSITY": "debug"}
    worker = cluster.start_program(FAN_OUT, name="traced", **trace)
    await cluster.until_listening(worker, "parent", "child")
    await asyncio.sleep(IDLE_SECONDS)  # the idleness is what is tested
    log = worker.log.read_text(errors="replace")
    assert "HTTP:" in log or "SETTINGS" in log, "the trace shows frames, so it would show a GOAWAY"
    assert "GOAWAY" not in log.upper().replace("GO_AWAY", "GOAWAY")
    assert "too_many_pings" not in log
    await cluster.create_run("after-idling")
    assert output_of(await cluster.finished("after-idling")) == fan_out_results(10)
    operator_log = cluster.operator.log.read_text() if cluster.operator else ""
    assert operator_log.count("worker registered") == 1


async def test_a_worker_outside_of_pods_goes_on_with_a_new_operator(cluster: PublishedCluster) -> None:
    worker = cluster.start_program(FAN_OUT, name="outside")
    await cluster.create_run("before-restart")
    assert output_of(await cluster.finished("before-restart")) == fan_out_results(10)
    await cluster.crash_operator()
    operator = await cluster.start_operator()
    await cluster.create_run("after-restart")
    assert output_of(await cluster.finished("after-restart")) == fan_out_results(10)
    assert worker.is_alive
    assert "worker registered" not in operator.log.read_text(), "its Lease says who it is"
