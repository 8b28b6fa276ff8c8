"""The three services, a few lines per call: translate, ask the engine, translate back.

dispatcher  for workers, and for clients that listen
workflows   registers workflows, starts runs, sets rate limits
events      events, and what steps log and publish

Calls that this project does not serve answer UNIMPLEMENTED and name what is missing: a published client shows that
text to the author of the step.
"""

import grpc

from hatchet_operator.dispatcher.v0.services.dispatcher import Dispatcher
from hatchet_operator.dispatcher.v0.services.events import Events
from hatchet_operator.dispatcher.v0.services.workflows import Workflows
from hatchet_operator.engine.engine import Engine
from hatchet_sdk.contracts.dispatcher_pb2_grpc import add_DispatcherServicer_to_server
from hatchet_sdk.contracts.events_pb2_grpc import add_EventsServiceServicer_to_server
from hatchet_sdk.contracts.workflows_pb2_grpc import add_WorkflowServiceServicer_to_server


def add_services(engine: Engine, server: grpc.aio.Server) -> None:
    """Register the services of Hatchet's protocol that have no version in their names with a server."""
    add_DispatcherServicer_to_server(Dispatcher(engine), server)
    add_WorkflowServiceServicer_to_server(Workflows(engine), server)
    add_EventsServiceServicer_to_server(Events(engine), server)
