"""The service that clients from 1.0 on use to register, and to get the details of a run outside of async code."""

import grpc

from hatchet_operator.access.identity import Caller
from hatchet_operator.dispatcher.calls import unary
from hatchet_operator.dispatcher.payloads import input_to_keep, message_problem, texts_of
from hatchet_operator.dispatcher.v0.translation.triggers import trigger
from hatchet_operator.dispatcher.v0.translation.workflows import workflow_definition
from hatchet_operator.dispatcher.v1 import translation
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import InvalidRequest, UnknownObject, Unsupported
from hatchet_operator.resources.reasons import ClientApi
from hatchet_sdk.contracts import admin_v1_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as v0
from hatchet_sdk.contracts.admin_v1_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server


class _Admin(AdminServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def PutWorkflow(
        self, request: wire.CreateWorkflowVersionRequest, caller: Caller
    ) -> wire.CreateWorkflowVersionResponse:
        definition = workflow_definition(translation.registration(request)).model_copy(
            update={"client_api": ClientApi.V1}
        )
        revision = await self._engine.register_workflow(caller, definition)
        return wire.CreateWorkflowVersionResponse(id=revision, workflow_id=definition.name)

    @unary
    async def TriggerWorkflowRun(
        self, request: wire.TriggerWorkflowRunRequest, caller: Caller
    ) -> wire.TriggerWorkflowRunResponse:
        if request.desired_worker_labels:
            raise Unsupported(
                f'the run of workflow "{request.workflow_name}" asks for a worker by labels, which this version does '
                "not have: desire them in its tasks (desired_worker_labels)"
            )
        try:
            asked = v0.TriggerWorkflowRequest(
                name=request.workflow_name,
                input=await input_to_keep(self._engine, caller, request.input.decode(), workflow=request.workflow_name),
                additional_metadata=request.additional_metadata.decode(),
                priority=request.priority if request.HasField("priority") else None,
            )
        except UnicodeDecodeError as error:
            raise InvalidRequest(f'input or metadata for workflow "{request.workflow_name}" is not UTF-8') from error
        return wire.TriggerWorkflowRunResponse(external_id=await self._engine.trigger(trigger(asked, caller)))

    @unary
    async def GetRunDetails(self, request: wire.GetRunDetailsRequest, caller: Caller) -> wire.GetRunDetailsResponse:
        found = await self._engine.find_run(caller, request.external_id)
        if found is None:
            raise UnknownObject(f'there is no run "{request.external_id}" in namespace "{caller.namespace}"')
        run, graph = found
        details = translation.run_details(run, graph, await texts_of(self._engine, caller, run))
        if (problem := message_problem(details.ByteSize(), f"What run {run.ref} was given and returned")) is not None:
            raise InvalidRequest(problem)
        return details


def add_services(engine: Engine, server: grpc.aio.Server) -> None:
    """Register the services of v1 with a server."""
    add_AdminServiceServicer_to_server(_Admin(engine), server)
