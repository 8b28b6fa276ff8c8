"""Logs of pods: what the local node wrote into a file, whole, its tail, and as it grows until the pod has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hatchet_operator.apiserver import ApiServer
from hatchet_operator.apiserver.pod_logs import LOG_PATH

POD = "/api/v1/namespaces/default/pods/p"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    yield server
    await server.stop()


@pytest.fixture
async def api(server: ApiServer, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {LOG_PATH: str(tmp_path / "log")}},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    server.create(pod)
    (tmp_path / "log").write_text("one\ntwo\nthree\n")
    async with aiohttp.ClientSession(await server.start(), timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@pytest.mark.parametrize(
    ("query", "want"),
    [
        pytest.param("", "one\ntwo\nthree\n", id="all of it"),
        pytest.param("?tailLines=2", "two\nthree\n", id="the last lines"),
        pytest.param("?tailLines=0", "", id="no line"),
        pytest.param("?container=main", "one\ntwo\nthree\n", id="by container"),
    ],
)
async def test_a_log_is_read(api: aiohttp.ClientSession, query: str, want: str) -> None:
    async with api.get(f"{POD}/log{query}") as answer:
        assert (answer.status, await answer.text()) == (200, want)


async def test_an_unknown_container_is_a_bad_request(api: aiohttp.ClientSession) -> None:
    async with api.get(f"{POD}/log?container=other") as answer:
        assert answer.status == 400


async def test_a_log_is_followed_until_its_pod_has_ended(api: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with api.get(f"{POD}/log?follow=true&tailLines=1") as answer:
        assert await answer.content.readline() == b"three\n"
        with (tmp_path / "log").open("a") as log:
            log.write("four\n")
        assert await answer.content.readline() == b"four\n"
        merge = {"Content-Type": "application/merge-patch+json"}
        async with api.patch(f"{POD}/status", data='{"status":{"phase":"Succeeded"}}', headers=merge) as patched:
            assert patched.status == 200
        async with asyncio.timeout(60):
            assert await answer.content.read() == b""
