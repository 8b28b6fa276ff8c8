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
class Piece:
    """A chunk that a step put into its stream."""

    task_run_external_id: str
    index: int
    data: bytes
    at: int  # milliseconds since 1970


@dataclass(eq=False, slots=True)
class _Line:
    """The chunks of one attempt that were not accepted yet."""

    pieces: deque[Piece] = field(default_factory=deque)
    sending: "asyncio.Task[None] | None" = None


class Puts:
    """Sends chunks of streams: attempts in parallel, each in its order."""

    def __init__(self, io: IoThread, connection: Connection) -> None:
        self.mailbox = Mailbox(io, self._accept)
        self._connection = connection
        self._lines: dict[str, _Line] = {}
        self._bytes = 0
        self._dropped = 0

    def _accept(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            line = self._lines.setdefault(piece.task_run_external_id, _Line())
            line.pieces.append(piece)
            self._bytes += len(piece.data)
        while self._bytes > MAX_WAITING_BYTES:
            self._drop_oldest()
        for attempt_id, line in tuple(self._lines.items()):
            if line.sending is None:
                line.sending = asyncio.create_task(self._send(attempt_id, line))

    def _drop_oldest(self) -> None:
        longest = max(self._lines.values(), key=lambda line: len(line.pieces))
        self._bytes -= len(longest.pieces.popleft().data)
        if not self._dropped:
            log.warning("steps put more into their streams than the operator takes: the oldest pieces are dropped")
        self._dropped += 1

    async def _send(self, attempt_id: str, line: _Line) -> None:
        tries = 0
        try:
            while line.pieces:
                batch = _next_batch(line.pieces)
                try:
                    await self._connection.call_once(self._connection.events.PutStreamEvent, _request(batch))
                except grpc.aio.AioRpcError as error:
                    if error.code() in TRANSIENT:
                        tries += 1
                        await asyncio.sleep(delay_after(tries))
                        continue  # with whatever is still there by then
                    log.warning("a piece of a stream was refused: %s", error.details())
                tries = 0
                while line.pieces and line.pieces[0].index <= batch[-1].index:
                    self._bytes -= len(line.pieces.popleft().data)
        finally:
            self._bytes -= sum(len(piece.data) for piece in line.pieces)
            self._lines.pop(attempt_id, None)

    def under_way(self, task_run_external_id: str) -> "asyncio.Task[None] | None":
        """Return the task that ends when the operator has all chunks of an attempt; None: it has them."""
        line = self._lines.get(task_run_external_id)
        return line.sending if line is not None else None


def _next_batch(pieces: "deque[Piece]") -> list[Piece]:
    batch, size = [pieces[0]], len(pieces[0].data)
    for piece in list(pieces)[1:]:
        size += len(piece.data)
        if size > MAX_CALL_BYTES or piece.index != batch[-1].index + 1:
            break
        batch.append(piece)
    return batch


def _request(batch: list[Piece]) -> PutStreamEventRequest:
    first = batch[0]
    request = PutStreamEventRequest(
        task_run_external_id=first.task_run_external_id,
        message=first.data,
        event_index=first.index,
        more_messages=[piece.data for piece in batch[1:]],
    )
    request.created_at.FromMilliseconds(first.at)
    return request
