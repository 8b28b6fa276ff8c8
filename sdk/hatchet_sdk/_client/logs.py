"""Sends lines of `context.log` to the operator: best effort, one at a time, never blocking a step."""

import asyncio
from collections import deque

import grpc.aio

from hatchet_sdk._client.connection import Connection, log
from hatchet_sdk._client.io_thread import IoThread, Mailbox
from hatchet_sdk.contracts.events_pb2 import PutLogRequest

MAX_WAITING = 1000  # if a step logs faster than the network allows, the oldest lines are dropped


class Logs:
    """Sends log lines; a failure costs the line and nothing else."""

    def __init__(self, io: IoThread, connection: Connection) -> None:
        self.mailbox = Mailbox(io, self._accept)
        self._connection = connection
        self._waiting: deque[PutLogRequest] = deque(maxlen=MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None

    def _accept(self, lines: list[PutLogRequest]) -> None:
        self._waiting.extend(lines)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            try:
                await self._connection.call_once(self._connection.events.PutLog, self._waiting.popleft())
            except grpc.aio.AioRpcError as error:
                log.debug("log line not delivered: %s", error.details())

    async def flush(self) -> None:
        """Wait until the lines so far are sent or dropped."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
