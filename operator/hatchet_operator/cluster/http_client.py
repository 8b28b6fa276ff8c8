"""Requests over HTTP/1.1 whose answers are read whole, at half the cost of aiohttp.

    idle ─ request ─► in flight ─ the whole answer ─► idle, for a minute at most
                          └─ no answer in time, cancelled, broken, "Connection: close" ─► closed

There are as many connections as concurrent requests. No redirects, cookies, proxies or compression: API servers use
none of them unless asked to.
"""

import asyncio
import ssl
from collections import deque
from typing import cast
from urllib.parse import urlsplit

from hatchet_operator.cluster.http_answers import Answer, AnswerReader, MalformedAnswer

_CONNECT_SECONDS = 5.0
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})


class ConnectionLost(ConnectionError):
    """The connection ended before the whole answer was there.

    Attributes:
        before_answer: Whether not even a part of the answer was received.
    """

    def __init__(self, message: str, *, before_answer: bool) -> None:
        super().__init__(message)
        self.before_answer = before_answer


class HttpClient:
    """Connections to one server, in the event loop in which it is made.

    Args:
        server: For example "https://10.0.0.1:443".
        ssl_context: For https; None: the default one.
        headers: Sent with each request.
        answer_seconds: How long a request may take, including connecting.
        idle_seconds: How long a connection is kept for the next request; kube-apiserver closes idle ones after 90.
    """

    def __init__(
        self,
        server: str,
        *,
        ssl_context: ssl.SSLContext | None,
        headers: dict[str, str],
        answer_seconds: float,
        idle_seconds: float = 60.0,
    ) -> None:
        parts = urlsplit(server)
        is_https = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if is_https else 80)
        self._ssl: ssl.SSLContext | bool | None = (ssl_context or True) if is_https else None
        self._headers = _lines({"Host": parts.netloc.rpartition("@")[2], **headers})
        self._answer_seconds = answer_seconds
        self._idle_seconds = idle_seconds
        self._open: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()  # the newest last
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._loop = asyncio.get_running_loop()  # kept: to ask for it takes a system call each time

    async def request(self, method: str, target: str, *, headers: dict[str, str], body: bytes | None) -> Answer:
        """Send a request, and wait for the whole answer, whatever its status.

        An idempotent request is sent once more if a connection turns out to have been
        closed while it was idle.

        Args:
            method: For example "GET".
            target: Path and query, as they are sent.
            headers: For this request.
            body: None: there is none.

        Raises:
            OSError: There was no connection, or it broke.
            TimeoutError: There was no answer in time.
        """
        given = headers if body is None else {**headers, "Content-Length": str(len(body))}
        head = f"{method} {target} HTTP/1.1\r\n{self._headers}{_lines(given)}\r\n".encode("latin-1")
        async with asyncio.timeout(self._answer_seconds):
            while True:
                idle = self._take_idle()
                connection = idle or await self._connect()
                try:
                    answer = await connection.ask(head + body if body else head)
                except ConnectionLost as error:
                    if self._is_closed or idle is None or not error.before_answer or method not in _REPEATABLE:
                        raise
                    continue
                if answer.keeps_connection and connection.is_open:
                    self._keep(connection)
                else:
                    connection.close()
                return answer

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        self._idle.clear()
        self._is_closed = True
        ending = list(self._open)
        for connection in ending:
            connection.close()
        for connection in ending:
            await connection.lost.wait()

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    def _keep(self, connection: "_Connection") -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_seconds, self._sweep)

    def _sweep(self) -> None:
        loop = self._loop
        since = loop.time() - self._idle_seconds
        while self._idle and (not self._idle[0].is_open or self._idle[0].idle_since <= since):
            self._idle.popleft().close()
        due = self._idle[0].idle_since + self._idle_seconds if self._idle else None
        self._sweeping = loop.call_at(due, self._sweep) if due is not None else None

    async def _connect(self) -> "_Connection":
        if self._is_closed:
            raise ConnectionAbortedError("this client is closed")
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self._open, self._loop), self._host, self._port, ssl=self._ssl
            )
        # Only now: if this is cancelled the loop closes the connection itself, and uvloop does not say it is lost.
        if not connection.lost.is_set():
            self._open.add(connection)
        if self._is_closed:
            connection.close()  # the request notices this
        return connection


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, open_ones: "set[_Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open_ones = open_ones
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._waiting: asyncio.Future[Answer] | None = None
        self.lost = asyncio.Event()
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Answer:
        """Send a request; anything that happens before the answer is complete closes the connection.

        Raises:
            ConnectionLost: The server ended it.
            ConnectionError: It did not send HTTP.
        """
        if self._transport is None:
            raise ConnectionLost("closed before the request", before_answer=True)
        self._reader = AnswerReader()
        waiting: asyncio.Future[Answer]
        waiting = self._waiting = self._loop.create_future()
        self._transport.write(request)
        try:
            return await waiting
        except BaseException:  # cancellation, too: what is still to come would be taken for the next answer
            self.close()
            raise
        finally:
            self._waiting = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()  # unsolicited data
            return
        try:
            answer = self._reader.feed(data)
        except MalformedAnswer as error:
            self._waiting.set_exception(ConnectionError(str(error)))
            return
        if answer is not None:
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self._transport = None
        self.lost.set()
        if self._waiting is not None and not self._waiting.done():
            lost = ConnectionLost(f"connection lost: {exc!r}", before_answer=not self._reader.has_begun)
            lost.__cause__ = exc
            self._waiting.set_exception(lost)


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
