"""A leader is gone when it was met, and then its machine refuses connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hatchet_operator.cluster.leader_sight import LeaderSight
from tests.kube.eventually import eventually


@pytest.fixture
def sight() -> LeaderSight:
    return LeaderSight(look_again_seconds=0.02, refused_again_seconds=0.02)


class Leader:
    """Listens, and counts who came."""

    def __init__(self) -> None:
        self.met = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        self.writers.append(writer)

    def end_connections(self) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[tuple[Leader, str]]:
    leader = Leader()
    server = await asyncio.start_server(leader.connected, "127.0.0.1", port)
    try:
        yield leader, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        leader.end_connections()


async def until(holds: object) -> None:
    async def check() -> bool:
        return bool(holds())  # type: ignore[operator]  # a lambda

    await eventually(check)


async def test_a_leader_whose_process_ends_is_gone(sight: LeaderSight) -> None:
    async with listening() as (leader, address):
        assert not sight.look_at("a", address)
        await until(lambda: leader.met == 1)
        assert not sight.look_at("a", address)
    await asyncio.wait_for(sight.changed.wait(), 30)
    assert sight.look_at("a", address)
    assert not sight.look_at("b", address), "another holder is another process"
    sight.forget()


async def test_a_leader_that_ends_connections_only_is_there(sight: LeaderSight) -> None:
    async with listening() as (leader, address):
        sight.look_at("a", address)
        for times in range(1, 4):
            await until(lambda times=times: leader.met == times)
            leader.end_connections()
        await until(lambda: leader.met == 4)
        assert not sight.look_at("a", address)
        sight.forget()


@pytest.mark.parametrize(
    "address", ["", "somewhere", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", ":7070", "a..b:1"]
)
async def test_an_address_that_makes_no_sense_says_nothing(sight: LeaderSight, address: str) -> None:
    """Whoever may edit a Lease could otherwise have a second operator lead before the first one stops."""
    for _ in range(3):
        assert not sight.look_at("a", address)
        await asyncio.sleep(0)
    assert not sight.changed.is_set()
    sight.forget()


async def test_who_was_never_met_is_not_gone(sight: LeaderSight) -> None:
    """It may not listen yet, or this machine may be kept from it."""
    async with listening() as (_, address):
        pass
    sight.look_at("a", address)
    await asyncio.sleep(0.3)  # some 15 refusals
    assert not sight.look_at("a", address)
    sight.forget()


async def test_nobody_is_watched_without_an_address_or_after_it_was_taken_back(sight: LeaderSight) -> None:
    async with listening() as (leader, address):
        sight.look_at("a", address)
        await until(lambda: leader.met == 1)
        assert not sight.look_at("a", None)
    await asyncio.sleep(0.2)
    assert not sight.changed.is_set()
    assert not sight.look_at("a", None)
