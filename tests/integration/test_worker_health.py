"""What a worker tells over HTTP of itself: its health and its metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hatchet_sdk import Context, Hatchet, NonRetryableError, NotConfigured
from hatchet_sdk._runner.health import HealthOptions, HealthServer, WorkerState
from hatchet_sdk._runner.tally import Tally
from tests.integration.inprocess import Instance, running_operator
from tests.kube.eventually import eventually

hatchet = Hatchet()  # for its decorators
go_on = threading.Event()
PREFIX = "HATCHET_CLIENT_WORKER_HEALTHCHECK_"


@hatchet.workflow()
class Job:
    @hatchet.step()
    def work(self, context: Context) -> None:
        given = context.workflow_input()
        if given.get("waits"):
            go_on.wait(30)
        if given.get("fails"):
            raise NonRetryableError("on purpose")


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    go_on.clear()
    async with running_operator() as instance:
        yield instance
        go_on.set()


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_a_worker_tells_its_health_and_counts_what_it_did(
    world: Instance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"{PREFIX}ENABLED", "true")
    monkeypatch.setenv(f"{PREFIX}PORT", "0")
    monkeypatch.setenv(f"{PREFIX}BIND_ADDRESS", "127.0.0.1")
    with caplog.at_level(logging.INFO, logger="hatchet_sdk"):
        await world.work(Job(), slots=3)
    said = re.search(r"tells its health and metrics at port (\d+)", caplog.text)
    assert said is not None
    port = int(said[1])

    await world.create_run("good", "job")
    await world.finished("good")
    await world.create_run("bad", "job", {"fails": True})
    await world.finished("bad")
    await world.create_run("long", "job", {"waits": True})

    async def is_running() -> bool:
        return bool(json.loads((await get(port, "/health"))[1])["running"] == 1)

    await eventually(is_running)
    status, text = await get(port, "/health")
    assert (status, json.loads(text)["status"], json.loads(text)["slots"]) == (200, "healthy", 3)
    status, text = await get(port, "/metrics")
    assert status == 200
    found = {
        (sample.name, sample.labels.get("action"), sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "le" not in sample.labels
    }
    assert found["hatchet_worker_connected", None, None] == 1
    assert found["hatchet_worker_running", None, None] == 1
    assert found["hatchet_worker_attempts_started_total", "job:work", None] == 3
    assert found["hatchet_worker_attempts_ended_total", "job:work", "completed"] == 1
    assert found["hatchet_worker_attempts_ended_total", "job:work", "failed"] == 1
    assert found["hatchet_worker_attempt_duration_seconds_count", "job:work", None] == 2
    assert (await get(port, "/other"))[0] == 404


async def test_one_that_lost_its_operator_is_unhealthy_until_it_stops() -> None:
    states = iter(
        WorkerState(name="w", is_connected=False, is_stopping=stops, slots=1, running=0, unreported=0)
        for stops in (False, True)
    )
    server = HealthServer(HealthOptions(port=0, bind_address="127.0.0.1"), lambda: next(states), Tally())
    try:
        assert (await get(server.port, "/health"))[0] == 503
        assert (await get(server.port, "/health"))[0] == 200, "it is to finish what it has"
    finally:
        await asyncio.to_thread(server.close)


def test_nobody_has_to_ask_and_nonsense_is_refused() -> None:
    assert HealthOptions.read({}) is None
    assert HealthOptions.read({f"{PREFIX}ENABLED": "true"}) == HealthOptions(port=8001, bind_address="0.0.0.0")
    with pytest.raises(NotConfigured, match="PORT is 'http'"):
        HealthOptions.read({f"{PREFIX}ENABLED": "true", f"{PREFIX}PORT": "http"})


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotConfigured, match=f"can't be served at 127.0.0.1:{port}"):
            HealthServer(HealthOptions(port=port, bind_address="127.0.0.1"), lambda: pytest.fail("asked"), Tally())
