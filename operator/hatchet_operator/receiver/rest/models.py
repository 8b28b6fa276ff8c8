"""The JSON of Hatchet's REST API: what Hatchet's clients require of each answer, and what of the rest there is here.

Names and enumerations are Hatchet's. Ids are UUIDs with 36 characters, which clients check.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from hatchet_operator.resources.base import Time


class RestModel(BaseModel):
    """A part of an answer, or of a request, of which unknown fields are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        defer_build=True,  # until a client asks, which most operators never see
    )

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def _or_empty(value: object) -> object:
    return {} if value is None else value


Given = Annotated[dict[str, Any], BeforeValidator(_or_empty)]
"""A mapping in a request; Go's clients say null for one that is not given."""


class Metadata(RestModel):
    """What every resource begins with."""

    id: str
    created_at: Time
    updated_at: Time


class Pagination(BaseModel):
    """Which page this is, counting from 1. Hatchet spells these fields otherwise than all others."""

    current_page: int
    next_page: int
    num_pages: int


# --- Clients before 1.0


class Step(RestModel):
    """A step of a definition."""

    metadata: Metadata
    readable_id: str
    tenant_id: str
    job_id: str
    action: str
    timeout: str
    parents: tuple[str, ...] = ()


class StepRun(RestModel):
    """A step of a run."""

    metadata: Metadata
    tenant_id: str
    job_run_id: str
    step_id: str
    step: Step | None = None
    status: str
    worker_id: str | None = None
    output: str | None = None
    error: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    cancelled_reason: str | None = None


class JobRun(RestModel):
    """The steps of a run, or its on-failure step: clients tell them apart by ``job_id``."""

    metadata: Metadata
    tenant_id: str
    workflow_run_id: str
    job_id: str
    status: str
    step_runs: tuple[StepRun, ...] = ()


class TriggeredBy(RestModel):
    """What started a run."""

    metadata: Metadata
    parent_id: str
    parent_workflow_run_id: str | None = None
    event_id: str | None = None


class WorkflowRun(RestModel):
    """A run."""

    metadata: Metadata
    tenant_id: str
    workflow_id: str
    workflow_version_id: str
    display_name: str
    status: str
    triggered_by: TriggeredBy
    job_runs: tuple[JobRun, ...] | None = None
    input: dict[str, Any] | None = None
    error: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    duration: int | None = None
    parent_id: str | None = None
    parent_step_run_id: str | None = None
    additional_metadata: dict[str, Any] | None = None


class WorkflowRunList(RestModel):
    """A page of runs."""

    rows: tuple[WorkflowRun, ...]
    pagination: Pagination


class ReplayedRuns(RestModel):
    """The runs that were replayed."""

    workflow_runs: tuple[WorkflowRun, ...]


class RunIds(RestModel):
    """Runs by their ids, in a request and in its answer."""

    workflow_run_ids: Annotated[tuple[str, ...], Field(max_length=1000)]


class TriggerRequest(RestModel):
    """A request for a run of the workflow in the path."""

    input: Given = {}
    additional_metadata: Given = {}


# --- Clients from 1.0 on


class TaskSummary(RestModel):
    """A run, or a task of one."""

    metadata: Metadata
    action_id: str | None = None
    additional_metadata: dict[str, Any]
    attempt: int | None = None
    children: tuple["TaskSummary", ...] = ()
    created_at: Time
    display_name: str
    duration: int | None = None
    error_message: str | None = None
    finished_at: Time | None = None
    input: dict[str, Any]
    num_spawned_children: int
    output: dict[str, Any]
    parent_task_external_id: str | None = None
    retry_count: int | None = None
    started_at: Time | None = None
    status: str
    step_id: str | None = None
    task_external_id: str
    task_id: int = 0
    task_inserted_at: Time
    tenant_id: str
    type: str
    workflow_id: str
    workflow_name: str
    workflow_run_external_id: str
    workflow_version_id: str | None = None


class TaskSummaryList(RestModel):
    """A page of runs, or of the tasks of these runs."""

    pagination: Pagination
    rows: tuple[TaskSummary, ...]


class RunSummary(RestModel):
    """A run, in its details."""

    metadata: Metadata
    additional_metadata: dict[str, Any]
    created_at: Time
    display_name: str
    duration: int | None = None
    error_message: str | None = None
    finished_at: Time | None = None
    input: dict[str, Any]
    output: dict[str, Any]
    parent_task_external_id: str | None = None
    started_at: Time | None = None
    status: str
    tenant_id: str
    workflow_id: str
    workflow_version_id: str | None = None


class TaskEvent(RestModel):
    """What happened to a task, as far as its run says so."""

    id: int
    task_id: str
    timestamp: Time
    event_type: str
    message: str
    error_message: str | None = None
    task_display_name: str
    retry_count: int
    attempt: int


class ShapeItem(RestModel):
    """A task, and those that need it."""

    task_external_id: str
    step_id: str
    children_step_ids: tuple[str, ...]
    task_name: str


class RunDetails(RestModel):
    """A run with its tasks."""

    run: RunSummary
    task_events: tuple[TaskEvent, ...]
    shape: tuple[ShapeItem, ...]
    tasks: tuple[TaskSummary, ...]


class TaskFilter(RestModel):
    """Which runs are cancelled or replayed."""

    since: Time
    until: Time | None = None
    statuses: tuple[str, ...] | None = None
    workflow_ids: tuple[str, ...] | None = None
    additional_metadata: tuple[str, ...] | None = None


class ActRequest(RestModel):
    """A request to cancel or replay runs: by their ids, or those of a filter."""

    external_ids: Annotated[tuple[str, ...] | None, Field(max_length=1000)] = None
    filter: TaskFilter | None = None


class ActedOn(RestModel):
    """The runs that were cancelled or replayed."""

    ids: tuple[str, ...]


class TriggerRunRequest(RestModel):
    """A request for a run."""

    workflow_name: str
    input: Given = {}
    additional_metadata: dict[str, Any] | None = None
    priority: int | None = None


class StatusCount(RestModel):
    """How many runs have a status."""

    status: str
    count: int


# --- Both


class Job(RestModel):
    """The steps of a definition, or its on-failure step."""

    metadata: Metadata
    tenant_id: str
    version_id: str
    name: str
    steps: tuple[Step, ...]


class VersionMeta(RestModel):
    """The definition that is in effect."""

    metadata: Metadata
    version: str
    order: int
    workflow_id: str


class Workflow(RestModel):
    """A workflow."""

    metadata: Metadata
    name: str
    description: str
    is_paused: bool
    tenant_id: str
    versions: tuple[VersionMeta, ...]
    jobs: tuple[Job, ...]


class WorkflowList(RestModel):
    """A page of workflows."""

    rows: tuple[Workflow, ...]
    pagination: Pagination


class WorkflowVersion(VersionMeta):
    """The definition that is in effect, whole."""

    schedule_timeout: str
    default_priority: int | None = None
    workflow: Workflow
    jobs: tuple[Job, ...]


class SlotConfig(RestModel):
    """How many slots of a kind a worker has."""

    available: int
    limit: int


class Worker(RestModel):
    """A worker."""

    metadata: Metadata
    name: str
    type: str = "SELFHOSTED"
    status: str | None = None
    actions: tuple[str, ...] = ()
    max_runs: int | None = None
    available_runs: int | None = None
    slot_config: dict[str, SlotConfig] | None = None


class WorkerList(RestModel):
    """All workers of a namespace."""

    rows: tuple[Worker, ...]
    pagination: Pagination


class UpdateWorkerRequest(RestModel):
    """What is to be changed about a worker."""

    is_paused: bool | None = None


class ScheduleRequest(RestModel):
    """A request for a run at a time."""

    trigger_at: Time
    input: Given = {}
    additional_metadata: Given = {}
    priority: int | None = None


class ScheduledRun(RestModel):
    """A run that is to start later."""

    metadata: Metadata
    tenant_id: str
    workflow_version_id: str
    workflow_id: str
    workflow_name: str
    trigger_at: Time
    input: dict[str, Any]
    additional_metadata: dict[str, Any]
    workflow_run_id: str
    workflow_run_name: str
    workflow_run_status: str
    method: str = "API"
    priority: int | None = None


class ScheduledRunList(RestModel):
    """A page of runs that are to start later."""

    rows: tuple[ScheduledRun, ...]
    pagination: Pagination


class Cron(RestModel):
    """A cron that is in effect."""

    metadata: Metadata
    tenant_id: str
    workflow_version_id: str
    workflow_id: str
    workflow_name: str
    cron: str
    input: dict[str, Any]
    additional_metadata: dict[str, Any]
    enabled: bool
    method: str = "DEFAULT"
    priority: int | None = None


class CronList(RestModel):
    """A page of crons."""

    rows: tuple[Cron, ...]
    pagination: Pagination


class QueueMetrics(RestModel):
    """How many attempts wait for a worker, by action."""

    queues: dict[str, int]


class Error(RestModel):
    """What went wrong."""

    description: str


class Errors(RestModel):
    """The body of every answer that is an error."""

    errors: tuple[Error, ...]
