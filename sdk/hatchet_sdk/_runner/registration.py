"""Workflows and workers as registration messages for the operator; names as in Hatchet's protocol."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.json_format import MessageToDict

from hatchet_sdk._client.config import prefixed
from hatchet_sdk._client.rate_limits import step_rate_limit
from hatchet_sdk._client.requests import labels_message
from hatchet_sdk._client.validation import schema_text
from hatchet_sdk._runner.definition import Step, WorkflowDefinition, action_id
from hatchet_sdk._runner.worker_labels import DesiredWorkerLabel, WorkerLabelComparator
from hatchet_sdk.contracts.dispatcher_pb2 import PYTHON, RuntimeInfo, WorkerRegisterRequest
from hatchet_sdk.contracts.workflows_pb2 import (
    DAG,
    CreateWorkflowJobOpts,
    CreateWorkflowStepOpts,
    CreateWorkflowVersionOpts,
    DesiredWorkerLabels,
    PutWorkflowRequest,
    WorkflowConcurrencyOpts,
)
from hatchet_sdk.contracts.workflows_pb2 import ConcurrencyLimitStrategy as WireStrategy
from hatchet_sdk.contracts.workflows_pb2 import StickyStrategy as WireSticky
from hatchet_sdk.contracts.workflows_pb2 import WorkerLabelComparator as WireComparator


def put_workflow_request(workflow: WorkflowDefinition, *, prefix: str) -> PutWorkflowRequest:
    name = prefixed(workflow.name, prefix)
    opts = CreateWorkflowVersionOpts(
        name=name,
        version=workflow.version,
        kind=DAG,
        schedule_timeout=workflow.schedule_timeout,
        default_priority=workflow.default_priority,
        sticky=None if workflow.sticky is None else WireSticky.Value(workflow.sticky.name),
        event_triggers=[prefixed(key, prefix) for key in workflow.on_events],
        cron_triggers=workflow.on_crons,
        cron_input=workflow.cron_input,
        input_json_schema=schema_text(workflow.input_validator, what=f'the input of workflow "{name}"'),
        jobs=[_job(name, name, workflow.steps)],
    )
    limits = [
        WorkflowConcurrencyOpts(
            expression=limit.expression,
            max_runs=limit.max_runs,
            limit_strategy=WireStrategy.Value(limit.limit_strategy.name),
        )
        for limit in workflow.concurrency
    ]
    if (method := workflow.group_key) is not None and (group := method.options.group) is not None:
        strategy = WireStrategy.Value(group.limit_strategy.name)
        action = action_id(name, method)
        limits.insert(0, WorkflowConcurrencyOpts(action=action, max_runs=group.max_runs, limit_strategy=strategy))
    if limits:
        opts.concurrency.CopyFrom(limits[0])
        opts.more_concurrency.extend(limits[1:])
    if workflow.record is not None:
        opts.record = workflow.record.title()  # as the operator writes it: Result
    if workflow.on_failure is not None:
        if (run_on := workflow.on_failure.options.run_on) != "failure":
            opts.run_on = run_on.title().replace("_", "")  # as the operator writes it: FailureOrCancel
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
                backoff_delays=step.options.backoff_delays,
                backoff_jitter=step.options.backoff_jitter,
                max_reassignments=step.options.max_reassignments,
                rate_limits=[step_rate_limit(limit) for limit in step.options.rate_limits],
                worker_labels={key: _desired_label(label) for key, label in step.options.desired_worker_labels.items()},
            )
            for step in steps
        ],
    )


def _desired_label(label: DesiredWorkerLabel) -> DesiredWorkerLabels:
    value, comparator = label["value"], label.get("comparator")
    return DesiredWorkerLabels(
        str_value=value if isinstance(value, str) else None,
        int_value=value if isinstance(value, int) else None,
        required=label.get("required"),
        comparator=None if comparator is None else WireComparator.Value(WorkerLabelComparator(comparator).name),
        weight=label.get("weight"),
    )


def register_request(
    worker_id: str,
    *,
    name: str,
    actions: Iterable[str],
    max_runs: int | None,
    labels: Mapping[str, str | int],
    versions: Iterable[str],
) -> WorkerRegisterRequest:
    request = WorkerRegisterRequest(
        worker_name=name,
        actions=actions,
        services=["default"],
        slots=max_runs,
        labels=labels_message(labels),
        runtime_info=RuntimeInfo(
            language=PYTHON, language_version=platform.python_version(), os=platform.system().lower()
        ),
        pod_name=os.environ.get("HATCHET_POD_NAME") or None,
        pod_uid=os.environ.get("HATCHET_POD_UID") or None,
        workflow_version_ids=versions,
        worker_id=worker_id,
    )
    request.alive_at.GetCurrentTime()
    return request


def description(name: str, workflows: Sequence[WorkflowDefinition], *, max_runs: int | None, prefix: str) -> str:
    """Describe what a worker would register, for use without an operator: JSON of the messages, in one line.

    What only a running worker knows, such as its pod, is not in it.
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
