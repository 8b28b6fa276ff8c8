"""An embedded API server, a client for what people do, and an engine that is started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.engine.engine import Engine
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import CRDS, started, url_of
from tests.kube.virtual_time import VirtualTimeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories() -> Mapping[str, LoopFactory]:
    """Run each test in virtual time: both ends of all connections are in its loop."""
    return {"virtual": lambda: VirtualTimeLoop(with_connections=True)}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    server.load_definitions(CRDS)
    await server.start()
    yield server
    missed = server.faults.missed()
    await server.stop()
    assert not missed, f"faults that never fired, so that nothing was tested with them: {missed}"


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    """For what people and other controllers do."""
    async with Api(Endpoint(server=url_of(server)), user_agent="test", may_write=always) as api:
        yield api


@pytest.fixture
async def engine(server: ApiServer) -> AsyncIterator[Engine]:
    async with started(server) as engine:
        yield engine
