"""What an informer makes of an API server that answers no more, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.errors import ApiError, Gone, Transient
from hatchet_operator.resources.base import Json
from tests.kube.virtual_time import VirtualTimeLoop

OUTAGE_SECONDS = 600.0
STUCK_SECONDS = 120.0  # silent for so long, an operator is taken for stuck and started anew


class AwayApi(Api):
    """An API server that lists once, and from then on lets each request fail, after as long as one may take."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.error = error
        self.asked = 0

    async def list_pages(self, *_: Any, **__: Any) -> AsyncIterator[Page]:
        self.asked += 1
        if self.asked > 1:
            await self.fail()
        yield Page(items=[], version="1")

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:
        self.asked += 1
        await self.fail()
        yield "never", {}

    async def fail(self) -> None:
        await asyncio.sleep(30)
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Transient("no answer"), id="it does not answer"),
        pytest.param(Gone("too old", status=410), id="it has forgotten what was"),
    ],
)
def test_trying_in_vain_is_progress_since_starting_anew_would_not_help(error: ApiError) -> None:
    async def longest_silence() -> float:
        loop, longest = asyncio.get_running_loop(), 0.0
        informer = Informer(AwayApi(error), RUNS, on_change=lambda kind, obj: None)
        running = asyncio.create_task(informer.run())
        await informer.synced.wait()
        while loop.time() < OUTAGE_SECONDS:
            await asyncio.sleep(1)
            longest = max(longest, loop.time() - informer.last_event_at)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return longest

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(longest_silence()) < STUCK_SECONDS
