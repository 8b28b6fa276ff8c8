"""Tells the operator how attempts ended: soon, those that are alike together, and until it has acknowledged it."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import grpc.aio
from grpc import StatusCode

from hatchet_sdk._client.client import Client
from hatchet_sdk._client.connection import delays, log
from hatchet_sdk._runner.execution import Attempt, Ending, Outcome
from hatchet_sdk._runner.held import HeldAttempts
from hatchet_sdk.contracts.dispatcher_pb2 import (
    STEP_EVENT_TYPE_CANCELLED,
    STEP_EVENT_TYPE_COMPLETED,
    STEP_EVENT_TYPE_FAILED,
    BatchActionEvent,
    BatchActionEventItem,
    StepActionEvent,
    StepActionEventType,
)
from hatchet_sdk.errors import AttemptCancelled, PayloadError

MAX_REPORT_BYTES = 3 * 1024 * 1024
PROMPT_REPORTS = 4  # while fewer are in flight an outcome is sent at once,
GATHER_SECONDS = 0.01  # otherwise a moment later with others: a call costs the operator much more than an item in it
REMEMBERED_BYTES = 8 * 1024 * 1024
# How long a step's end waits for the last chunks of its stream to be accepted. Longer than an operator takes to come
# back: until then neither is accepted, and after it the end would overtake chunks whose next try is a second away.
PUT_SECONDS = 30.0

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


class Reports:
    """The outcomes that the operator has not acknowledged yet, and what else has to end before the worker does.

    Args:
        client: The worker's.
        held: Its attempts; one whose outcome is acknowledged is dropped.
        worker_id: Returns its current id.
    """

    def __init__(self, client: Client, held: HeldAttempts, worker_id: Callable[[], str]) -> None:
        self._connection = client.connection
        self._payloads = client.payloads
        self._puts = client.puts
        self._held = held
        self._worker_id = worker_id
        self._done = RecentOutcomes()
        self._waiting: list[Report] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.gave_up = False
        """Whether the operator refused a report for good."""

    @property
    def are_under_way(self) -> bool:
        return bool(self._tasks)

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        """Report an outcome with the next ones, and not before the operator has what the step published."""
        if (putting := self._puts.under_way(attempt.id)) is not None:
            self.begin(self._add_after(putting, attempt, outcome))
        else:
            self._add(attempt, outcome)

    def repeat(self, attempt_id: str) -> bool:
        """Report an outcome again that was acknowledged recently; return False if it is not known."""
        known = self._done.get(attempt_id)
        if known is not None:
            self._send_all([known])
        return known is not None

    async def _add_after(self, putting: "asyncio.Task[None]", attempt: Attempt, outcome: Outcome) -> None:
        """Report an end once the operator has what the step published before: the stream ends with the run."""
        await asyncio.wait([putting], timeout=PUT_SECONDS)
        self._add(attempt, outcome)
        self.send_soon()

    def _add(self, attempt: Attempt, outcome: Outcome) -> None:
        if outcome.ending is Ending.COMPLETED and self._payloads.is_large(outcome.payload):
            self.begin(self._store_and_send(attempt, outcome))
        else:
            self._waiting.append((attempt, outcome))

    def send_soon(self) -> None:
        """Send what was added: at once, or a moment later with others."""
        if len(self._tasks) < PROMPT_REPORTS:
            self._send_gathered()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._send_gathered)

    def _send_gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        alike: dict[tuple[str, Ending], list[Report]] = defaultdict(list)
        for attempt, outcome in self._waiting:
            alike[attempt.assignment.action_id, outcome.ending].append((attempt, outcome))
        self._waiting.clear()
        for reports in alike.values():
            for batch in _batches(reports):
                self._send_all(batch)

    def _send_all(self, reports: list[Report]) -> None:
        self.begin(self._deliver(reports))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that the worker does not end before."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._held.changed.set()
        if not task.cancelled():
            task.result()

    async def _store_and_send(self, attempt: Attempt, outcome: Outcome) -> None:
        """Store a large output before it is reported, trying for as long as the attempt may take."""
        owner = attempt.assignment.run_uid
        try:
            text = await self._payloads.keep(owner, outcome.payload, is_wanted=lambda: not attempt.is_out_of_time)
            outcome = Outcome(Ending.COMPLETED, text)
        except AttemptCancelled:
            self._held.drop(attempt)
            return
        except PayloadError as error:
            what = f'what step "{attempt.step.name}" returned can\'t be stored'
            outcome = Outcome(Ending.FAILED, f"{type(error).__name__}: {what}: {error}")
        self._send_all([(attempt, outcome)])

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
                        self._send_all([report])
                    return
                else:
                    (refused, _), reports = reports[0], _after_refusal(reports[0], error)
                    if not reports:
                        self.gave_up = True
                        self._held.drop(refused)
                        return
            await asyncio.sleep(delay)
        for attempt, outcome in reports:
            self._held.drop(attempt)
            self._done.add(attempt, outcome)

    async def _send(self, reports: list[Report]) -> None:
        dispatcher = self._connection.dispatcher
        attempt, outcome = reports[0]
        if len(reports) == 1:
            event = StepActionEvent(
                worker_id=self._worker_id(),
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
            worker_id=self._worker_id(),
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
