"""Requests for new runs. Those made together are sent together; each is answered, retried and refused on its own."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import grpc.aio
from grpc import StatusCode

from hatchet_sdk._client.connection import TRANSIENT, Connection, delay_after, refusal
from hatchet_sdk._client.io_thread import IoThread, Mailbox, settle
from hatchet_sdk._client.payloads import Payloads
from hatchet_sdk.contracts.workflows_pb2 import BulkTriggerWorkflowRequest, TriggerWorkflowRequest
from hatchet_sdk.errors import AttemptCancelled, AttemptSuperseded, RequestRefused, SpawnConflict, WorkflowNotFound

MAX_BATCH_ITEMS = 100  # the protocol allows 1000; smaller batches are answered sooner
MAX_BATCH_BYTES = 3 * 1024 * 1024  # gRPC servers accept 4 MiB
MAX_BATCHES_UNDER_WAY = 4

_REFUSALS: Mapping[StatusCode, type[RequestRefused]] = {
    StatusCode.NOT_FOUND: WorkflowNotFound,
    StatusCode.ALREADY_EXISTS: SpawnConflict,
    StatusCode.FAILED_PRECONDITION: AttemptSuperseded,
}
_CODES = {code.value[0]: code for code in StatusCode}


@dataclass(kw_only=True, eq=False, slots=True)
class Trigger:
    """One request for a run, and the future of its id."""

    request: TriggerWorkflowRequest
    is_wanted: Callable[[], bool]
    patience_seconds: float | None  # None: for as long as it is wanted
    answer: "Future[str]" = field(default_factory=Future)
    give_up_at: float | None = None
    tries: int = 0
    owner: str = ""  # the owner of a large input
    is_light: bool = False  # once it is answered: the run has no object yet, and may have to be started again

    def again(self) -> "Trigger":
        """Return the same trigger, not sent yet."""
        return replace(self, answer=Future(), tries=0, give_up_at=None)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no id."""

    code: StatusCode
    message: str | None


class Triggers:
    """Sends triggers in batches, in the order of the calls, a few batches at a time."""

    def __init__(self, io: IoThread, connection: Connection, payloads: Payloads) -> None:
        self.mailbox = Mailbox(io, self._accept)
        self._connection = connection
        self._payloads = payloads
        self._waiting: deque[Trigger] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._storing: set[asyncio.Task[None]] = set()

    def _accept(self, triggers: list[Trigger]) -> None:
        now = asyncio.get_running_loop().time()
        for trigger in triggers:
            if trigger.patience_seconds is not None:
                trigger.give_up_at = now + trigger.patience_seconds
            if self._payloads.is_large(trigger.request.input):
                self._begin(self._store_input(trigger))
            else:
                self._waiting.append(trigger)
        self._dispatch()

    async def _store_input(self, trigger: Trigger) -> None:
        """Have a large input stored before its request is sent; others overtake it."""
        request = trigger.request
        try:
            request.input = await self._payloads.keep(
                trigger.owner, request.input, is_wanted=trigger.is_wanted, give_up_at=trigger.give_up_at
            )
        except Exception as error:  # noqa: BLE001 - nobody may wait for what will not come
            settle(trigger.answer, error)
            return
        self._waiting.append(trigger)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and len(self._under_way) < MAX_BATCHES_UNDER_WAY:
            if batch := self._next_batch():
                task = asyncio.create_task(self._send(batch))
                self._under_way.add(task)
                task.add_done_callback(self._sent)

    def _begin(self, storing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(storing)
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self._dispatch()
            task.result()

    def _next_batch(self) -> list[Trigger]:
        batch: list[Trigger] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_ITEMS:
            trigger = self._waiting[0]
            size += trigger.request.ByteSize()
            if batch and size > MAX_BATCH_BYTES:
                break
            self._waiting.popleft()
            if trigger.is_wanted():
                batch.append(trigger)
            else:
                settle(
                    trigger.answer, AttemptCancelled(f'spawn of "{trigger.request.name}": the attempt was cancelled')
                )
        return batch

    async def _send(self, batch: list[Trigger]) -> None:
        try:
            answers = await self._request(batch)
        except Exception as error:
            for trigger in batch:
                settle(trigger.answer, error)  # nobody may wait for what will not come
            raise
        repeat: list[Trigger] = []
        for trigger, answer in zip(batch, answers, strict=True):
            if isinstance(answer, str):
                settle(trigger.answer, answer)
            elif answer.code not in TRANSIENT:
                settle(trigger.answer, refusal(answer.code, answer.message, _REFUSALS))
            else:
                self._connection.complain(answer.message)
                self._repeat_later(trigger, answer, repeat)
        if repeat:
            # Not here: a batch that waits must not keep others from being sent.
            delay = delay_after(min(trigger.tries for trigger in repeat))
            asyncio.get_running_loop().call_later(delay, self._requeue, repeat)

    def _repeat_later(self, trigger: Trigger, failure: Failure, repeat: list[Trigger]) -> None:
        trigger.tries += 1
        if trigger.give_up_at is not None and asyncio.get_running_loop().time() > trigger.give_up_at:
            settle(trigger.answer, self._connection.unavailable(failure.message))
        else:
            repeat.append(trigger)

    def _requeue(self, triggers: list[Trigger]) -> None:
        self._waiting.extendleft(reversed(triggers))
        self._dispatch()

    async def _request(self, batch: list[Trigger]) -> list[str | Failure]:
        stub = self._connection.workflows
        try:
            if len(batch) == 1:
                answer = await self._connection.call_once(stub.TriggerWorkflow, batch[0].request)
                batch[0].is_light = answer.is_light
                return [answer.workflow_run_id]
            bulk = BulkTriggerWorkflowRequest(workflows=[trigger.request for trigger in batch], errors_per_item=True)
            answers = await self._connection.call_once(stub.BulkTriggerWorkflow, bulk)
        except grpc.aio.AioRpcError as error:
            return [Failure(error.code(), error.details())] * len(batch)
        found: list[str | Failure] = list(answers.workflow_run_ids)
        if len(found) != len(batch):
            return [Failure(StatusCode.UNKNOWN, "the operator answered a different number of items")] * len(batch)
        for position in answers.light:
            batch[position].is_light = True
        for error_of in answers.errors:
            found[error_of.index] = Failure(_CODES.get(error_of.code, StatusCode.UNKNOWN), error_of.message)
        return found
