"""One operator as this process sees it. Every method may be called from any thread and returns a future."""

import asyncio
import os
from concurrent.futures import Future

from hatchet_sdk._client import forks
from hatchet_sdk._client.config import ClientConfig, endpoint_of
from hatchet_sdk._client.connection import Connection
from hatchet_sdk._client.io_thread import io_thread
from hatchet_sdk._client.logs import Logs
from hatchet_sdk._client.options import ChildTriggerWorkflowOptions, SpawningAttempt, TriggerWorkflowOptions
from hatchet_sdk._client.requests import child_request, duration_text, root_request
from hatchet_sdk._client.results import Results
from hatchet_sdk._client.triggers import Trigger, Triggers
from hatchet_sdk.contracts.dispatcher_pb2 import (
    RefreshTimeoutRequest,
    RefreshTimeoutResponse,
    ReleaseSlotRequest,
    ReleaseSlotResponse,
    WorkflowRunEvent,
)
from hatchet_sdk.contracts.events_pb2 import PutLogRequest

RUN_PATIENCE_SECONDS = 60.0  # of a caller outside a step, who should learn of a wrong address


class Client:
    """Runs, results and logs over one connection."""

    def __init__(self, config: ClientConfig) -> None:
        self.endpoint = endpoint_of(config, os.environ)
        self.io = io_thread()
        self.connection = self.io.submit(self._connect()).result()
        self._triggers = Triggers(self.io, self.connection)
        self._results = Results(self.io, self.connection)
        self.logs = Logs(self.io, self.connection)

    async def _connect(self) -> Connection:
        return Connection(self.endpoint)  # here, since a channel belongs to the loop that is running

    def prepare_run(self, name: str, input: object, options: TriggerWorkflowOptions | None) -> Trigger:
        """Make a root run's trigger; nothing is sent."""
        request = root_request(name, input, options)
        request.name = self.endpoint.prefixed(name)
        return Trigger(request=request, is_wanted=lambda: True, patience_seconds=RUN_PATIENCE_SECONDS)

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
        """Make a child run's trigger, repeated as long as the parent's attempt is current; nothing is sent."""
        request = child_request(name, input, key=key, index=index, options=options, parent=parent)
        request.name = self.endpoint.prefixed(name)
        return Trigger(request=request, is_wanted=parent.is_current, patience_seconds=None)

    def trigger(self, triggers: list[Trigger], *, with_others: bool) -> "list[Future[str]]":
        """Send triggers, ``with_others`` of this turn of the caller's event loop or at once."""
        put = self._triggers.mailbox.put_with_others if with_others else self._triggers.mailbox.put
        put(*triggers)
        return [trigger.answer for trigger in triggers]

    def refuse_to_block_steps(self) -> None:
        """Raise in an async step: while its loop is blocked, no other async step of this worker runs."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if forks.is_step_loop(running):
            raise RuntimeError(
                "sync_result() in an async step would block every async step of this worker, perhaps the very one "
                'it waits for; write "await ref.result()"'
            )

    def end_of_run(self, workflow_run_id: str) -> "Future[WorkflowRunEvent]":
        return self._results.of(workflow_run_id)

    def refresh_timeout(self, task_run_external_id: str, increment: str) -> "Future[RefreshTimeoutResponse]":
        increment = duration_text(increment, what=f"refresh_timeout({increment!r}): increment_by")
        request = RefreshTimeoutRequest(task_run_external_id=task_run_external_id, increment_timeout_by=increment)
        return self.io.submit(self.connection.call(self.connection.dispatcher.RefreshTimeout, request))

    def release_slot(self, task_run_external_id: str) -> "Future[ReleaseSlotResponse]":
        request = ReleaseSlotRequest(task_run_external_id=task_run_external_id)
        return self.io.submit(self.connection.call(self.connection.dispatcher.ReleaseSlot, request))

    def put_log(self, task_run_external_id: str, message: str, retry_count: int) -> None:
        line = PutLogRequest(
            task_run_external_id=task_run_external_id,
            message=message,
            task_retry_count=retry_count,
        )
        line.created_at.GetCurrentTime()
        self.logs.mailbox.put(line)
