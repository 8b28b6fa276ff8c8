"""Sends chunks of `context.put_stream` to the operator: in order, retried until accepted, never blocking a step.

Each chunk has an index within its attempt, so one that arrives twice counts once.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import grpc.aio

from hatchet_sdk._client.connection import TRANSIENT, Connection, delay_after, log
from hatchet_sdk._client.io_thread import IoThread, Mailbox
from hatchet_sdk.contracts.events_pb2 import PutStreamEventRequest

MAX_WAITING_BYTES = 4 * 1024 * 1024  # of all attempts: while the operator is down, the oldest chunks are dropped
MAX_CALL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that a step put into its stream."""

    task_run_external_id: str
    index: int
    data: bytes
    at: int  # milliseconds since 1970


@dataclass(eq=False, slots=True)
class _Backlog:
    """The chunks of one attempt that were not accepted yet."""

    chunks: deque[Chunk] = field(default_factory=deque)
    sending: "asyncio.Task[None] | None" = None


class Puts:
    """Sends chunks of streams: attempts in parallel, each in its order."""

    def __init__(self, io: IoThread, connection: Connection) -> None:
        self.mailbox = Mailbox(io, self._accept)
        self._connection = connection
        self._backlogs: dict[str, _Backlog] = {}
        self._bytes = 0
        self._dropped = 0

    def _accept(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            backlog = self._backlogs.setdefault(chunk.task_run_external_id, _Backlog())
            backlog.chunks.append(chunk)
            self._bytes += len(chunk.data)
        while self._bytes > MAX_WAITING_BYTES:
            self._drop_oldest()
        for attempt_id, backlog in tuple(self._backlogs.items()):
            if backlog.sending is None:
                backlog.sending = asyncio.create_task(self._send(attempt_id, backlog))

    def _drop_oldest(self) -> None:
        longest = max(self._backlogs.values(), key=lambda backlog: len(backlog.chunks))
        self._bytes -= len(longest.chunks.popleft().data)
        if not self._dropped:
            log.warning("steps put more into their streams than the operator takes: the oldest chunks are dropped")
        self._dropped += 1

    async def _send(self, attempt_id: str, backlog: _Backlog) -> None:
        tries = 0
        try:
            while backlog.chunks:
                batch = _next_batch(backlog.chunks)
                try:
                    await self._connection.call_once(self._connection.events.PutStreamEvent, _request(batch))
                except grpc.aio.AioRpcError as error:
                    if error.code() in TRANSIENT:
                        tries += 1
                        await asyncio.sleep(delay_after(tries))
                        continue  # with whatever is still there by then
                    log.warning("a chunk of a stream was refused: %s", error.details())
                tries = 0
                while backlog.chunks and backlog.chunks[0].index <= batch[-1].index:
                    self._bytes -= len(backlog.chunks.popleft().data)
        finally:
            self._bytes -= sum(len(chunk.data) for chunk in backlog.chunks)
            self._backlogs.pop(attempt_id, None)

    def under_way(self, task_run_external_id: str) -> "asyncio.Task[None] | None":
        """Return the task that ends when the operator has all chunks of an attempt; None: it has them."""
        backlog = self._backlogs.get(task_run_external_id)
        return backlog.sending if backlog is not None else None


def _next_batch(chunks: "deque[Chunk]") -> list[Chunk]:
    batch, size = [chunks[0]], len(chunks[0].data)
    for chunk in list(chunks)[1:]:
        size += len(chunk.data)
        if size > MAX_CALL_BYTES or chunk.index != batch[-1].index + 1:
            break
        batch.append(chunk)
    return batch


def _request(batch: list[Chunk]) -> PutStreamEventRequest:
    first = batch[0]
    request = PutStreamEventRequest(
        task_run_external_id=first.task_run_external_id,
        message=first.data,
        event_index=first.index,
        more_messages=[chunk.data for chunk in batch[1:]],
    )
    request.created_at.FromMilliseconds(first.at)
    return request
