"""The service that registers workflows, starts runs and sets rate limits: a few lines per call."""

import asyncio

from hatchet_operator.access.identity import Caller
from hatchet_operator.dispatcher.calls import status_of, unary, words_of
from hatchet_operator.dispatcher.payloads import input_to_keep
from hatchet_operator.dispatcher.stamps import now_stamp
from hatchet_operator.dispatcher.v0.translation import rate_limits, triggers, workflows
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.errors import ApiError, IdempotencyCollision, IdempotencyCollisions, InvalidRequest, RequestError
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceServicer


class Workflows(WorkflowServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def PutWorkflow(
        self, request: workflows_wire.PutWorkflowRequest, caller: Caller
    ) -> workflows_wire.WorkflowVersion:
        definition = workflows.workflow_definition(request.opts)
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
        run_id = await self._engine.trigger(await self._trigger(request, caller))
        response = workflows_wire.TriggerWorkflowResponse(workflow_run_id=run_id)
        if self._engine.is_light(caller, run_id):
            response.is_light = True
        return response

    @unary
    async def BulkTriggerWorkflow(
        self, request: workflows_wire.BulkTriggerWorkflowRequest, caller: Caller
    ) -> workflows_wire.BulkTriggerWorkflowResponse:
        if not 1 <= len(request.workflows) <= MAX_BULK_ITEMS:
            raise InvalidRequest(f"{len(request.workflows)} runs in one call; expected 1 to {MAX_BULK_ITEMS}")
        answers = await asyncio.gather(*(self._trigger_item(item, caller) for item in request.workflows))
        collisions = [answer for answer in answers if isinstance(answer, IdempotencyCollision)]
        if collisions and not request.errors_per_item:
            others = (each for each in answers if not isinstance(each, str | IdempotencyCollision))
            raise next(
                others,
                IdempotencyCollisions(
                    [answer for answer in answers if isinstance(answer, str)], [each.run for each in collisions]
                ),
            )
        response = workflows_wire.BulkTriggerWorkflowResponse()
        for index, answer in enumerate(answers):
            if isinstance(answer, str):
                response.workflow_run_ids.append(answer)
                if self._engine.is_light(caller, answer):
                    response.light.append(index)
                continue
            if not request.errors_per_item:
                raise answer  # the runs before and after it exist; the same call again finds them
            response.workflow_run_ids.append("")
            code: int = status_of(answer).value[0]
            response.errors.add(index=index, code=code, message=words_of(answer))
        return response

    @unary
    async def ScheduleWorkflow(
        self, request: workflows_wire.ScheduleWorkflowRequest, caller: Caller
    ) -> workflows_wire.WorkflowVersion:
        request.input = await input_to_keep(
            self._engine,
            caller,
            request.input,
            workflow=request.name,
            parent=request.parent_id,
            request_id=request.request_id,
        )
        asked = triggers.scheduled(request, caller)
        ids = await asyncio.gather(*map(self._engine.trigger, asked))
        version = workflows_wire.WorkflowVersion(workflow_id=request.name)
        for run_id, trigger_at in zip(ids, request.schedules, strict=True):
            version.scheduled_workflows.add(id=run_id, trigger_at=trigger_at)
        return version

    @unary
    async def PutRateLimit(
        self, request: workflows_wire.PutRateLimitRequest, caller: Caller
    ) -> workflows_wire.PutRateLimitResponse:
        """Set a rate limit; it is in effect for all runs of the caller's namespace once this is answered."""
        key, units, window = rate_limits.rate_limit(request)
        await self._engine.rate_limits.put(caller.namespace, key, units=units, window=window)
        return workflows_wire.PutRateLimitResponse()

    async def _trigger(self, request: workflows_wire.TriggerWorkflowRequest, caller: Caller) -> Trigger:
        request.input = await input_to_keep(
            self._engine,
            caller,
            request.input,
            workflow=request.name,
            parent=request.parent_id,
            request_id=request.request_id,
        )
        return triggers.trigger(request, caller)

    async def _trigger_item(
        self, item: workflows_wire.TriggerWorkflowRequest, caller: Caller
    ) -> str | RequestError | ApiError:
        try:
            return await self._engine.trigger(await self._trigger(item, caller))
        except (RequestError, ApiError) as error:
            return error
