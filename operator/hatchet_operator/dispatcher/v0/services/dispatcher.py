"""The service for workers, and for clients that listen: a few lines per call."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.retry import asked_wait
from hatchet_operator.dispatcher.calls import streaming, unary
from hatchet_operator.dispatcher.payloads import Readings, message_problem, not_told, outcome_to_keep
from hatchet_operator.dispatcher.stamps import time_of
from hatchet_operator.dispatcher.v0.translation import attempts, streams, workers
from hatchet_operator.durations import parse_duration
from hatchet_operator.engine.dispatch.worker import Command, StartCommand, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.runs.results import ResultStream, RunResult
from hatchet_operator.errors import InvalidRequest, StaleAttempt
from hatchet_operator.resources.names import tenant_id
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherServicer

_MOST_TOGETHER = 100
PROTOCOL_VERSION = "v0.104.7"
"""What GetVersion answers: the engine whose calls we serve. Clients refuse to start below v0.80.0 (protocol 4.1)."""


class Dispatcher(DispatcherServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def Register(self, request: wire.WorkerRegisterRequest, caller: Caller) -> wire.WorkerRegisterResponse:
        registration = workers.registration_request(request)
        worker = await self._engine.registry.register(caller, registration)
        return wire.WorkerRegisterResponse(
            tenant_id=tenant_id(caller.namespace),
            worker_id=worker.id,
            worker_name=request.worker_name,
            slots=worker.slots,
        )

    @streaming
    async def ListenV2(self, request: wire.WorkerListenRequest, caller: Caller) -> AsyncIterator[wire.AssignedAction]:
        claimed = attempts.claimed_attempts(request)
        worker, stream = self._engine.registry.listen(caller, request.worker_id, claimed)
        readings = Readings(self._engine.payloads, caller)
        try:
            # One at a time to others: what is marked as sent is sent, and they don't say what they have got.
            async for commands in stream.commands(at_once=_MOST_TOGETHER if caller.takes_many else 1):
                actions = [self._action(each, caller, stream, readings) for each in commands]
                for action in streams.together([each for each in actions if each is not None]):
                    yield action
                for command in commands:
                    if isinstance(command, StartCommand) and command.texts is not None:
                        readings.told()
        finally:
            readings.close()
            self._engine.registry.left(worker, stream)

    def _action(
        self, command: Command, caller: Caller, stream: WorkerStream, readings: Readings
    ) -> wire.AssignedAction | None:
        """Return what the worker gets, noting that it does; None: nothing, or not yet."""
        if not isinstance(command, StartCommand):
            run_id = self._engine.run_id(caller, command.run)
            return attempts.cancel_action(command, caller.namespace, run_id=run_id)
        action = self._start_action(command, caller, stream, readings)
        if action is not None:
            command.attempt.sent = True
            self._engine.streams.started(command.attempt)
        return action

    def _start_action(
        self, command: StartCommand, caller: Caller, stream: WorkerStream, readings: Readings
    ) -> wire.AssignedAction | None:
        attempt, engine = command.attempt, self._engine
        record = engine.store.get(attempt.ref)
        if record is None or attempt.id not in engine.runs.attempts:
            return None  # deleted or cancelled in the meantime
        traceparent = engine.traces.traceparent_of(record, attempt.id) if engine.traces is not None else None
        if command.texts is None:
            if references := readings.of_run(record.run):
                readings.begin(
                    references,
                    then=lambda texts: stream.put(StartCommand(attempt, texts)),
                    otherwise=lambda why: engine.fail(attempt, why),
                )
                return None
            return attempts.start_action(attempt, record, names=caller.takes_names, traceparent=traceparent)
        if attempt.cancel_sent_at is not None:
            return None  # it timed out before everything was read
        action = attempts.start_action(
            attempt, record, names=caller.takes_names, texts=command.texts, traceparent=traceparent
        )
        what = f'What step "{attempt.step.name}" is given (the input of its run, outputs of other steps)'
        if (problem := message_problem(action.ByteSize(), what)) is not None:
            engine.fail(attempt, problem)
            return None
        return action

    Listen = ListenV2  # type: ignore[assignment]  # the generated base has an iterator of either kind

    @unary
    async def Heartbeat(self, request: wire.HeartbeatRequest, caller: Caller) -> wire.HeartbeatResponse:
        self._engine.registry.heartbeat(
            caller,
            request.worker_id,
            at=time_of(request.heartbeat_at),
            overrunning=request.overrunning,
        )
        return wire.HeartbeatResponse()

    @unary
    async def Unsubscribe(
        self, request: wire.WorkerUnsubscribeRequest, caller: Caller
    ) -> wire.WorkerUnsubscribeResponse:
        self._engine.registry.drain(caller, request.worker_id, has_ended=request.has_ended)
        return wire.WorkerUnsubscribeResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @unary
    async def SendStepActionEvent(self, request: wire.StepActionEvent, caller: Caller) -> wire.ActionEventResponse:
        self._engine.may_report(caller, request.task_run_external_id, request.job_run_id or None)
        if (outcome := attempts.OUTCOMES.get(request.event_type)) is not None:
            await self._report(request, caller, outcome, run_uid=request.job_run_id or None)
        elif request.event_type == wire.STEP_EVENT_TYPE_STARTED:
            self._engine.started(caller, request.task_run_external_id)
        return wire.ActionEventResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @unary
    async def SendGroupKeyActionEvent(
        self, request: wire.GroupKeyActionEvent, caller: Caller
    ) -> wire.ActionEventResponse:
        """Report a group key: naming it is a run's first step, which published clients report by a separate call."""
        attempt_id, record = (
            request.get_group_key_run_id,
            self._engine.store.find(caller.namespace, request.workflow_run_id),
        )
        run_uid = record.uid if record is not None else None
        self._engine.may_report(caller, attempt_id, run_uid)
        if (report := attempts.group_key_report(request)) is not None:
            outcome, payload = report
            await self._engine.report(caller, attempt_id, outcome, run_uid=run_uid, payload=payload)
        elif request.event_type == wire.GROUP_KEY_EVENT_TYPE_STARTED:
            self._engine.started(caller, attempt_id)
        return wire.ActionEventResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @unary
    async def SendBatchActionEvent(self, request: wire.BatchActionEvent, caller: Caller) -> wire.ActionEventResponse:
        """Report several events; answered once all are persisted, so a client that gets no answer repeats them all."""
        for item in request.items:  # check all of them first: a refused batch changes nothing
            self._engine.may_report(caller, item.task_run_external_id, None)
        if (outcome := attempts.OUTCOMES.get(request.event_type)) is not None:
            await asyncio.gather(*(self._report(item, caller, outcome) for item in request.items))
        return wire.ActionEventResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    async def _report(
        self,
        event: wire.StepActionEvent | wire.BatchActionEventItem,
        caller: Caller,
        outcome: Outcome,
        *,
        run_uid: str | None = None,
    ) -> None:
        identity = event.task_run_external_id
        outcome, payload = await outcome_to_keep(
            self._engine, caller, identity, outcome, event.event_payload, run_uid=run_uid
        )
        await self._engine.report(caller, identity, outcome, run_uid=run_uid, payload=payload, **_retry_wishes(event))

    @streaming
    async def SubscribeToWorkflowRuns(
        self, requests: AsyncIterator[wire.SubscribeToWorkflowRunsRequest], caller: Caller
    ) -> AsyncIterator[wire.WorkflowRunEvent]:
        stream = self._engine.results.open(caller)
        reading = asyncio.create_task(_read_subscriptions(requests, stream))
        payloads = Readings(self._engine.payloads, caller)
        try:
            if caller.takes_many:
                yield wire.WorkflowRunEvent(takes_many=True)
            async for results in stream.results():
                events = [event for each in results if (event := _run_event(each, stream, payloads)) is not None]
                for event in streams.together(events) if caller.takes_many else events:
                    yield event
                for result in results:
                    if result.texts:
                        payloads.told()
        finally:
            payloads.close()
            reading.cancel()
            stream.close()

    @unary
    async def RefreshTimeout(self, request: wire.RefreshTimeoutRequest, caller: Caller) -> wire.RefreshTimeoutResponse:
        try:
            by = parse_duration(request.increment_timeout_by)
        except ValueError as error:
            raise InvalidRequest(f"increment_timeout_by: {error}") from error
        deadline = self._engine.refresh_timeout(caller, request.task_run_external_id, by)
        if deadline is None:
            raise StaleAttempt("this attempt is over, so its timeout can't be refreshed")
        response = wire.RefreshTimeoutResponse()
        response.timeout_at.FromDatetime(deadline)
        return response

    @unary
    async def ReleaseSlot(self, request: wire.ReleaseSlotRequest, caller: Caller) -> wire.ReleaseSlotResponse:
        self._engine.release_slot(caller, request.task_run_external_id)
        return wire.ReleaseSlotResponse()

    @unary
    async def PutOverridesData(self, request: wire.OverridesData, caller: Caller) -> wire.OverridesDataResponse:
        """Accept and ignore overrides: they only feed Hatchet's dashboard, but a refusal would fail the step."""
        return wire.OverridesDataResponse()

    @unary
    async def UpsertWorkerLabels(
        self, request: wire.UpsertWorkerLabelsRequest, caller: Caller
    ) -> wire.UpsertWorkerLabelsResponse:
        """Set some of a worker's labels; attempts that wait for them go there."""
        given = workers.worker_labels(request.labels, who=f'worker "{request.worker_id}"')
        await self._engine.registry.upsert_labels(caller, request.worker_id, given)
        return wire.UpsertWorkerLabelsResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @streaming
    async def SubscribeToWorkflowEvents(
        self, request: wire.SubscribeToWorkflowEventsRequest, caller: Caller
    ) -> AsyncIterator[wire.WorkflowEvent]:
        """Stream what the steps of a run publish and how they end, or those of all runs with an entry of metadata."""
        metadata = streams.stream_metadata(request)
        if metadata is None:
            reader = await self._engine.read_stream(caller, request.workflow_run_id, seen=dict(request.seen))
        else:
            reader = self._engine.streams.read_by_metadata(caller.namespace, metadata, seen=dict(request.seen))
        try:
            async for event in reader.events():
                run_id = event.name if caller.takes_names else event.run
                yield streams.stream_event(event, run_id=run_id, hangup=event.is_end and reader.is_over)
        finally:
            self._engine.streams.leave(reader)

    @unary
    async def GetVersion(self, request: wire.GetVersionRequest, caller: Caller) -> wire.GetVersionResponse:
        return wire.GetVersionResponse(version=PROTOCOL_VERSION)


async def _read_subscriptions(
    requests: AsyncIterator[wire.SubscribeToWorkflowRunsRequest], stream: ResultStream
) -> None:
    async for request in requests:
        for run_id in (request.workflow_run_id, *request.more_ids):
            stream.add(run_id)


def _run_event(result: RunResult, stream: ResultStream, readings: Readings) -> wire.WorkflowRunEvent | None:
    """Return what the client gets; None: nothing yet."""
    if result.texts is not None:
        event = streams.run_event(result, result.texts)
        problem = message_problem(event.ByteSize(), f"What run {result.run} returned")
        return event if problem is None else streams.run_event(not_told(result, problem))
    if references := readings.of_result(result):
        readings.begin(
            references,
            then=lambda texts: stream.tell(replace(result, texts=texts)),
            otherwise=lambda why: stream.tell(not_told(result, why)),
        )
        return None
    return streams.run_event(result)


def _retry_wishes(event: wire.StepActionEvent | wire.BatchActionEventItem) -> dict[str, Any]:
    after = asked_wait(event.retry_after_ms) if event.HasField("retry_after_ms") else None
    return {"may_retry": not event.should_not_retry, "retry_after": after}
