"""The connections of `HttpClient`, to a server that does as each test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hatchet_operator.cluster.http_client import HttpClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = OK.replace(b"Content", b"Connection: close\r\nContent")


class Server:
    """Answers request ``n`` of connection ``m``, both from 0, with ``answer(m, n)``; None ends the connection."""

    def __init__(self, answer: Callable[[int, int], bytes | None]) -> None:
        self._answer = answer
        self.requests: list[tuple[int, bytes]] = []
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
        asked = 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                for line in request.split(b"\r\n"):
                    if line.startswith(b"Content-Length: "):
                        request += await reader.readexactly(int(line.split()[1]))
                self.requests.append((number, request))
                self.asked.put_nowait(None)
                answer = self._answer(number, asked)
                asked += 1
                if answer is None:
                    break
                writer.write(answer)
                if b"then close" in answer:
                    break
        writer.close()
        self.ended.set()

    @property
    def connections(self) -> list[int]:
        return [number for number, _ in self.requests]


@asynccontextmanager
async def talk(
    answer: Callable[[int, int], bytes | None], *, seconds: float = 30, **options: Any
) -> AsyncIterator[tuple[Server, HttpClient]]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = HttpClient(
        f"http://127.0.0.1:{port}", ssl_context=None, headers={"A": "b"}, answer_seconds=seconds, **options
    )
    try:
        yield server, client
    finally:
        async with asyncio.timeout(60):
            await client.close()
        listening.close()
        await listening.wait_closed()


async def ask(client: HttpClient, method: str = "GET", body: bytes | None = None) -> bytes:
    return (await client.request(method, "/path?a=b", headers={"C": "d"}, body=body)).body


async def test_a_request_is_sent_whole_and_its_connection_used_again() -> None:
    async with talk(lambda connection, number: OK) as (server, client):
        assert [await ask(client), await ask(client, "POST", b'{"x":1}')] == [b"ok", b"ok"]
        assert server.connections == [0, 0]
        head, _, body = server.requests[1][1].partition(b"\r\n\r\n")
        first, host, *rest = head.split(b"\r\n")
        assert first == b"POST /path?a=b HTTP/1.1"
        assert host.startswith(b"Host: 127.0.0.1:")
        assert (rest, body) == ([b"A: b", b"C: d", b"Content-Length: 7"], b'{"x":1}')


async def test_requests_at_the_same_time_have_a_connection_each() -> None:
    async with talk(lambda connection, number: OK) as (server, client):
        await asyncio.gather(*(ask(client) for _ in range(3)))
        assert sorted(server.connections) == [0, 1, 2]


async def test_a_connection_that_the_server_is_about_to_close_is_not_used_again() -> None:
    async with talk(lambda connection, number: LAST) as (server, client):
        assert [await ask(client), await ask(client)] == [b"ok", b"ok"]
        assert server.connections == [0, 1]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_connection_that_was_closed_while_idle_costs_no_request_that_may_come_twice(method: str) -> None:
    async with talk(lambda connection, number: None if (connection, number) == (0, 1) else OK) as (server, client):
        assert [await ask(client), await ask(client, method)] == [b"ok", b"ok"]
        assert server.connections == [0, 0, 1]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_that_may_have_been_done_is_not_repeated(method: str) -> None:
    async with talk(lambda connection, number: None if (connection, number) == (0, 1) else OK) as (server, client):
        await ask(client)
        with pytest.raises(ConnectionError):
            await ask(client, method)
        assert server.connections == [0, 0]


async def test_a_server_that_ends_each_connection_is_not_asked_for_ever() -> None:
    async with talk(lambda connection, number: None) as (server, client):
        with pytest.raises(ConnectionError):
            await ask(client)
        assert server.connections == [0]


async def test_an_answer_that_is_cut_off_is_an_error_and_is_not_asked_for_again() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nthen close"
    async with talk(lambda connection, number: cut if number else OK) as (server, client):
        await ask(client)
        with pytest.raises(ConnectionError):
            await ask(client)
        assert server.connections == [0, 0]


async def test_what_is_no_http_is_an_error() -> None:
    async with talk(lambda connection, number: b"SSH-2.0\r\n\r\n") as (_, client):
        with pytest.raises(ConnectionError, match="SSH"):
            await ask(client)


async def test_a_late_answer_is_not_taken_for_the_next_one() -> None:
    async with talk(lambda connection, number: OK if connection else b"", seconds=0.05) as (server, client):
        with pytest.raises(TimeoutError):
            await ask(client)
        await server.ended.wait()  # the client ended it
        assert await ask(client) == b"ok"
        assert server.connections == [0, 1]


async def test_a_cancelled_request_ends_its_connection() -> None:
    async with talk(lambda connection, number: OK if connection else b"") as (server, client):
        asking = asyncio.create_task(ask(client))
        await server.asked.get()
        asking.cancel()
        await server.ended.wait()
        assert await ask(client) == b"ok"
        assert server.connections == [0, 1]


async def test_a_request_under_way_ends_when_the_client_is_closed() -> None:
    async with talk(lambda connection, number: b"" if number else OK) as (server, client):
        await ask(client)
        await server.asked.get()
        asking = asyncio.create_task(ask(client))
        await server.asked.get()
        await client.close()
        with pytest.raises(ConnectionError):
            await asking
        assert server.connections == [0, 0], "and is not sent again"


async def test_a_connection_that_was_given_up_the_moment_it_was_made_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operator's loop, uvloop, never says that it is lost; a process waited for that until it was killed."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def give_up(make_protocol: Callable[[], asyncio.Protocol], *args: Any, **options: Any) -> Any:
        transport, _ = await connect(asyncio.Protocol, *args, **options)
        make_protocol().connection_made(transport)
        transport.abort()
        raise TimeoutError

    monkeypatch.setattr(loop, "create_connection", give_up)
    async with talk(lambda connection, number: OK) as (server, client):
        with pytest.raises(TimeoutError):
            await ask(client)
        await server.ended.wait()


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    async with talk(lambda connection, number: OK, idle_seconds=0.01) as (server, client):
        await ask(client)
        await server.ended.wait()


async def test_nobody_listens() -> None:
    client = HttpClient("http://127.0.0.1:1", ssl_context=None, headers={}, answer_seconds=30)
    with pytest.raises(ConnectionRefusedError):
        await ask(client)
    await client.close()
