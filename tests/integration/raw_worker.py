"""A worker written by hand on the generated stubs: it says what no proper SDK would, and in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc.aio

from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub
from hatchet_sdk.contracts.headers import NAMES, RUN_IDS
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub

CALL_SECONDS = 60.0  # what takes longer will not happen
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[wire.WorkerListenRequest, wire.AssignedAction]"
Subscription: TypeAlias = "grpc.aio.StreamStreamCall[wire.SubscribeToWorkflowRunsRequest, wire.WorkflowRunEvent]"

COMPLETED = wire.STEP_EVENT_TYPE_COMPLETED
FAILED = wire.STEP_EVENT_TYPE_FAILED
STARTED = wire.STEP_EVENT_TYPE_STARTED


class RawWorker:
    """Calls with one token; ``worker_id`` is that of its last registration."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self._dispatcher = DispatcherStub(channel)
        self._workflows = WorkflowServiceStub(channel)
        self._metadata = (("authorization", f"bearer {token}"), (RUN_IDS, NAMES)) if token is not None else ()
        self.worker_id = ""

    async def register(self, workflow: str, *, retries: int = 0, steps: Sequence[str] = ("work",)) -> None:
        """Register a workflow whose steps follow one another, and a worker that takes them."""
        job = workflows.CreateWorkflowJobOpts(name=workflow)
        for before, step in zip((None, *steps), steps, strict=False):
            parents = [before] if before else []
            job.steps.add(readable_id=step, action=f"{workflow}:{step}", parents=parents, retries=retries, timeout="5m")
        opts = workflows.CreateWorkflowVersionOpts(name=workflow, jobs=[job])
        await self._workflows.PutWorkflow(
            workflows.PutWorkflowRequest(opts=opts), metadata=self._metadata, timeout=CALL_SECONDS
        )
        request = wire.WorkerRegisterRequest(
            worker_name="raw", actions=[f"{workflow}:{step}" for step in steps], slots=10
        )
        answer = await self._dispatcher.Register(request, metadata=self._metadata, timeout=CALL_SECONDS)
        self.worker_id = answer.worker_id

    def listen(self, *, held: Sequence[wire.AssignedAction] | None = None) -> Stream:
        request = wire.WorkerListenRequest(worker_id=self.worker_id)
        if held is not None:
            request.reports_held = True
            for action in held:
                request.held.add(
                    workflow_run_id=action.workflow_run_id,
                    task_run_external_id=action.task_run_external_id,
                    task_name=action.task_name,
                )
        return self._dispatcher.ListenV2(request, metadata=self._metadata)

    async def heartbeat(self, worker_id: str | None = None) -> None:
        request = wire.HeartbeatRequest(worker_id=self.worker_id if worker_id is None else worker_id)
        await self._dispatcher.Heartbeat(request, metadata=self._metadata, timeout=CALL_SECONDS)

    async def report(
        self,
        action: wire.AssignedAction,
        kind: wire.StepActionEventType.ValueType,
        payload: str = "",
        *,
        seconds: float = CALL_SECONDS,
    ) -> None:
        event = wire.StepActionEvent(
            worker_id=self.worker_id,
            job_run_id=action.job_run_id,
            task_run_external_id=action.task_run_external_id,
            action_id=action.action_id,
            event_type=kind,
            event_payload=payload,
            retry_count=action.retry_count,
        )
        await self._dispatcher.SendStepActionEvent(event, metadata=self._metadata, timeout=seconds)

    async def spawn(self, workflow: str, *, parent: wire.AssignedAction, key: str | None = None, index: int = 0) -> str:
        request = workflows.TriggerWorkflowRequest(
            name=workflow,
            input="{}",
            parent_id=parent.workflow_run_id,
            parent_task_run_external_id=parent.task_run_external_id,
            child_index=index,
            child_key=key,
        )
        answer = await self._workflows.TriggerWorkflow(request, metadata=self._metadata, timeout=CALL_SECONDS)
        return answer.workflow_run_id

    def subscribe(self) -> Subscription:
        return self._dispatcher.SubscribeToWorkflowRuns(metadata=self._metadata, timeout=CALL_SECONDS * 3)

    async def end_of(self, run: str) -> wire.WorkflowRunEvent:
        """Await a run's end on a stream of its own."""
        call = self.subscribe()
        await call.write(wire.SubscribeToWorkflowRunsRequest(workflow_run_id=run))
        event = await call.read()
        call.cancel()
        assert isinstance(event, wire.WorkflowRunEvent), "the stream ended without a result"
        return event


@asynccontextmanager
async def raw_worker(address: str, token: str | None) -> AsyncIterator[RawWorker]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield RawWorker(channel, token)


async def next_action(stream: Stream) -> wire.AssignedAction:
    async with asyncio.timeout(CALL_SECONDS):
        action = await stream.read()
    assert isinstance(action, wire.AssignedAction), "the stream ended"
    return action
