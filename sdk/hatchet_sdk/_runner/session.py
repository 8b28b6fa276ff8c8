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
import os
import platform
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc import StatusCode

from hatchet_sdk._client.client import Client
from hatchet_sdk._client.connection import delay_after, delays, log
from hatchet_sdk._client.io_thread import Mailbox
from hatchet_sdk._client.requests import labels_message
from hatchet_sdk._runner.context import Assignment, Context
from hatchet_sdk._runner.definition import Step, WorkflowDefinition, action_id
from hatchet_sdk._runner.execution import Attempt, Ending, Execution, Outcome
from hatchet_sdk._runner.health import WorkerState
from hatchet_sdk._runner.registration import put_workflow_request
from hatchet_sdk._runner.tally import Tally
from hatchet_sdk._runner.worker_labels import WorkerContext
from hatchet_sdk.contracts.dispatcher_pb2 import (
    CANCEL_STEP_RUN,
    PYTHON,
    START_STEP_RUN,
    STEP_EVENT_TYPE_CANCELLED,
    STEP_EVENT_TYPE_COMPLETED,
    STEP_EVENT_TYPE_FAILED,
    AssignedAction,
    BatchActionEvent,
    BatchActionEventItem,
    HeartbeatRequest,
    HeldAttempt,
    RuntimeInfo,
    StepActionEvent,
    StepActionEventType,
    WorkerListenRequest,
    WorkerRegisterRequest,
    WorkerUnsubscribeRequest,
)
from hatchet_sdk.errors import AttemptCancelled, HatchetError, PayloadError, StepsOverran

HEARTBEAT_SECONDS = 4.0
HEARTBEAT_TIMEOUT_SECONDS = 5.0
LOST_HEARTBEATS = 3  # after this many the stream is considered dead, whatever TCP says
MAX_REPORT_BYTES = 3 * 1024 * 1024
PROMPT_REPORTS = 4  # while fewer are in flight an outcome is sent at once,
GATHER_SECONDS = 0.01  # otherwise a moment later with others: a call costs the operator much more than an item in it
REMEMBERED_BYTES = 8 * 1024 * 1024
UNSUBSCRIBE_SECONDS = 5.0
FLUSH_SECONDS = 1.0
# How long a step's end waits for the last chunks of its stream to be accepted. Longer than an operator takes to come
# back: until then neither is accepted, and after it the end would overtake chunks whose next try is a second away.
PUT_SECONDS = 30.0
OVERRUN_TOLD_SECONDS = 0.5  # after a CANCEL that did not end the step: before the operator assigns its next attempt
OVERRUN_PATIENCE_SECONDS = 10.0  # what runs for longer counts towards the limit at which the worker is replaced
DEFAULT_SLOTS = 100  # of an operator that does not say
_LASTED_SECONDS = 5.0

Ended = tuple[Attempt, Outcome | None]
Report = tuple[Attempt, Outcome]

_EVENT_TYPES: Mapping[Ending, "StepActionEventType.ValueType"] = {
    Ending.COMPLETED: STEP_EVENT_TYPE_COMPLETED,
    Ending.FAILED: STEP_EVENT_TYPE_FAILED,
    Ending.CANCELLED: STEP_EVENT_TYPE_CANCELLED,
}
# What no retry can change: the operator read the report and does not want it.
_REFUSED_REPORT = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.PERMISSION_DENIED,  # the attempt is another worker's by now
    }
)


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
        self._held: dict[str, Attempt] = {}
        self._done = RecentOutcomes()
        self._to_report: list[Report] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._reports: set[asyncio.Task[None]] = set()
        self._worker_id = str(uuid.uuid4())  # chosen by us, so that a repeated Register is recognized as the same one
        self._is_known = False
        self._stream: grpc.aio.UnaryStreamCall[WorkerListenRequest, AssignedAction] | None = None
        self._stopping = asyncio.Event()
        self._has_ended = False  # it begins nothing more
        self._gave_up_a_report = False
        self._changed = asyncio.Event()
        self._when_registered = when_registered
        self._beat_now = asyncio.Event()
        self._overrunning = 0  # as the operator was told last
        self._slots = options.max_runs or DEFAULT_SLOTS
        self._overran: StepsOverran | None = None
        self.tally = Tally()

    def state(self) -> WorkerState:
        """Return where the worker stands; from any thread."""
        held = list(self._held.values())
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
            for attempt in self._held.values():  # those that outstayed their cancelling, or, cancelled ourselves, all
                self._execution.abandon(attempt)
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._overran is not None:
            raise self._overran

    def stop(self) -> None:
        """Take nothing new, finish what is held, and tell the operator so."""
        self._stopping.set()
        for attempt in self._held.values():
            attempt.context._announce_stop()

    async def _stop_when_asked(self) -> None:
        await self._stopping.wait()
        log.info("worker %s stops: finishing %d attempts", self._options.name, len(self._unfinished()))
        await self._unsubscribe()
        while self._unfinished() or self._reports:
            self._changed.clear()
            await self._changed.wait()
        self._has_ended = True  # what comes from now on is for another worker
        if not self._gave_up_a_report:
            await self._unsubscribe()
        await asyncio.wait([asyncio.create_task(self._client.logs.flush())], timeout=FLUSH_SECONDS)

    def _unfinished(self) -> list[Attempt]:
        """Return what is worth waiting for; a cancelled step that does not end is not."""
        return [attempt for attempt in self._held.values() if attempt.cancelled_at is None]

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
        request = WorkerRegisterRequest(
            worker_name=prefix + self._options.name,
            actions=self._steps,
            services=["default"],
            slots=self._options.max_runs,
            labels=labels_message(self._labels),
            runtime_info=RuntimeInfo(
                language=PYTHON, language_version=platform.python_version(), os=platform.system().lower()
            ),
            pod_name=os.environ.get("HATCHET_POD_NAME") or None,
            pod_uid=os.environ.get("HATCHET_POD_UID") or None,
            workflow_version_ids=[version.id for version in versions],
            worker_id=self._worker_id,
        )
        request.alive_at.GetCurrentTime()
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
                async with asyncio.timeout(HEARTBEAT_SECONDS):
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
        for attempt in self._held.values():
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
                self._changed.set()
                loop = asyncio.get_running_loop()
                loop.call_later(OVERRUN_TOLD_SECONDS, self._tell_overruns)
                loop.call_later(OVERRUN_PATIENCE_SECONDS, self._end_at_the_bound)
        elif action.action_type != START_STEP_RUN:
            log.warning("action %s is of a kind this SDK does not know: %s", action.action_id, action.action_type)
        elif held is not None:
            log.debug("attempt %s is here already", held.id)
        elif (known := self._done.get(action.task_run_external_id)) is not None:
            self._report([known])
        else:
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
            max_output_bytes=self._payloads.max_bytes,
        )
        self._held[attempt.id] = attempt
        self.tally.begin(action.action_id)
        if self._payloads.may_refer(assignment.payload):
            self._begin(self._read_and_start(attempt))
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
        return sum(attempt.overran_for(0.9 * OVERRUN_TOLD_SECONDS) for attempt in self._going_on())

    def _going_on(self) -> list[Attempt]:
        """Return what is being executed; what is held also includes ended attempts whose report is not acknowledged."""
        return [attempt for attempt in self._held.values() if not attempt.has_ended]

    def _tell_overruns(self) -> None:
        """Tell the operator soon, so that it does not reuse their slots."""
        if self._count_overruns() != self._overrunning:
            self._beat_now.set()

    def _end_at_the_bound(self) -> None:
        """Finish the others and end once too many steps overrun: only the end of its process ends a thread."""
        overrun = [attempt for attempt in self._going_on() if attempt.overran_for(0.9 * OVERRUN_PATIENCE_SECONDS)]
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
                self._held.pop(attempt.id, None)
                self._changed.set()
                self._tell_overruns()
            elif (putting := self._client.puts.under_way(attempt.id)) is not None:
                self._report_after(putting, attempt, outcome)
            else:
                self._add_report(attempt, outcome)
        self._report_soon()

    def _add_report(self, attempt: Attempt, outcome: Outcome) -> None:
        if outcome.ending is Ending.COMPLETED and self._payloads.is_large(outcome.payload):
            self._begin(self._store_and_report(attempt, outcome))
        else:
            self._to_report.append((attempt, outcome))

    def _report_after(self, putting: "asyncio.Task[None]", attempt: Attempt, outcome: Outcome) -> None:
        """Report an end once the operator has what the step published before: the stream ends with the run."""

        async def wait() -> None:
            await asyncio.wait([putting], timeout=PUT_SECONDS)
            self._add_report(attempt, outcome)
            self._report_soon()

        self._begin(wait())

    def _report_soon(self) -> None:
        if len(self._reports) < PROMPT_REPORTS:
            self._report_gathered()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._report_gathered)

    def _report_gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        alike: dict[tuple[str, Ending], list[Report]] = defaultdict(list)
        for attempt, outcome in self._to_report:
            alike[attempt.assignment.action_id, outcome.ending].append((attempt, outcome))
        self._to_report.clear()
        for reports in alike.values():
            for batch in _batches(reports):
                self._report(batch)

    def _report(self, reports: list[Report]) -> None:
        self._begin(self._deliver(reports))

    def _delivered(self, task: "asyncio.Task[None]") -> None:
        self._reports.discard(task)
        self._changed.set()
        if not task.cancelled():
            task.result()

    async def _store_and_report(self, attempt: Attempt, outcome: Outcome) -> None:
        """Store a large output before it is reported, trying for as long as the attempt may take."""
        owner = attempt.assignment.run_uid
        try:
            text = await self._payloads.keep(owner, outcome.payload, is_wanted=lambda: not attempt.is_out_of_time)
            outcome = Outcome(Ending.COMPLETED, text)
        except AttemptCancelled:
            self._held.pop(attempt.id, None)
            self._changed.set()
            return
        except PayloadError as error:
            what = f'what step "{attempt.step.name}" returned can\'t be stored'
            outcome = Outcome(Ending.FAILED, f"{type(error).__name__}: {what}: {error}")
        self._report([(attempt, outcome)])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._reports.add(task)
        task.add_done_callback(self._delivered)

    async def _deliver(self, reports: list[Report]) -> None:
        """Send outcomes until acknowledged: a result is not lost because the operator is down."""
        for delay in delays():
            try:
                await self._send(reports)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() not in _REFUSED_REPORT:
                    self._connection.complain(error.details())
                elif len(reports) > 1:  # one of them is bad; each gets an answer of its own
                    for report in reports:
                        self._report([report])
                    return
                else:
                    (refused, _), reports = reports[0], _after_refusal(reports[0], error)
                    if not reports:
                        self._gave_up_a_report = True
                        self._held.pop(refused.id, None)
                        return
            await asyncio.sleep(delay)
        for attempt, outcome in reports:
            self._held.pop(attempt.id, None)
            self._done.add(attempt, outcome)

    async def _send(self, reports: list[Report]) -> None:
        dispatcher = self._connection.dispatcher
        attempt, outcome = reports[0]
        if len(reports) == 1:
            event = StepActionEvent(
                worker_id=self._worker_id,
                job_id=attempt.assignment.job_id,
                task_run_external_id=attempt.id,
                action_id=attempt.assignment.action_id,
                event_type=_EVENT_TYPES[outcome.ending],
                event_payload=outcome.payload,
                retry_count=attempt.assignment.retry_count,
                should_not_retry=outcome.should_not_retry or None,
                retry_after_ms=outcome.retry_after_ms,
            )
            event.event_timestamp.GetCurrentTime()
            await self._connection.call_once(dispatcher.SendStepActionEvent, event)
            return
        batch = BatchActionEvent(
            worker_id=self._worker_id,
            job_id=attempt.assignment.job_id,
            action_id=attempt.assignment.action_id,
            event_type=_EVENT_TYPES[outcome.ending],
            items=[
                BatchActionEventItem(
                    task_run_external_id=attempt.id,
                    event_payload=outcome.payload,
                    retry_count=attempt.assignment.retry_count,
                    should_not_retry=outcome.should_not_retry or None,
                    retry_after_ms=outcome.retry_after_ms,
                )
                for attempt, outcome in reports
            ],
        )
        batch.event_timestamp.GetCurrentTime()
        await self._connection.call_once(dispatcher.SendBatchActionEvent, batch)


class RecentOutcomes:
    """Outcomes that were acknowledged recently, in case an assignment arrives twice."""

    def __init__(self) -> None:
        self._reports: OrderedDict[str, Report] = OrderedDict()
        self._bytes = 0

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        if attempt.id not in self._reports:
            self._reports[attempt.id] = (attempt, outcome)
            self._bytes += _size(outcome)
        while self._bytes > REMEMBERED_BYTES:
            _, (_, oldest) = self._reports.popitem(last=False)
            self._bytes -= _size(oldest)

    def get(self, task_run_external_id: str) -> Report | None:
        return self._reports.get(task_run_external_id)


def _size(outcome: Outcome) -> int:
    return len(outcome.payload) + 2048  # an entry's overhead, so that empty outcomes are bounded too


def _batches(reports: list[Report]) -> list[list[Report]]:
    batches: list[list[Report]] = [[]]
    size = 0
    for report in reports:
        weight = len(report[1].payload.encode()) + 256
        if size + weight > MAX_REPORT_BYTES:
            batches.append([])
            size = 0
        size += weight
        batches[-1].append(report)
    return batches


def _after_refusal(report: Report, error: grpc.aio.AioRpcError) -> list[Report]:
    """Decide what is still worth reporting about an attempt whose report was refused permanently."""
    attempt, outcome = report
    run = attempt.assignment.workflow_run_id
    log.error("the report of step %s of run %s was refused: %s", attempt.step.name, run, error.details())
    if outcome.ending is Ending.COMPLETED and error.code() is StatusCode.INVALID_ARGUMENT:
        return [(attempt, Outcome(Ending.FAILED, f"the operator refused the output: {error.details()}"))]
    return []


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
