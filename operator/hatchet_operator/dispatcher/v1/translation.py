"""Translates a registration of v1 into one of v0, and a run into its details. No effects.

A registration becomes a message of v0, so v1 can do whatever v0 can; what only v1 can express is refused by name.
"""

from collections.abc import Mapping

import orjson

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.inputs import input_text
from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.decisions.results import error_told
from hatchet_operator.dispatcher.v0.translation.attempts import NO_TEXTS
from hatchet_operator.durations import parse_duration
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_sdk.contracts import admin_v1_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as v0

_STATUS = {
    Phase.PENDING: wire.QUEUED,
    Phase.RUNNING: wire.RUNNING,
    Phase.SUCCEEDED: wire.COMPLETED,
    Phase.FAILED: wire.FAILED,
    Phase.CANCELLED: wire.CANCELLED,
}


def registration(request: wire.CreateWorkflowVersionRequest) -> v0.CreateWorkflowVersionOpts:
    """Translate a registration into one of v0.

    Raises:
        Unsupported: It asks for what is missing; the message names workflow, task and feature.
    """
    where = f'workflow "{request.name}"'
    tasks = [*request.tasks, *([request.on_failure_task] if request.HasField("on_failure_task") else [])]
    for task in tasks:
        _check_task(f'{where}: task "{task.readable_id}"', task)
    opts = v0.CreateWorkflowVersionOpts(
        name=request.name,
        description=request.description,
        version=request.version,
        event_triggers=request.event_triggers,
        cron_triggers=request.cron_triggers,
        jobs=[v0.CreateWorkflowJobOpts(name=request.name, steps=[_step(where, task) for task in request.tasks])],
        schedule_timeout=_schedule_timeout(where, tasks),
        default_priority=request.default_priority if request.HasField("default_priority") else None,
    )
    if request.HasField("cron_input"):
        opts.cron_input = request.cron_input
    if request.HasField("input_json_schema"):
        opts.input_json_schema = request.input_json_schema.decode(errors="replace")  # forms need it, and runs don't
    opts.event_filters.extend(_event_filter(where, each) for each in request.default_filters)
    if request.HasField("sticky"):
        opts.sticky = request.sticky
    if request.HasField("idempotency"):
        given = request.idempotency
        opts.idempotency.CopyFrom(
            v0.IdempotencyOpts(expression=given.expression, ttl_ms=given.ttl_ms, until_end=given.method == wire.STATUS)
        )
    if request.HasField("on_failure_task"):
        job = v0.CreateWorkflowJobOpts(name=request.name, steps=[_step(where, request.on_failure_task)])
        opts.on_failure_job.CopyFrom(job)
    limits = [_limit(where, limit) for limit in _limits(where, request)]
    if limits:
        opts.concurrency.CopyFrom(limits[0])
        opts.more_concurrency.extend(limits[1:])
    return opts


def _event_filter(where: str, given: wire.DefaultFilter) -> v0.EventFilter:
    try:
        return v0.EventFilter(expression=given.expression, scope=given.scope, payload=given.payload.decode())
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where}: the payload of a filter is not UTF-8, as JSON is") from error


_INSTEAD = {
    "durable execution (durable_task)": "make it a task with retries: children with keys are found again when it is "
    "retried",
    "batches": "spawn a child for each item, with run_many()",
    "conditions (wait_for, skip_if, cancel_if)": "return early where a task is to be skipped; start a workflow of its "
    "own by on_events, or by schedule(), for what has to wait",
    "a limit of runs over all workflows (tenant-scoped)": "let a rate limit that they share hold back their tasks",
    "a limit of runs that an expression computes": "give max_runs a number",
}
"""What only v1 can say, and what to do here."""


def _refuse(where: str, asked: Mapping[str, bool]) -> None:
    if found := [name for name, is_asked in asked.items() if is_asked]:
        instead = "; ".join(_INSTEAD[name] for name in found)
        raise Unsupported(f"{where} asks for {', '.join(found)}, which this version does not have: {instead}")


def _check_task(where: str, task: wire.CreateTaskOpts) -> None:
    conditions = task.conditions
    _refuse(
        where,
        {
            "durable execution (durable_task)": task.is_durable,
            "batches": task.HasField("batch"),
            "conditions (wait_for, skip_if, cancel_if)": bool(
                conditions.parent_override_conditions or conditions.sleep_conditions or conditions.user_event_conditions
            ),
        },
    )


def _step(where: str, task: wire.CreateTaskOpts) -> v0.CreateWorkflowStepOpts:
    step = v0.CreateWorkflowStepOpts(
        readable_id=task.readable_id,
        action=task.action,
        timeout=task.timeout,
        inputs=task.inputs,
        parents=task.parents,
        retries=task.retries,
        rate_limits=task.rate_limits,
    )
    for key, label in task.worker_labels.items():
        step.worker_labels[key].CopyFrom(label)
    if task.HasField("backoff_factor"):
        step.backoff_factor = task.backoff_factor
    if task.HasField("backoff_max_seconds"):
        step.backoff_max_seconds = task.backoff_max_seconds
    return step


def _schedule_timeout(where: str, tasks: list[wire.CreateTaskOpts]) -> str | None:
    """Return the longest of all tasks' timeouts: here there is one for the workflow."""
    given = [task.schedule_timeout for task in tasks if task.schedule_timeout]
    try:
        return max(given, key=parse_duration, default=None)
    except ValueError as error:
        raise InvalidRequest(f"{where}: its schedule timeout: {error}") from error


def _limits(where: str, request: wire.CreateWorkflowVersionRequest) -> list[wire.Concurrency]:
    """Return the limits of a workflow; those of its only task are equivalent."""
    of_workflow = list(request.concurrency_arr)
    if request.HasField("concurrency") and request.concurrency not in of_workflow:
        of_workflow.insert(0, request.concurrency)
    of_tasks = [limit for task in request.tasks for limit in task.concurrency]
    if (of_tasks and len(request.tasks) > 1) or request.on_failure_task.concurrency:
        raise Unsupported(
            f"{where} limits the concurrency of single tasks, which this version does not have; limit the workflow"
        )
    return of_workflow + of_tasks


def _limit(where: str, limit: wire.Concurrency) -> v0.WorkflowConcurrencyOpts:
    _refuse(
        where,
        {
            "a limit of runs over all workflows (tenant-scoped)": limit.is_tenant_scoped,
            "a limit of runs that an expression computes": bool(limit.max_runs_expression),
        },
    )
    return v0.WorkflowConcurrencyOpts(
        expression=limit.expression,
        max_runs=limit.max_runs if limit.HasField("max_runs") else None,
        limit_strategy=limit.limit_strategy,
    )


# --- To clients


def run_details(
    run: WorkflowRun, graph: Graph | None, texts: Mapping[str, str] = NO_TEXTS
) -> wire.GetRunDetailsResponse:
    """Tell a run's progress, and what its steps returned; ``texts``: what clients get instead of references."""
    given = input_text(run.spec)
    on_failure = graph.on_failure.name if graph and graph.on_failure else None
    details = wire.GetRunDetailsResponse(
        input=texts.get(given, given).encode(),
        status=_STATUS[run.status.phase],
        done=run.status.phase.is_final,
        additional_metadata=orjson.dumps(run.spec.additional_metadata or {}),
    )
    for name, state in run.status.steps.items():
        if name != on_failure:  # it does not determine how the run ended
            details.task_runs[name].CopyFrom(_task(run, name, state, texts))
    return details


def _task(run: WorkflowRun, name: str, state: StepStatus, texts: Mapping[str, str]) -> wire.TaskRunDetail:
    identity = current_attempt_id(run, name)
    task = wire.TaskRunDetail(external_id=identity, readable_id=name, status=_STATUS[state.phase])
    if state.phase is Phase.SUCCEEDED:
        output = state.output or "{}"
        task.output = texts.get(output, output).encode()
    # a step that never ran because another failed adds no error of its own
    if state.phase is Phase.FAILED or (state.phase is Phase.CANCELLED and state.reason != Reason.PREVIOUS_STEP_FAILED):
        task.error = error_told(state) or ""
    return task
