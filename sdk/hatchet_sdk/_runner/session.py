"""A worker's conversation with the operator: register, take attempts, report how they ended, stay known.

    register ──► listen ──► stream lost: reconnect, saying what is held
       ▲           │
       └───────────┴── NOT_FOUND (the operator forgot this worker): register again under the same id

Everything here runs in the I/O thread's loop. An attempt stays *held* from its assignment until its outcome is
acknowledged, across any number of streams; an id that is held or was just done is never run a second time.
"""

import asyncio
import contextlib
import contextvars
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc import StatusCode

from hatchet_sdk._client.client import Client
from hatchet_sdk._client.connection import delay_after, delays, log
from hatchet_sdk._client.io_thread import Mailbox
from hatchet_sdk._runner.assignment import Assignment
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.definition import Step, WorkflowDefinition, action_id
from hatchet_sdk._runner.execution import Attempt, Ending, Execution, Outcome
from hatchet_sdk._runner.health import WorkerState
from hatchet_sdk._runner.held import HeldAttempts
from hatchet_sdk._runner.registration import put_workflow_request, register_request
from hatchet_sdk._runner.reports import Reports
from hatchet_sdk._runner.tally import Tally
from hatchet_sdk._runner.worker_labels import WorkerContext
from hatchet_sdk.contracts.dispatcher_pb2 import (
    CANCEL_STEP_RUN,
    START_STEP_RUN,
    AssignedAction,
    HeartbeatRequest,
    HeldAttempt,
    WorkerListenRequest,
    WorkerUnsubscribeRequest,
)
from hatchet_sdk.errors import AttemptCancelled, HatchetError, PayloadError, StepsOverran

HEARTBEAT_TIMEOUT_SECONDS = 5.0
LOST_HEARTBEATS = 3  # after this many the stream is considered dead, whatever TCP says
UNSUBSCRIBE_SECONDS = 5.0
FLUSH_SECONDS = 1.0
OVERRUN_TOLD_SECONDS = 0.5  # after a CANCEL that did not end the step: before the operator assigns its next attempt
DEFAULT_SLOTS = 100  # of an operator that does not say
_LASTED_SECONDS = 5.0

Ended = tuple[Attempt, Outcome | None]


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How the worker identifies itself."""

    name: str
    max_runs: int | None
    max_overruns: int | None
    labels: Mapping[str, str | int]


class Session:
    """One worker's life with the operator, from registration to the last acknowledged result."""

    def __init__(
        self,
        client: Client,
        options: WorkerOptions,
        workflows: Sequence[tuple[WorkflowDefinition, object]],
        step_loop: asyncio.AbstractEventLoop,
        variables: contextvars.Context,
        *,
        when_registered: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._connection = client.connection
        self._pace = client.pace
        self._payloads = client.payloads
        self._options = options
        self._definitions = [definition for definition, _ in workflows]
        self._steps: dict[str, tuple[Step, object, type[Any] | None]] = {
            action_id(client.endpoint.prefixed(definition.name), step): (step, workflow, definition.input_validator)
            for definition, workflow in workflows
            for step in definition.all_steps
        }
        ended: Mailbox[Ended] = Mailbox(client.io, self._take_outcomes)
        self._execution = Execution(step_loop, variables, lambda attempt, outcome: ended.put((attempt, outcome)))
        self._labels = dict(options.labels)
        self._held = HeldAttempts()
        self._reports = Reports(client, self._held, lambda: self._worker_id)
        self._worker_id = str(uuid.uuid4())  # chosen by us, so that a repeated Register is recognized as the same one
        self._is_known = False
        self._stream: grpc.aio.UnaryStreamCall[WorkerListenRequest, AssignedAction] | None = None
        self._stopping = asyncio.Event()
        self._has_ended = False  # it begins nothing more
        self._when_registered = when_registered
        self._beat_now = asyncio.Event()
        self._overrunning = 0  # as the operator was told last
        self._slots = options.max_runs or DEFAULT_SLOTS
        self._overran: StepsOverran | None = None
        self.tally = Tally()

    def state(self) -> WorkerState:
        """Return where the worker stands; from any thread."""
        held = list(self._held)
        running = sum(not attempt.has_ended for attempt in held)
        return WorkerState(
            name=self._options.name,
            is_connected=self._stream is not None and self._is_known,
            is_stopping=self._stopping.is_set(),
            slots=self._slots,
            running=running,
            unreported=len(held) - running,
        )

    async def run(self) -> None:
        """Work until stopped and idle.

        Raises:
            HatchetError: The operator refused the registration, or too many steps overran.
        """
        listening = asyncio.create_task(self._stay_connected())
        beating = asyncio.create_task(self._keep_beating())
        stopping = asyncio.create_task(self._stop_when_asked())
        tasks = (listening, beating, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            for attempt in self._held:  # those that outstayed their cancelling, or, cancelled ourselves, all
                self._execution.abandon(attempt)
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._overran is not None:
            raise self._overran

    def stop(self) -> None:
        """Take nothing new, finish what is held, and tell the operator so."""
        self._stopping.set()
        for attempt in self._held:
            attempt.context._announce_stop()

    async def _stop_when_asked(self) -> None:
        await self._stopping.wait()
        log.info("worker %s stops: finishing %d attempts", self._options.name, len(self._held.unfinished()))
        await self._unsubscribe()
        while self._held.unfinished() or self._reports.are_under_way:
            self._held.changed.clear()
            await self._held.changed.wait()
        self._has_ended = True  # what comes from now on is for another worker
        if not self._reports.gave_up:
            await self._unsubscribe()
        await asyncio.wait([asyncio.create_task(self._client.logs.flush())], timeout=FLUSH_SECONDS)

    async def _unsubscribe(self) -> None:
        if not self._is_known:
            return
        request = WorkerUnsubscribeRequest(worker_id=self._worker_id, has_ended=self._has_ended or None)
        try:
            await self._connection.call(
                self._connection.dispatcher.Unsubscribe, request, patience_seconds=UNSUBSCRIBE_SECONDS
            )
        except HatchetError as error:
            log.warning("worker %s could not sign off: %s", self._options.name, error)

    # Registration

    async def _register(self) -> None:
        prefix = self._client.endpoint.prefix
        versions = [
            await self._connection.call(
                self._connection.workflows.PutWorkflow, put_workflow_request(definition, prefix=prefix)
            )
            for definition in self._definitions
        ]
        request = register_request(
            self._worker_id,
            name=prefix + self._options.name,
            actions=self._steps,
            max_runs=self._options.max_runs,
            labels=self._labels,
            versions=[version.id for version in versions],
        )
        answer = await self._connection.call(self._connection.dispatcher.Register, request)
        self._worker_id = answer.worker_id
        if answer.HasField("slots"):
            self._slots = answer.slots
        if self._count_overruns():
            self._beat_now.set()  # the operator may be another one by now
        self._is_known = True
        self._when_registered()
        log.info("worker %s registered at %s as %s", self._options.name, self._connection.address, self._worker_id)

    async def _register_again(self) -> None:
        """Register once more; having attempts to finish, this worker does not give up when a new one would."""
        for delay in delays():
            try:
                await self._register()
                break
            except HatchetError as error:
                log.error("worker %s was refused, trying again: %s", self._options.name, error)
            await asyncio.sleep(delay)

    async def _keep_beating(self) -> None:
        lost = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.heartbeat):
                    await self._beat_now.wait()
            self._beat_now.clear()
            if not self._is_known:
                continue
            self._overrunning = self._count_overruns()
            beat = HeartbeatRequest(worker_id=self._worker_id, overrunning=self._overrunning or None)
            beat.heartbeat_at.GetCurrentTime()
            try:
                await self._connection.dispatcher.Heartbeat(
                    beat, metadata=self._connection.metadata, timeout=HEARTBEAT_TIMEOUT_SECONDS
                )
                lost = 0
            except grpc.aio.AioRpcError as error:
                lost += 1
                log.debug("heartbeat %d not taken: %s", lost, error.details())
                self._is_known = error.code() is not StatusCode.NOT_FOUND
                if (lost >= LOST_HEARTBEATS or not self._is_known) and self._stream is not None:
                    lost = 0
                    self._stream.cancel()

    # Taking attempts

    async def _stay_connected(self) -> None:
        await self._register()
        clock = asyncio.get_running_loop().time
        tries = 0
        while True:
            if not self._is_known:
                await self._register_again()
            opened_at = clock()
            reason: str | None = "the stream ended"
            try:
                if await self._listen() and self._stopping.is_set():  # the answer to our signing off
                    await asyncio.Event().wait()
            except grpc.aio.AioRpcError as error:
                reason = error.details()
                self._is_known = self._is_known and error.code() is not StatusCode.NOT_FOUND
            tries = 0 if clock() - opened_at > _LASTED_SECONDS else tries + 1
            if self._is_known:
                self._connection.complain(reason)
            await asyncio.sleep(delay_after(tries))

    async def _listen(self) -> bool:
        """Take actions until the stream ends; return whether the operator ended it."""
        request = WorkerListenRequest(worker_id=self._worker_id, reports_held=True)
        for attempt in self._held:
            held = HeldAttempt(
                workflow_run_id=attempt.assignment.workflow_run_id,
                task_run_external_id=attempt.id,
                task_name=attempt.assignment.step,
            )
            held.started_at.FromMilliseconds(int(attempt.started_at * 1000))
            request.held.append(held)
        self._stream = self._connection.dispatcher.ListenV2(request, metadata=self._connection.metadata)
        if self._stopping.is_set():
            await self._unsubscribe()  # a reopened stream would invite new attempts
        try:
            async for first in self._stream:
                for action in (first, *first.more):
                    self._act(action)
            return True
        except asyncio.CancelledError:
            # Raised too when our heartbeat cancels the stream; only a cancelled task passes it on.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return False
        finally:
            self._stream = None

    def _act(self, action: AssignedAction) -> None:
        held = self._held.get(action.task_run_external_id)
        if action.action_type == CANCEL_STEP_RUN:
            if held is not None:
                self._execution.cancel(held)
                self._held.changed.set()
                loop = asyncio.get_running_loop()
                loop.call_later(OVERRUN_TOLD_SECONDS, self._tell_overruns)
                loop.call_later(self._pace.overrun, self._end_at_the_bound)
        elif action.action_type != START_STEP_RUN:
            log.warning("action %s is of a kind this SDK does not know: %s", action.action_id, action.action_type)
        elif held is not None:
            log.debug("attempt %s is here already", held.id)
        elif not self._reports.repeat(action.task_run_external_id):
            self._start(action)

    def _start(self, action: AssignedAction) -> None:
        if self._has_ended:
            return
        assignment = _assignment(action)
        found = self._steps.get(action.action_id)
        if found is None:
            log.error("action %s was never registered by this worker", action.action_id)
            return
        step, workflow, input_validator = found
        worker = WorkerContext(self._client, worker_id=self._worker_id, labels=self._labels)
        context = Context(assignment, self._client, worker, input_validator=input_validator)
        if self._stopping.is_set():
            context._announce_stop()
        attempt = Attempt(
            assignment=assignment,
            step=step,
            workflow=workflow,
            context=context,
            grace_seconds=self._pace.cancel_grace,
            max_output_bytes=self._payloads.max_bytes,
        )
        self._held.add(attempt)
        self.tally.begin(action.action_id)
        if self._payloads.may_refer(assignment.payload):
            self._reports.begin(self._read_and_start(attempt))
        else:
            self._execution.start(attempt)

    async def _read_and_start(self, attempt: Attempt) -> None:
        """Start an attempt once its input, and the outputs that it may read, were fetched from the store."""
        try:
            texts = await self._payloads.texts_in(
                attempt.assignment.payload, is_wanted=lambda: attempt.cancelled_at is None
            )
        except AttemptCancelled:
            self._take_outcomes([(attempt, None)])
        except PayloadError as error:  # a retry would not find it either
            text = f"{type(error).__name__}: {error}"
            self._take_outcomes([(attempt, Outcome(Ending.FAILED, text, should_not_retry=True))])
        else:
            attempt.context._take_texts(texts)
            self._execution.start(attempt)

    # Attempts that keep running after they were cancelled

    def _count_overruns(self) -> int:
        return sum(attempt.overran_for(0.9 * OVERRUN_TOLD_SECONDS) for attempt in self._held.going_on())

    def _tell_overruns(self) -> None:
        """Tell the operator soon, so that it does not reuse their slots."""
        if self._count_overruns() != self._overrunning:
            self._beat_now.set()

    def _end_at_the_bound(self) -> None:
        """Finish the others and end once too many steps overrun: only the end of its process ends a thread."""
        overrun = [attempt for attempt in self._held.going_on() if attempt.overran_for(0.9 * self._pace.overrun)]
        bound = self._options.max_overruns or self._slots
        if len(overrun) < bound or self._overran is not None:
            return
        shown = ", ".join(f"{each.step.name} of {each.assignment.workflow_run_id}" for each in overrun[:5])
        self._overran = StepsOverran(
            f'worker "{self._options.name}" has as many steps that go on though they were cancelled or timed out as it '
            f"may (max_overruns={bound}: {shown}{', …' if len(overrun) > 5 else ''}): it finishes what else it has and "
            "ends, to be replaced (let steps look at context.exit_flag, or give calls that block a timeout)"
        )
        log.error("%s", self._overran)
        self.stop()

    # Reporting how they ended

    def _take_outcomes(self, ended: list[Ended]) -> None:
        for attempt, outcome in ended:
            attempt.has_ended = True
            how = outcome.ending.value if outcome is not None else "abandoned"
            self.tally.end(attempt.assignment.action_id, how, time.time() - attempt.started_at)
            if outcome is None:
                self._held.drop(attempt)
                self._tell_overruns()
            else:
                self._reports.add(attempt, outcome)
        self._reports.send_soon()


def _assignment(action: AssignedAction) -> Assignment:
    return Assignment(
        workflow_run_id=action.workflow_run_id,
        task_run_external_id=action.task_run_external_id,
        step=action.task_name,
        action_id=action.action_id,
        job_id=action.job_id,
        retry_count=action.retry_count,
        payload=action.action_payload,
        additional_metadata=action.additional_metadata,
        child_index=action.child_workflow_index,
        child_key=action.child_workflow_key,
        parent_workflow_run_id=action.parent_workflow_run_id,
        run_uid=action.job_run_id,
    )
