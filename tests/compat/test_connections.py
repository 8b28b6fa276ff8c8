"""What becomes of a published worker's connection: idle for a while, and when the operator starts anew."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import WORKFLOWS
from tests.compat.published import FAN_OUT, PROGRAMS, PublishedCluster, PublishedSdk
from tests.integration.harness import NAMESPACE, Process, fan_out_results, output_of
from tests.kube.eventually import eventually

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
    # 0.36.24 repeats no spawn, and for up to 20 s after an outage its channel may not try to connect.
    patient = {"retries": 10, "backoffDelays": ["3s"]}
    await cluster.api.patch(WORKFLOWS, NAMESPACE, "parent", {"spec": {"steps": {"spawn": patient}}})
    await cluster.create_run("after-restart")
    assert output_of(await cluster.finished("after-restart")) == fan_out_results(10)
    assert worker.is_alive
    assert "worker registered" not in operator.log.read_text(), "its Lease says who it is"


async def test_a_step_that_a_leaving_worker_never_began_goes_to_another_soon(cluster: PublishedCluster) -> None:
    """Its last second, in which it still takes steps but begins none, is made longer, so that the step comes in it."""
    leaving = cluster.start_program(PROGRAMS / "worker.py", "20", name="leaving")
    await cluster.until_listening(leaving, "echo")
    await cluster.create_run("before", "echo")
    await cluster.finished("before")
    leaving.signal(signal.SIGTERM)
    await until_said(leaving, "gracefully exiting runner")
    leaving.signal(signal.SIGSTOP)  # not its other process, which listens
    await cluster.create_run("pushed", "echo")
    await until_said(leaving, "rx: start step run", times=2)
    cluster.start_program(PROGRAMS / "worker.py", "20", name="other")
    assert cluster.operator is not None
    await until_said(cluster.operator, "worker registered", times=2)

    leaving.signal(signal.SIGCONT)
    await leaving.ended()
    left_at = time.monotonic()
    run = await cluster.finished("pushed", within_seconds=25)  # it would be silent after 30
    print(f"{cluster.sdk.version}: {time.monotonic() - left_at:.1f} s from the end of the worker to that of the step")

    lost = run["status"]["steps"]["say"]["lostWorkers"]
    assert [(each["worker"], each["kind"]) for each in lost] == [("compat", "NotStarted")]
    assert len(cluster.executions("say", "pushed")) == 1


async def until_said(process: Process, text: str, *, times: int = 1) -> None:
    async def has_said() -> bool:
        return process.log.read_text(errors="replace").count(text) >= times

    await eventually(has_said)
