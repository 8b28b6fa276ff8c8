"""What nobody awaits still says why it failed, where operators look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.pods.pool_pods import PoolPods
from hatchet_operator.engine.pods.quotas import Quotas
from hatchet_operator.engine.workers.registrations import delete_lease
from hatchet_operator.errors import Refused
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.pod import Pod
from tests.kube.eventually import eventually


class Server(Api):
    """Refuses deletions, and lists what is no object."""

    def __init__(self) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.lists = 0

    async def delete(self, *args: Any, **options: Any) -> None:
        raise Refused("pods may not be deleted", status=403)

    async def list_all(self, *args: Any, **options: Any) -> tuple[list[Json], str]:
        return [], "1"

    async def list_pages(self, *args: Any, **options: Any) -> AsyncIterator[Page]:
        self.lists += 1
        yield Page(items=[{}], version="1")


def make_pod() -> Pod:
    return Pod(name="pod", namespace="default", uid="u", labels={}, annotations={}, worker_env={}, conditions={})


async def until_logged(caplog: pytest.LogCaptureFixture, message: str) -> logging.LogRecord:
    async def holds() -> bool:
        return any(record.message == message for record in caplog.records)

    await eventually(holds)
    return next(record for record in caplog.records if record.message == message)


async def test_a_pod_that_may_not_be_ended_is_named(caplog: pytest.LogCaptureFixture) -> None:
    pods = PoolPods(Server(), clock=Clock())
    pods.end(make_pod())
    record = await until_logged(caplog, "pod not ended")
    assert (record.__dict__["pod"], record.__dict__["error"]) == ("pod", "pods may not be deleted")
    await pods.stop()


async def test_a_lease_that_may_not_be_deleted_is_named(caplog: pytest.LogCaptureFixture) -> None:
    await delete_lease(Server(), "default", "worker")
    record = await until_logged(caplog, "lease of a dead worker not deleted")
    assert record.__dict__["error"] == "pods may not be deleted"


async def test_a_watch_of_quotas_that_fails_says_so_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    quotas = Quotas(server, there_may_be_room=lambda namespace: None, silence_seconds=75)
    for times in (1, 2):
        async with asyncio.timeout(30):
            quotas.watch("default")
            await until_logged(caplog, "quotas are not watched any more")
        assert server.lists == times
        caplog.clear()
    await quotas.stop()
