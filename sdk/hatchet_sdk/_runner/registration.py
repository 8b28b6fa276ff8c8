"""Workflows as the operator wants them registered; names as in Hatchet's protocol."""

import json
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict

from hatchet_sdk._client.config import prefixed
from hatchet_sdk._runner.definition import Step, WorkflowDefinition, action_id
from hatchet_sdk.contracts.dispatcher_pb2 import WorkerRegisterRequest
from hatchet_sdk.contracts.workflows_pb2 import (
    DAG,
    CreateWorkflowJobOpts,
    CreateWorkflowStepOpts,
    CreateWorkflowVersionOpts,
    PutWorkflowRequest,
)


def put_workflow_request(workflow: WorkflowDefinition, *, prefix: str) -> PutWorkflowRequest:
    name = prefixed(workflow.name, prefix)
    opts = CreateWorkflowVersionOpts(
        name=name,
        version=workflow.version,
        kind=DAG,
        schedule_timeout=workflow.schedule_timeout,
        default_priority=workflow.default_priority,
        jobs=[_job(name, name, workflow.steps)],
    )
    if workflow.on_failure is not None:
        opts.on_failure_job.CopyFrom(_job(f"{name}-on-failure", name, (workflow.on_failure,)))
    return PutWorkflowRequest(opts=opts)


def _job(name: str, workflow: str, steps: tuple[Step, ...]) -> CreateWorkflowJobOpts:
    return CreateWorkflowJobOpts(
        name=name,
        steps=[
            CreateWorkflowStepOpts(
                readable_id=step.name,
                action=action_id(workflow, step),
                timeout=step.options.timeout,
                inputs="{}",
                parents=step.parents,
                retries=step.options.retries,
                backoff_factor=step.options.backoff_factor,
                backoff_max_seconds=step.options.backoff_max_seconds,
                max_reassignments=step.options.max_reassignments,
            )
            for step in steps
        ],
    )


def description(name: str, workflows: Sequence[WorkflowDefinition], *, max_runs: int | None, prefix: str) -> str:
    """Say what a worker would register, for who wants to know it without an operator: JSON of the messages, one line.

    What only a process in its place knows, such as its pod, is not in it.
    """
    worker = WorkerRegisterRequest(
        worker_name=prefix + name,
        actions=[
            action_id(prefixed(workflow.name, prefix), step) for workflow in workflows for step in workflow.all_steps
        ],
        slots=max_runs,
    )
    requests = [put_workflow_request(workflow, prefix=prefix) for workflow in workflows]
    return json.dumps({"worker": MessageToDict(worker), "workflows": [MessageToDict(request) for request in requests]})
