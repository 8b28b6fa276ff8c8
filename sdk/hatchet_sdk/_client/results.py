"""Results of runs, through one shared stream: opened at the first need, opened again whenever it breaks.

A result is handed to whoever waits at that moment and forgotten; who asks later is told by the operator again.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future

import grpc.aio

from hatchet_sdk._client.connection import TRANSIENT, Connection, delay_after, refusal
from hatchet_sdk._client.io_thread import IoThread, Mailbox, settle
from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest, WorkflowRunEvent

Waiter = tuple[SubscribeToWorkflowRunsRequest, "Future[WorkflowRunEvent]"]
_LASTED_SECONDS = 5.0  # a stream that lived so long was a good one: the next failure starts a new series


class Results:
    """Waits for the ends of runs."""

    def __init__(self, io: IoThread, connection: Connection) -> None:
        self._connection = connection
        self._mailbox: Mailbox[Waiter] = Mailbox(io, self._accept)
        self._waiting: dict[str, list[Future[WorkflowRunEvent]]] = {}
        self._to_send: asyncio.Queue[str | None] = asyncio.Queue()
        self._following: asyncio.Task[None] | None = None

    def of(self, workflow_run_id: str) -> "Future[WorkflowRunEvent]":
        """Return the future of a run's end; cancel it when nobody wants it any more.

        Raises:
            ValueError: The id can't be sent.
        """
        waiter: Future[WorkflowRunEvent] = Future()
        # Made here, where an error is the caller's: all share one stream.
        self._mailbox.put((SubscribeToWorkflowRunsRequest(workflow_run_id=workflow_run_id), waiter))
        return waiter

    def _accept(self, waiters: list[Waiter]) -> None:
        for request, waiter in waiters:
            self._waiting.setdefault(request.workflow_run_id, []).append(waiter)
        for run_id in dict.fromkeys(request.workflow_run_id for request, _ in waiters):
            # Also what is asked for already: from it the operator learns that a retried step waits again, and that it
            # needs no slot meanwhile.
            self._to_send.put_nowait(run_id)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Keep a stream open as long as somebody waits."""
        tries = 0
        clock = asyncio.get_running_loop().time
        while self._forget_the_gone():
            opened_at = clock()
            reason: str | None = "the stream ended"
            try:
                if await self._one_stream():
                    tries = 0
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    self._fail_all(refusal(error.code(), error.details()))
                    return
                reason = error.details()
            except Exception as error:
                self._fail_all(error)  # nobody may wait for what will not come
                raise
            tries = 1 if clock() - opened_at > _LASTED_SECONDS else tries + 1
            if self._waiting:
                self._connection.complain(reason)
                await asyncio.sleep(delay_after(tries))

    async def _one_stream(self) -> bool:
        """Ask for everything awaited and deliver until the stream ends; tell whether anything came."""
        ids: asyncio.Queue[str | None] = asyncio.Queue()
        for run_id in self._waiting:
            ids.put_nowait(run_id)
        self._to_send = ids
        came = False
        call = self._connection.dispatcher.SubscribeToWorkflowRuns(_requests(ids), metadata=self._connection.metadata)
        try:
            async for event in call:
                came = True
                for waiter in self._waiting.pop(event.workflow_run_id, ()):
                    settle(waiter, event)
        finally:
            ids.put_nowait(None)  # ends the writer, which would otherwise wait for ever
        return came

    def _forget_the_gone(self) -> bool:
        awaited = {id_: [waiter for waiter in waiters if not waiter.done()] for id_, waiters in self._waiting.items()}
        self._waiting = {id_: waiters for id_, waiters in awaited.items() if waiters}
        return bool(self._waiting)

    def _fail_all(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiters in waiting.values():
            for waiter in waiters:
                settle(waiter, error)


async def _requests(ids: "asyncio.Queue[str | None]") -> AsyncIterator[SubscribeToWorkflowRunsRequest]:
    while (run_id := await ids.get()) is not None:
        yield SubscribeToWorkflowRunsRequest(workflow_run_id=run_id)
