"""One operator as this process sees it. Every method may be called from any thread and returns a future."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from hatchet_sdk._client import forks
from hatchet_sdk._client.config import ClientConfig, endpoint_of
from hatchet_sdk._client.connection import Connection
from hatchet_sdk._client.events import Event
from hatchet_sdk._client.io_thread import io_thread
from hatchet_sdk._client.logs import Logs
from hatchet_sdk._client.options import (
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    SpawningAttempt,
    TriggerWorkflowOptions,
)
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._client.payloads import Payloads
from hatchet_sdk._client.puts import Chunk, Puts
from hatchet_sdk._client.requests import (
    child_request,
    child_schedule_request,
    duration_text,
    labels_message,
    root_request,
    schedule_request,
)
from hatchet_sdk._client.results import Results
from hatchet_sdk._client.run_calls import RunCalls
from hatchet_sdk._client.streams import RunStream
from hatchet_sdk._client.triggers import Trigger, Triggers
from hatchet_sdk.contracts.dispatcher_pb2 import (
    RefreshTimeoutRequest,
    RefreshTimeoutResponse,
    ReleaseSlotRequest,
    ReleaseSlotResponse,
    SubscribeToWorkflowEventsRequest,
    UpsertWorkerLabelsRequest,
    WorkflowRunEvent,
)
from hatchet_sdk.contracts.events_pb2 import BulkPushEventRequest, PushEventRequest, PutLogRequest
from hatchet_sdk.contracts.workflows_pb2 import PutRateLimitRequest, ScheduleWorkflowRequest
from hatchet_sdk.payloads.reference import owner_of_request


class Client:
    """Runs, results and logs over one connection."""

    def __init__(self, config: ClientConfig, pace: Pace) -> None:
        self.pace = pace
        self.endpoint = endpoint_of(config, os.environ)
        self.io = io_thread()
        self.connection = self.io.submit(self._connect()).result()
        self.payloads = Payloads(self.endpoint)
        self._triggers = Triggers(self.io, self.connection, self.payloads)
        self._results = Results(self.io, self.connection, self.payloads, trigger=self._triggers.mailbox.put)
        self.logs = Logs(self.io, self.connection)
        self.puts = Puts(self.io, self.connection)
        self.runs = RunCalls(self.io, self.connection, prefixed=self.endpoint.prefixed, patience_seconds=pace.patience)

    async def _connect(self) -> Connection:
        return Connection(self.endpoint, self.pace)  # here, since a channel belongs to the loop that is running

    def prepare_run(self, name: str, input: object, options: TriggerWorkflowOptions | None) -> Trigger:
        """Build a root run's trigger; nothing is sent."""
        request = root_request(name, input, options, max_bytes=self.payloads.max_bytes)
        request.name = self.endpoint.prefixed(name)
        owner = owner_of_request(request.request_id)
        return Trigger(request=request, is_wanted=lambda: True, patience_seconds=self.pace.patience, owner=owner)

    def prepare_spawn(
        self,
        name: str,
        input: object,
        *,
        key: str | None,
        index: int,
        options: ChildTriggerWorkflowOptions | None,
        parent: SpawningAttempt,
    ) -> Trigger:
        """Build a child run's trigger, retried as long as the parent's attempt is current; nothing is sent."""
        request = child_request(
            name, input, key=key, index=index, options=options, parent=parent, max_bytes=self.payloads.max_bytes
        )
        request.name = self.endpoint.prefixed(name)
        owner = _owner_of_children(parent)
        return Trigger(request=request, is_wanted=parent.is_current, patience_seconds=None, owner=owner)

    def trigger(self, triggers: list[Trigger], *, with_others: bool) -> "list[Future[str]]":
        """Send triggers, at once or ``with_others`` of this turn of the caller's event loop."""
        put = self._triggers.mailbox.put_with_others if with_others else self._triggers.mailbox.put
        put(*triggers)
        return [trigger.answer for trigger in triggers]

    def refuse_to_block_steps(self, what: str = "sync_result()", instead: str = 'write "await ref.result()"') -> None:
        """Raise in an async step: while its loop is blocked, no other async step of this worker runs."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if forks.is_step_loop(running):
            raise RuntimeError(
                f"{what} in an async step would block every async step of this worker, perhaps the very one it waits "
                f"for; {instead}"
            )

    def end_of_run(self, workflow_run_id: str, *, again: Trigger | None = None) -> "Future[WorkflowRunEvent]":
        return self._results.of(workflow_run_id, again=again)

    def stream_of_run(
        self, workflow_run_id: str, *, on_block: "Callable[[Future[Any]], None] | None" = None
    ) -> RunStream:
        return RunStream(self, SubscribeToWorkflowEventsRequest(workflow_run_id=workflow_run_id), on_block=on_block)

    def stream_of_metadata(self, key: str, value: str) -> RunStream:
        request = SubscribeToWorkflowEventsRequest(additional_meta_key=key, additional_meta_value=value)
        return RunStream(self, request)

    def put_stream(self, task_run_external_id: str, index: int, data: bytes) -> None:
        self.puts.mailbox.put(Chunk(task_run_external_id, index, data, at=int(time.time() * 1000)))

    def refresh_timeout(self, task_run_external_id: str, increment: str) -> "Future[RefreshTimeoutResponse]":
        increment = duration_text(increment, what=f"refresh_timeout({increment!r}): increment_by")
        request = RefreshTimeoutRequest(task_run_external_id=task_run_external_id, increment_timeout_by=increment)
        return self.io.submit(self.connection.call(self.connection.dispatcher.RefreshTimeout, request))

    def release_slot(self, task_run_external_id: str) -> "Future[ReleaseSlotResponse]":
        request = ReleaseSlotRequest(task_run_external_id=task_run_external_id)
        return self.io.submit(self.connection.call(self.connection.dispatcher.ReleaseSlot, request))

    def upsert_worker_labels(self, worker_id: str, labels: Mapping[str, str | int]) -> "Future[object]":
        request = UpsertWorkerLabelsRequest(worker_id=worker_id, labels=labels_message(labels))
        return self.io.submit(self._upsert_labels(request))

    async def _upsert_labels(self, request: UpsertWorkerLabelsRequest) -> object:
        return await self.connection.call(self.connection.dispatcher.UpsertWorkerLabels, request)

    def schedule(
        self, name: str, schedules: Sequence[datetime], input: object, options: TriggerWorkflowOptions | None
    ) -> "Future[list[str]]":
        request = schedule_request(
            name, schedules, {} if input is None else input, options, max_bytes=self.payloads.max_bytes
        )
        return self._send_schedule(request, owner=owner_of_request(request.request_id))

    def schedule_children(
        self,
        name: str,
        schedules: Sequence[datetime],
        input: object,
        *,
        key: str | None,
        index: int,
        options: ChildScheduleWorkflowOptions | None,
        parent: SpawningAttempt,
    ) -> "Future[list[str]]":
        request = child_schedule_request(
            name,
            schedules,
            input,
            key=key,
            index=index,
            options=options,
            parent=parent,
            max_bytes=self.payloads.max_bytes,
        )
        return self._send_schedule(request, owner=_owner_of_children(parent))

    def _send_schedule(self, request: ScheduleWorkflowRequest, *, owner: str) -> "Future[list[str]]":
        request.name = self.endpoint.prefixed(request.name)
        return self.io.submit(self._schedule(request, owner))

    async def _schedule(self, request: ScheduleWorkflowRequest, owner: str) -> list[str]:
        if self.payloads.is_large(request.input):
            give_up_at = asyncio.get_running_loop().time() + self.pace.patience
            request.input = await self.payloads.keep(owner, request.input, give_up_at=give_up_at)
        method = self.connection.workflows.ScheduleWorkflow
        answer = await self.connection.call(method, request, patience_seconds=self.pace.patience)
        return [scheduled.id for scheduled in answer.scheduled_workflows]

    def put_rate_limit(self, request: PutRateLimitRequest) -> "Future[None]":
        return self.io.submit(self._put_rate_limit(request))

    async def _put_rate_limit(self, request: PutRateLimitRequest) -> None:
        await self.connection.call(self.connection.workflows.PutRateLimit, request, patience_seconds=self.pace.patience)

    def push_events(self, requests: list[PushEventRequest]) -> "Future[list[Event]]":
        return self.io.submit(self._push(BulkPushEventRequest(events=requests)))

    async def _push(self, request: BulkPushEventRequest) -> list[Event]:
        method = self.connection.events.BulkPush
        answer = await self.connection.call(method, request, patience_seconds=self.pace.patience)
        return [Event(event_id=event.event_id, key=event.key) for event in answer.events]

    def put_log(self, task_run_external_id: str, message: str, retry_count: int) -> None:
        line = PutLogRequest(
            task_run_external_id=task_run_external_id,
            message=message,
            task_retry_count=retry_count,
        )
        line.created_at.GetCurrentTime()
        self.logs.mailbox.put(line)


def _owner_of_children(parent: SpawningAttempt) -> str:
    """Return the owner of large inputs of children: their parent, since they have no UID yet."""
    return parent.run_uid or owner_of_request(parent.workflow_run_id)
