"""The three services, a few lines a call: translate, ask the engine, translate back.

Calls that this project does not serve answer UNIMPLEMENTED and name what is missing: a published client shows that
text to whoever wrote the step.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc

from hatchet_operator.certificates import KeyPair
from hatchet_operator.dispatcher import translation
from hatchet_operator.dispatcher.calls import (
    UnservedServices,
    now_stamp,
    status_of,
    streaming,
    unary,
    unserved,
    words_of,
)
from hatchet_operator.durations import parse_duration
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.results import ResultStream
from hatchet_operator.engine.workers import StartCommand
from hatchet_operator.errors import ApiError, InvalidRequest, RequestError, StaleAttempt
from hatchet_operator.identity import Caller
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_operator.resources.names import tenant_id
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import events_pb2 as events_wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherServicer, add_DispatcherServicer_to_server
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceServicer, add_EventsServiceServicer_to_server
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceServicer, add_WorkflowServiceServicer_to_server

log = logging.getLogger(__name__)
step_log = logging.getLogger("hatchet_operator.steps")

PROTOCOL_VERSION = "v0.104.7"
"""What GetVersion answers: the engine whose calls we serve. Clients refuse to start below v0.80.0 (protocol 4.1)."""


class _Dispatcher(DispatcherServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def Register(self, request: wire.WorkerRegisterRequest, caller: Caller) -> wire.WorkerRegisterResponse:
        registration = translation.registration_request(request)
        worker = await self._engine.registry.register(caller, registration)
        return wire.WorkerRegisterResponse(
            tenant_id=tenant_id(caller.namespace),
            worker_id=worker.id,
            worker_name=request.worker_name,
            slots=worker.slots,
        )

    @streaming
    async def ListenV2(self, request: wire.WorkerListenRequest, caller: Caller) -> AsyncIterator[wire.AssignedAction]:
        held = translation.held_attempts(request)
        worker, stream = self._engine.registry.listen(caller, request.worker_id, held)
        try:
            async for command in stream.commands():
                if isinstance(command, StartCommand):
                    record = self._engine.store.get(command.attempt.ref)
                    if record is None or command.attempt.id not in self._engine.runs.attempts:
                        continue  # deleted or cancelled while it was on its way
                    action = translation.start_action(command.attempt, record, names=caller.takes_names)
                    command.attempt.sent = True
                    yield action
                else:
                    run_id = self._engine.run_id(caller, command.run)
                    yield translation.cancel_action(command, caller.namespace, run_id=run_id)
        finally:
            self._engine.registry.left(worker, stream)

    Listen = ListenV2  # type: ignore[assignment]  # the generated base has an iterator of either kind

    @unary
    async def Heartbeat(self, request: wire.HeartbeatRequest, caller: Caller) -> wire.HeartbeatResponse:
        self._engine.registry.heartbeat(
            caller,
            request.worker_id,
            at=translation.time_of(request.heartbeat_at),
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
        if (outcome := translation.OUTCOMES.get(request.event_type)) is not None:
            await self._engine.report(
                caller,
                request.task_run_external_id,
                outcome,
                run_uid=request.job_run_id or None,
                payload=request.event_payload,
                **_retry_wishes(request),
            )
        elif request.event_type == wire.STEP_EVENT_TYPE_STARTED:
            self._engine.started(caller, request.task_run_external_id)
        return wire.ActionEventResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @unary
    async def SendBatchActionEvent(self, request: wire.BatchActionEvent, caller: Caller) -> wire.ActionEventResponse:
        """Answered when all items are written down, so a client that gets no answer repeats them all."""
        for item in request.items:  # all of them first: a batch that is refused changes nothing
            self._engine.may_report(caller, item.task_run_external_id, None)
        if (outcome := translation.OUTCOMES.get(request.event_type)) is not None:
            await asyncio.gather(
                *(
                    self._engine.report(
                        caller,
                        item.task_run_external_id,
                        outcome,
                        payload=item.event_payload,
                        **_retry_wishes(item),
                    )
                    for item in request.items
                )
            )
        return wire.ActionEventResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    @streaming
    async def SubscribeToWorkflowRuns(
        self, requests: AsyncIterator[wire.SubscribeToWorkflowRunsRequest], caller: Caller
    ) -> AsyncIterator[wire.WorkflowRunEvent]:
        stream = self._engine.results.open(caller)
        reading = asyncio.create_task(_read_subscriptions(requests, stream))
        try:
            async for result in stream.results():
                yield translation.run_event(result)
        finally:
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
        """Taken and dropped: overrides only feed a form of Hatchet's dashboard, but a refusal would fail the step."""
        return wire.OverridesDataResponse()

    @unary
    async def UpsertWorkerLabels(
        self, request: wire.UpsertWorkerLabelsRequest, caller: Caller
    ) -> wire.UpsertWorkerLabelsResponse:
        """Taken and dropped, like the labels of Register: no step can ask for a label (registration refuses it)."""
        return wire.UpsertWorkerLabelsResponse(tenant_id=tenant_id(caller.namespace), worker_id=request.worker_id)

    SubscribeToWorkflowEvents = unserved("event streams; await the run's result instead")
    SendGroupKeyActionEvent = unserved("concurrency limits")

    @unary
    async def GetVersion(self, request: wire.GetVersionRequest, caller: Caller) -> wire.GetVersionResponse:
        return wire.GetVersionResponse(version=PROTOCOL_VERSION)


async def _read_subscriptions(
    requests: AsyncIterator[wire.SubscribeToWorkflowRunsRequest], stream: ResultStream
) -> None:
    async for request in requests:
        stream.add(request.workflow_run_id)


def _retry_wishes(event: wire.StepActionEvent | wire.BatchActionEventItem) -> dict[str, Any]:
    after = timedelta(milliseconds=event.retry_after_ms) if event.HasField("retry_after_ms") else None
    return {"may_retry": not event.should_not_retry, "retry_after": after}


class _Workflows(WorkflowServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def PutWorkflow(
        self, request: workflows_wire.PutWorkflowRequest, caller: Caller
    ) -> workflows_wire.WorkflowVersion:
        definition = translation.workflow_definition(request.opts)
        revision = await self._engine.register_workflow(caller, definition)
        version = workflows_wire.WorkflowVersion(
            id=revision, version=definition.version, workflow_id=definition.name, order=1
        )
        version.created_at.CopyFrom(now_stamp())
        version.updated_at.CopyFrom(version.created_at)
        return version

    @unary
    async def TriggerWorkflow(
        self, request: workflows_wire.TriggerWorkflowRequest, caller: Caller
    ) -> workflows_wire.TriggerWorkflowResponse:
        run_id = await self._engine.trigger(translation.trigger(request, caller))
        return workflows_wire.TriggerWorkflowResponse(workflow_run_id=run_id)

    @unary
    async def BulkTriggerWorkflow(
        self, request: workflows_wire.BulkTriggerWorkflowRequest, caller: Caller
    ) -> workflows_wire.BulkTriggerWorkflowResponse:
        if not 1 <= len(request.workflows) <= MAX_BULK_ITEMS:
            raise InvalidRequest(f"{len(request.workflows)} runs in one call; expected 1 to {MAX_BULK_ITEMS}")
        answers = await asyncio.gather(*(self._trigger_item(item, caller) for item in request.workflows))
        response = workflows_wire.BulkTriggerWorkflowResponse()
        for index, answer in enumerate(answers):
            if isinstance(answer, str):
                response.workflow_run_ids.append(answer)
                continue
            if not request.errors_per_item:
                raise answer  # the runs before and after it exist; the same call again finds them
            response.workflow_run_ids.append("")
            code: int = status_of(answer).value[0]
            response.errors.add(index=index, code=code, message=words_of(answer))
        return response

    ScheduleWorkflow = unserved("scheduled runs")
    PutRateLimit = unserved("rate limits")

    async def _trigger_item(
        self, item: workflows_wire.TriggerWorkflowRequest, caller: Caller
    ) -> str | RequestError | ApiError:
        try:
            return await self._engine.trigger(translation.trigger(item, caller))
        except (RequestError, ApiError) as error:
            return error


class _Events(EventsServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def PutLog(self, request: events_wire.PutLogRequest, caller: Caller) -> events_wire.PutLogResponse:
        """A line that a step logged: it goes where the operator's own log goes, with the run named."""
        attempt = self._engine.may_log(caller, request.task_run_external_id)
        step_log.info(request.message, extra={"run": str(attempt.ref), "step": attempt.step.name})
        return events_wire.PutLogResponse()

    Push = BulkPush = ReplaySingleEvent = unserved("events; trigger the workflow itself")
    PutStreamEvent = unserved("streams of steps")


class GrpcServer:
    """The gRPC server of one operator."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._server: grpc.aio.Server | None = None
        self._newer: grpc.ServerCertificateConfiguration | None = None

    async def start(self, host: str, port: int, certificate: KeyPair | None = None) -> int:
        """Listen; return the port. Without a certificate it is plain text.

        Keepalive: Hatchet's clients ping every 10 s, with and without calls; a server with gRPC's defaults would
        answer GOAWAY too_many_pings after about 35 s (protocol 0). SO_REUSEPORT would let two operators share a port.
        """
        server = self._server = grpc.aio.server(
            options=[
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.so_reuseport", 0),
            ]
        )
        add_DispatcherServicer_to_server(_Dispatcher(self._engine), server)
        add_WorkflowServiceServicer_to_server(_Workflows(self._engine), server)
        add_EventsServiceServicer_to_server(_Events(self._engine), server)
        server.add_generic_rpc_handlers((UnservedServices(self._engine.callers),))  # the last that is asked
        address = f"{host}:{port}"
        if certificate is None:
            bound = server.add_insecure_port(address)
        else:
            credentials = grpc.dynamic_ssl_server_credentials(
                _configuration(certificate),
                self._take_newer,  # type: ignore[arg-type]  # the stubs do not know that it may return None
            )
            bound = server.add_secure_port(address, credentials)
        await server.start()
        return bound

    def show(self, certificate: KeyPair) -> None:
        """Use another certificate for the connections to come; those that are open stay as they are."""
        self._newer = _configuration(certificate)

    def _take_newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC before each handshake, in a thread of its own; None: the one before is still good."""
        newer, self._newer = self._newer, None
        return newer

    async def stop(self, grace_seconds: float) -> None:
        if self._server is not None:
            await self._server.stop(grace_seconds)


def _configuration(certificate: KeyPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.certificate)])
