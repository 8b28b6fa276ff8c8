"""Results of runs, through one shared stream: opened on first use, reopened whenever it breaks.

A result is passed to those waiting at that moment and forgotten; the operator tells it again to those that ask later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any

import grpc.aio

from hatchet_sdk._client.connection import TRANSIENT, Connection, delay_after, refusal
from hatchet_sdk._client.io_thread import IoThread, Mailbox, settle
from hatchet_sdk._client.payloads import Payloads
from hatchet_sdk._client.triggers import Trigger
from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest, WorkflowRunEvent

_MOST_AT_ONCE = 1000  # of names of 63 characters at most: no large message
Waiter = tuple[SubscribeToWorkflowRunsRequest, "Future[WorkflowRunEvent]", Trigger | None]
_LASTED_SECONDS = 5.0  # a stream that lived this long was a good one: the next failure starts a new series


class Results:
    """Waits for the ends of runs."""

    def __init__(
        self, io: IoThread, connection: Connection, payloads: Payloads, *, trigger: Callable[[Trigger], None]
    ) -> None:
        self._trigger = trigger
        self._again: dict[str, Trigger] = {}  # awaited runs without an object, which may have to be started again
        self._connection = connection
        self._payloads = payloads
        self._background: set[asyncio.Task[None]] = set()
        self._mailbox: Mailbox[Waiter] = Mailbox(io, self._accept)
        self._waiting: dict[str, list[Future[WorkflowRunEvent]]] = {}
        self._questions = Questions()
        self._following: asyncio.Task[None] | None = None

    def of(self, workflow_run_id: str, *, again: Trigger | None = None) -> "Future[WorkflowRunEvent]":
        """Return the future of a run's end; cancel it when it is no longer wanted.

        Args:
            workflow_run_id: The run.
            again: What starts it, if it had no object: it is sent again if the operator ended before it made one.

        Raises:
            ValueError: The id can't be sent.
        """
        waiter: Future[WorkflowRunEvent] = Future()
        # Made here, so that an error is the caller's own: all share one stream.
        self._mailbox.put((SubscribeToWorkflowRunsRequest(workflow_run_id=workflow_run_id), waiter, again))
        return waiter

    def _accept(self, waiters: list[Waiter]) -> None:
        for request, waiter, again in waiters:
            self._waiting.setdefault(request.workflow_run_id, []).append(waiter)
            if again is not None:
                self._again[request.workflow_run_id] = again
        self._ask_for(dict.fromkeys(request.workflow_run_id for request, *_ in waiters))

    def _ask_for(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            # Also for what is awaited already: this tells the operator that a retried step waits again, and that it
            # needs no slot meanwhile.
            self._questions.put(run_id)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Keep a stream open as long as anything is awaited."""
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
        """Ask for everything awaited and deliver until the stream ends; return whether anything came."""
        questions = self._questions = Questions()
        for run_id in self._waiting:
            questions.put(run_id)
        came = False
        call = self._connection.dispatcher.SubscribeToWorkflowRuns(
            questions.requests(), metadata=self._connection.metadata
        )
        try:
            async for event in call:
                if event.takes_many:
                    questions.many_at_once = True
                    continue
                came = True
                for end in (event, *event.more):
                    self._tell(end, self._waiting.pop(end.workflow_run_id, []))
        finally:
            questions.end()
        return came

    def _tell(self, event: WorkflowRunEvent, waiters: "list[Future[WorkflowRunEvent]]") -> None:
        again = self._again.pop(event.workflow_run_id, None)
        if event.is_unknown and again is not None and waiters:
            self._in_background(self._begin_again(event.workflow_run_id, again.again(), waiters))
            return
        if waiters and any(self._payloads.is_reference(step.output) for step in event.results):
            self._in_background(self._read_and_tell(event, waiters))
            return
        for waiter in waiters:
            settle(waiter, event)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _begin_again(self, run_id: str, again: Trigger, waiters: "list[Future[WorkflowRunEvent]]") -> None:
        """Start a run again that was lost with the operator, or find it, and go on awaiting it."""
        self._trigger(again)
        try:
            await asyncio.wrap_future(again.answer)
        except Exception as error:  # noqa: BLE001 - nobody may wait for what will not come
            for waiter in waiters:
                settle(waiter, error)
            return
        self._waiting.setdefault(run_id, []).extend(waiters)
        if again.is_light:
            self._again[run_id] = again
        self._ask_for([run_id])

    async def _read_and_tell(self, event: WorkflowRunEvent, waiters: "list[Future[WorkflowRunEvent]]") -> None:
        """Deliver an end with what steps returned, once that has been read from the store."""
        told: WorkflowRunEvent | Exception = event
        try:
            for step in event.results:
                if self._payloads.is_reference(step.output):
                    step.output = await self._payloads.text(
                        step.output, is_wanted=lambda: not all(waiter.done() for waiter in waiters)
                    )
        except Exception as error:  # noqa: BLE001 - nobody may wait for what will not come
            told = error
        for waiter in waiters:
            settle(waiter, told)

    def _forget_the_gone(self) -> bool:
        awaited = {id_: [waiter for waiter in waiters if not waiter.done()] for id_, waiters in self._waiting.items()}
        self._waiting = {id_: waiters for id_, waiters in awaited.items() if waiters}
        self._again = {id_: again for id_, again in self._again.items() if id_ in self._waiting}
        return bool(self._waiting)

    def _fail_all(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiters in waiting.values():
            for waiter in waiters:
                settle(waiter, error)


class Questions:
    """The runs that are asked for on one stream.

    Each is asked for alone until the operator says on this stream that it takes many: one that does not would read the
    first of them.
    """

    def __init__(self) -> None:
        self._ids: asyncio.Queue[str | None] = asyncio.Queue()
        self.many_at_once = False

    def put(self, run_id: str) -> None:
        self._ids.put_nowait(run_id)

    def end(self) -> None:
        """End the writer, which would otherwise wait forever."""
        self._ids.put_nowait(None)

    async def requests(self) -> AsyncIterator[SubscribeToWorkflowRunsRequest]:
        while (run_id := await self._ids.get()) is not None:
            request = SubscribeToWorkflowRunsRequest(workflow_run_id=run_id)
            while self.many_at_once and not self._ids.empty() and len(request.more_ids) < _MOST_AT_ONCE:
                if (another := self._ids.get_nowait()) is None:
                    yield request
                    return
                request.more_ids.append(another)
            yield request
