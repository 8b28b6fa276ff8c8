"""A scripted peer for the SDK: real gRPC, runs in memory, and faults on demand.

It lives in the SDK's own I/O loop, since grpc.aio wants one loop per process. Tests look at its state from their thread
and wait with `eventually`.
"""

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from hatchet_sdk._client.io_thread import io_thread
from hatchet_sdk.contracts import dispatcher_pb2 as dispatcher
from hatchet_sdk.contracts import events_pb2 as events
from hatchet_sdk.contracts import workflows_pb2 as workflows
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherServicer, add_DispatcherServicer_to_server
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceServicer, add_EventsServiceServicer_to_server
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceServicer, add_WorkflowServiceServicer_to_server

Fault = grpc.StatusCode | Callable[[Any], None]
COMPLETED = dispatcher.STEP_EVENT_TYPE_COMPLETED
PATIENCE_SECONDS = 60.0  # of a test that waits for what should come at once


@dataclass
class Run:
    """A run, its steps' attempts and their outputs."""

    id: str
    request: workflows.TriggerWorkflowRequest
    retries: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    started: set[str] = field(default_factory=set)
    outputs: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    phase: str = ""


@dataclass
class Stream:
    """A worker's open ListenV2."""

    request: dispatcher.WorkerListenRequest
    actions: "asyncio.Queue[dispatcher.AssignedAction | None]" = field(default_factory=asyncio.Queue)


class FakeOperator(DispatcherServicer, WorkflowServiceServicer, EventsServiceServicer):  # the rest is UNIMPLEMENTED
    """Registers, assigns, retries and answers; ``faults[method]`` is what the next calls of a method meet first."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.address = ""
        self._credentials = credentials
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.workflows: dict[str, workflows.CreateWorkflowVersionOpts] = {}
        self.workers: dict[str, dispatcher.WorkerRegisterRequest] = {}
        self.streams: dict[str, Stream] = {}
        self.runs: dict[str, Run] = {}
        self.attempts: dict[str, tuple[Run, str]] = {}
        self.queue: list[dispatcher.AssignedAction] = []
        self.slots: int | None = None  # what a worker is told of its slots
        self.takes_many = False  # and sends ends of runs in one message
        self.open: asyncio.Event | None = None  # while clear, triggers are held
        self._children: dict[tuple[str, str], str] = {}
        self._ids = itertools.count()
        self._ended = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    # For tests, from their thread

    def start(self) -> None:
        io_thread().submit(self._start()).result(PATIENCE_SECONDS)

    def stop(self) -> None:
        """Go away at once, as a killed process does; what is known stays for the next `start`."""
        io_thread().submit(self._stop()).result(PATIENCE_SECONDS)

    def do(self, action: Callable[[], object]) -> None:
        """Change something in the operator's loop."""

        async def act() -> None:
            action()

        io_thread().submit(act()).result(PATIENCE_SECONDS)

    def end(self, *runs: str) -> None:
        """Have runs succeed, together."""

        async def end() -> None:
            async with self._ended:
                for run in runs:
                    self.runs[run].phase = "Succeeded"
                self._ended.notify_all()

        io_thread().submit(end()).result(PATIENCE_SECONDS)

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def run(self, workflow: str, **input: object) -> str:
        """Start a root run from outside; return its id."""
        request = workflows.TriggerWorkflowRequest(name=workflow, input=json.dumps(input))
        made: list[str] = []
        self.do(lambda: made.append(self.make_run(request).id))
        return made[0]

    def finished(self, run_id: str) -> Run:
        """Wait for the end of a run."""
        eventually(lambda: self.runs[run_id].phase)
        return self.runs[run_id]

    def send(self, action: dispatcher.AssignedAction) -> None:
        """Send an action on whatever stream is open."""
        self.do(lambda: next(iter(self.streams.values())).actions.put_nowait(action))

    def cancel(self, run_id: str) -> None:
        attempt = next(id_ for id_, (run, _) in self.attempts.items() if run.id == run_id)
        self.send(dispatcher.AssignedAction(task_run_external_id=attempt, action_type=dispatcher.CANCEL_STEP_RUN))

    # The server

    async def _start(self) -> None:
        self._server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
                ("grpc.http2.max_ping_strikes", 0),
            )
        )
        add_DispatcherServicer_to_server(self, self._server)
        add_WorkflowServiceServicer_to_server(self, self._server)
        add_EventsServiceServicer_to_server(self, self._server)
        address = self.address or "127.0.0.1:0"
        if self._credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self._credentials)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def _stop(self) -> None:
        assert self._server is not None
        await self._server.stop(None)
        self.streams.clear()

    async def _enter(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request))
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.faults[method]:
            fault = self.faults[method].pop(0)
            if isinstance(fault, grpc.StatusCode):
                await context.abort(fault, f"{method} fails as told")
            else:
                fault(request)

    # Workers

    async def PutWorkflow(self, request: Any, context: Any) -> workflows.WorkflowVersion:  # noqa: N802
        await self._enter("PutWorkflow", request, context)
        self.workflows[request.opts.name] = request.opts
        return workflows.WorkflowVersion(id=f"version-of-{request.opts.name}")

    async def Register(self, request: Any, context: Any) -> dispatcher.WorkerRegisterResponse:  # noqa: N802
        await self._enter("Register", request, context)
        worker_id = request.worker_id or f"worker-{next(self._ids)}"
        self.workers[worker_id] = request
        return dispatcher.WorkerRegisterResponse(worker_id=worker_id, worker_name=request.worker_name, slots=self.slots)

    async def ListenV2(self, request: Any, context: Any) -> AsyncIterator[dispatcher.AssignedAction]:  # noqa: N802
        await self._enter("ListenV2", request, context)
        if request.worker_id not in self.workers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such worker")
        stream = self.streams[request.worker_id] = Stream(request)
        for waiting in self.queue:
            stream.actions.put_nowait(waiting)
        self.queue.clear()
        while (action := await stream.actions.get()) is not None:
            yield action

    async def Heartbeat(self, request: Any, context: Any) -> dispatcher.HeartbeatResponse:  # noqa: N802
        await self._enter("Heartbeat", request, context)
        if request.worker_id not in self.workers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such worker")
        return dispatcher.HeartbeatResponse()

    async def Unsubscribe(self, request: Any, context: Any) -> dispatcher.WorkerUnsubscribeResponse:  # noqa: N802
        await self._enter("Unsubscribe", request, context)
        return dispatcher.WorkerUnsubscribeResponse(worker_id=request.worker_id)

    async def SendStepActionEvent(self, request: Any, context: Any) -> dispatcher.ActionEventResponse:  # noqa: N802
        await self._enter("SendStepActionEvent", request, context)
        await self._take(request, request.event_type)
        return dispatcher.ActionEventResponse()

    async def SendBatchActionEvent(self, request: Any, context: Any) -> dispatcher.ActionEventResponse:  # noqa: N802
        await self._enter("SendBatchActionEvent", request, context)
        for item in request.items:
            await self._take(item, request.event_type)
        return dispatcher.ActionEventResponse()

    async def RefreshTimeout(self, request: Any, context: Any) -> dispatcher.RefreshTimeoutResponse:  # noqa: N802
        await self._enter("RefreshTimeout", request, context)
        return dispatcher.RefreshTimeoutResponse()

    async def ReleaseSlot(self, request: Any, context: Any) -> dispatcher.ReleaseSlotResponse:  # noqa: N802
        await self._enter("ReleaseSlot", request, context)
        return dispatcher.ReleaseSlotResponse()

    async def GetVersion(self, request: Any, context: Any) -> dispatcher.GetVersionResponse:  # noqa: N802
        return dispatcher.GetVersionResponse(version="v0.80.0")

    async def PutLog(self, request: Any, context: Any) -> events.PutLogResponse:  # noqa: N802
        await self._enter("PutLog", request, context)
        return events.PutLogResponse()

    async def BulkPush(self, request: Any, context: Any) -> events.Events:  # noqa: N802
        await self._enter("BulkPush", request, context)
        answer = events.Events()
        for event in request.events:
            answer.events.add(event_id=event.event_id, key=event.key)
            for name, workflow in self.workflows.items():
                if event.key in workflow.event_triggers:
                    self.make_run(workflows.TriggerWorkflowRequest(name=name, input=event.payload))
        return answer

    # Runs

    async def TriggerWorkflow(self, request: Any, context: Any) -> workflows.TriggerWorkflowResponse:  # noqa: N802
        await self._enter("TriggerWorkflow", request, context)
        if self.open is not None:
            await self.open.wait()
        if request.name not in self.workflows:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'workflow "{request.name}" is not registered')
        return workflows.TriggerWorkflowResponse(workflow_run_id=self.make_run(request).id)

    async def BulkTriggerWorkflow(self, request: Any, context: Any) -> workflows.BulkTriggerWorkflowResponse:  # noqa: N802
        await self._enter("BulkTriggerWorkflow", request, context)
        if self.open is not None:
            await self.open.wait()
        answer = workflows.BulkTriggerWorkflowResponse()
        for index, item in enumerate(request.workflows):
            known = item.name in self.workflows
            answer.workflow_run_ids.append(self.make_run(item).id if known else "")
            if not known:
                code, message = grpc.StatusCode.NOT_FOUND.value[0], f'workflow "{item.name}" is not registered'
                answer.errors.append(workflows.BulkTriggerError(index=index, code=code, message=message))
        return answer

    async def SubscribeToWorkflowRuns(self, requests: Any, context: Any) -> AsyncIterator[dispatcher.WorkflowRunEvent]:  # noqa: N802
        await self._enter("SubscribeToWorkflowRuns", None, context)
        wanted: set[str] = set()

        async def read() -> None:
            async for request in requests:
                ids = [request.workflow_run_id, *request.more_ids]
                self.calls += [("subscribed", run_id) for run_id in ids]
                async with self._ended:
                    wanted.update(ids)
                    self._ended.notify_all()

        reading = asyncio.create_task(read())
        if self.takes_many:
            yield dispatcher.WorkflowRunEvent(takes_many=True)
        try:
            while True:
                async with self._ended:
                    await self._ended.wait_for(lambda: any(self._has_ended(run_id) for run_id in wanted))
                ends = [self._end_of(run_id) for run_id in wanted if self._has_ended(run_id)]
                wanted.difference_update(end.workflow_run_id for end in ends)
                if self.takes_many:
                    ends[0].more.extend(ends[1:])
                    del ends[1:]
                for end in ends:
                    yield end
        finally:
            reading.cancel()

    def _has_ended(self, run_id: str) -> bool:
        return run_id not in self.runs or bool(self.runs[run_id].phase)

    def _end_of(self, run_id: str) -> dispatcher.WorkflowRunEvent:
        run = self.runs.get(run_id)
        if run is None:
            return dispatcher.WorkflowRunEvent(workflow_run_id=run_id, phase="Deleted")
        results = [dispatcher.StepRunResult(task_name=step, output=output) for step, output in run.outputs.items()]
        results += [dispatcher.StepRunResult(task_name=step, error=error) for step, error in run.errors.items()]
        return dispatcher.WorkflowRunEvent(workflow_run_id=run_id, phase=run.phase, results=results)

    def make_run(self, request: workflows.TriggerWorkflowRequest) -> Run:
        name = f"k:{request.child_key}" if request.HasField("child_key") else f"i:{request.child_index}"
        identity = (request.parent_task_run_external_id.split("/")[0], name)
        if request.HasField("parent_id") and identity in self._children:
            return self.runs[self._children[identity]]
        run = Run(f"run-{next(self._ids)}", request)
        self.runs[run.id] = run
        if request.HasField("parent_id"):
            self._children[identity] = run.id
        self._start_ready_steps(run)
        return run

    def _start_ready_steps(self, run: Run) -> None:
        for step in self.workflows[run.request.name].jobs[0].steps:
            if step.readable_id not in run.started and all(parent in run.outputs for parent in step.parents):
                run.started.add(step.readable_id)
                self._assign(run, step)

    def _assign(self, run: Run, step: workflows.CreateWorkflowStepOpts) -> None:
        retry = run.retries[step.readable_id]
        id_ = f"{run.id}.{step.readable_id}/{retry}"
        self.attempts[id_] = (run, step.readable_id)
        parents = {name: json.loads(output) for name, output in run.outputs.items() if output}
        action = dispatcher.AssignedAction(
            workflow_run_id=run.id,
            task_run_external_id=id_,
            action_id=step.action,
            task_name=step.readable_id,
            retry_count=retry,
            action_payload=json.dumps({"input": json.loads(run.request.input), "parents": parents}),
        )
        if run.request.HasField("additional_metadata"):
            action.additional_metadata = run.request.additional_metadata
        if run.request.HasField("parent_id"):
            action.parent_workflow_run_id = run.request.parent_id
            action.child_workflow_index = run.request.child_index
            action.child_workflow_key = run.request.child_key
        streams = list(self.streams.values())
        if streams:
            streams[0].actions.put_nowait(action)
        else:
            self.queue.append(action)

    async def _take(self, report: Any, event_type: int) -> None:
        found = self.attempts.pop(report.task_run_external_id, None)
        if found is None:
            return
        run, step_name = found
        steps = {step.readable_id: step for step in self.workflows[run.request.name].jobs[0].steps}
        if event_type == COMPLETED:
            run.outputs[step_name] = report.event_payload
            self._start_ready_steps(run)
            if len(run.outputs) == len(steps):
                run.phase = "Succeeded"
        elif event_type == dispatcher.STEP_EVENT_TYPE_CANCELLED:
            run.phase = "Cancelled"
        elif run.retries[step_name] < steps[step_name].retries and not report.should_not_retry:
            run.retries[step_name] += 1
            self._assign(run, steps[step_name])
        else:
            run.errors[step_name] = report.event_payload
            run.phase = "Failed"
        async with self._ended:
            self._ended.notify_all()


def eventually(condition: Callable[[], object], *, within_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until a condition holds."""
    give_up_at = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.005)
