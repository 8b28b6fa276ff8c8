"""What happens in a run while it is running, as an iterator: reopened whenever it breaks, from where it was."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import grpc.aio

from hatchet_sdk._client.connection import TRANSIENT, delay_after, refusal
from hatchet_sdk._client.stream_events import StepRunEvent, StepRunEventType, WorkflowRunEventType
from hatchet_sdk.contracts import dispatcher_pb2 as wire

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client

_LASTED_SECONDS = 5.0
_READ_AHEAD = 100


class RunStream:
    """What happens in a run, or in runs with an entry of metadata, to their end: ``async for``, or ``for`` elsewhere.

    What the run's steps published before comes first, as far as the operator still has it.

    Args:
        client: The client that listens.
        request: Which runs to listen to.
        on_block: Told of what a thread waits for.
    """

    def __init__(
        self,
        client: "Client",
        request: wire.SubscribeToWorkflowEventsRequest,
        *,
        on_block: "Callable[[Future[Any]], None] | None" = None,
    ) -> None:
        self._client = client
        self._request = request
        self._on_block = on_block

    async def __aiter__(self) -> AsyncIterator[StepRunEvent]:
        with _Following(self._client, self._request) as following:
            while (event := await asyncio.wrap_future(following.next())) is not None:
                yield event

    def __iter__(self) -> Iterator[StepRunEvent]:
        self._client.refuse_to_block_steps("for … in ref.stream()", 'write "async for … in ref.stream()"')
        with _Following(self._client, self._request) as following:
            while True:
                waiting = following.next()
                if self._on_block is not None:
                    self._on_block(waiting)
                if (event := waiting.result()) is None:
                    return
                yield event


class _Following:
    """One iteration: keeps a stream open in the I/O loop, a few events ahead of the reader."""

    def __init__(self, client: "Client", request: wire.SubscribeToWorkflowEventsRequest) -> None:
        self._client = client
        self._request = wire.SubscribeToWorkflowEventsRequest()
        self._request.CopyFrom(request)
        self._told: set[tuple[str, int]] = set()  # events of attempts: a reopened stream may repeat them
        self._ahead: asyncio.Queue[StepRunEvent | Exception | None] = asyncio.Queue(_READ_AHEAD)
        self._keeping: Future[None] | None = None

    def __enter__(self) -> "_Following":
        self._keeping = self._client.io.submit(self._keep())
        return self

    def __exit__(self, *error: object) -> None:
        if self._keeping is not None:
            self._keeping.cancel()

    def next(self) -> "Future[StepRunEvent | None]":
        """Return the future of the next event; None: there is none after the last."""
        return self._client.io.submit(self._next())

    async def _next(self) -> StepRunEvent | None:
        event = await self._ahead.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def _keep(self) -> None:
        connection, tries, clock = self._client.connection, 0, asyncio.get_running_loop().time
        while True:
            opened_at = clock()
            reason: str | None = "the stream ended"
            try:
                if await self._one_stream():
                    await self._ahead.put(None)
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    await self._ahead.put(refusal(error.code(), error.details()))
                    return
                reason = error.details()
            except Exception as error:
                await self._ahead.put(error)  # nobody may wait for what will not come
                raise
            tries = 1 if clock() - opened_at > _LASTED_SECONDS else tries + 1
            connection.complain(reason)
            await asyncio.sleep(delay_after(tries))

    async def _one_stream(self) -> bool:
        """Read one stream; return whether it reached the end of what was requested."""
        connection = self._client.connection
        call = connection.dispatcher.SubscribeToWorkflowEvents(self._request, metadata=connection.metadata)
        async for event in call:
            if self._is_new(event):
                await self._ahead.put(_event(event))
            if event.hangup:
                return True
        return False

    def _is_new(self, event: wire.WorkflowEvent) -> bool:
        if event.event_type == wire.RESOURCE_EVENT_TYPE_STREAM:
            self._request.seen[event.resource_id] = event.event_index
            return True
        key = (event.resource_id, event.event_type)
        is_new = key not in self._told
        self._told.add(key)
        return is_new


def _event(event: wire.WorkflowEvent) -> StepRunEvent:
    ending = wire.ResourceEventType.Name(event.event_type).removeprefix("RESOURCE_EVENT_TYPE_")
    of_run = event.resource_type == wire.RESOURCE_TYPE_WORKFLOW_RUN
    return StepRunEvent(
        type=WorkflowRunEventType(f"WORKFLOW_RUN_EVENT_TYPE_{ending}")
        if of_run
        else StepRunEventType(f"STEP_RUN_EVENT_TYPE_{ending}"),
        payload=event.event_payload,
        step=event.step,
        retry_count=event.retry_count,
        workflow_run_id=event.workflow_run_id,
    )
