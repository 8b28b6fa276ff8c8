"""Workflow: the definition of a workflow. A person owns `spec`, registration by a worker owns `status.definition`."""

from typing import Annotated

from pydantic import Field

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel
from hatchet_operator.resources.durations import Duration, PositiveDuration
from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.reasons import Execution, ScheduleTimeoutCounts

MAX_INT32 = 2**31 - 1  # what the workers' protocol can carry
_MAX_REASSIGNMENTS = (
    "How often an attempt is given to another worker after one died with it; 0: it is never executed twice, whatever "
    "ended its worker. Absent: twice."
)
Name = Annotated[str, Field(max_length=253, min_length=1)]


class StepDefinition(ResourceModel):
    """One node of a workflow's graph, as a worker registered it."""

    name: Annotated[Name, Field(description="Name of the step, unique within the workflow.")]
    action: Annotated[str, Field(description="What a worker must offer to take this step.", max_length=512)]
    parents: Annotated[tuple[Name, ...], Field(description="Steps that must succeed first.", max_length=256)] = ()
    timeout: Annotated[Duration, Field(description='How long one attempt may run, as in "30s" or "5m".')]
    retries: Annotated[int, Field(ge=0, le=MAX_INT32, description="Attempts after the first one.")] = 0
    backoff_factor: Annotated[
        float | None, Field(ge=1, description="Attempt n+1 starts after factor^n seconds; absent: at once.")
    ] = None
    backoff_max_seconds: Annotated[
        int | None, Field(ge=0, le=MAX_INT32, description="The longest wait between attempts.")
    ] = None
    max_reassignments: Annotated[int | None, Field(ge=0, le=MAX_INT32, description=_MAX_REASSIGNMENTS)] = None


class WorkflowDefinition(ResourceModel):
    """What a worker registered: the steps and their order."""

    name: Annotated[Name, Field(description="Exact name of the workflow, as code spells it.")]
    description: Annotated[str, Field(description="What the workflow is for.", max_length=4096)] = ""
    version: Annotated[str, Field(description="Version that the author gave.", max_length=253)] = ""
    steps: Annotated[tuple[StepDefinition, ...], Field(description="The steps of the graph.", max_length=256)]
    on_failure: Annotated[
        StepDefinition | None, Field(description="A step that runs once when the run has failed.")
    ] = None
    schedule_timeout: Annotated[
        Duration, Field(description="How long a step may wait while no connected worker could take it.")
    ]
    default_priority: Annotated[int | None, Field(ge=1, le=3, description="Priority of runs that set none.")] = None


class StepOverrides(ResourceModel):
    """What a person changes about a step; each absent field leaves what the worker registered."""

    timeout: Annotated[PositiveDuration | None, Field(description='How long one attempt may run, as in "30s".')] = None
    retries: Annotated[int | None, Field(ge=0, le=MAX_INT32, description="Attempts after the first one.")] = None
    backoff_factor: Annotated[float | None, Field(ge=1, description="Attempt n+1 starts after factor^n seconds.")] = (
        None
    )
    backoff_max_seconds: Annotated[
        int | None, Field(ge=0, le=MAX_INT32, description="The longest wait between attempts.")
    ] = None
    max_reassignments: Annotated[int | None, Field(ge=0, le=MAX_INT32, description=_MAX_REASSIGNMENTS)] = None


class WorkflowSpec(ResourceModel):
    """What a person set. All optional: an empty spec leaves everything to the code that registers the workflow."""

    name: Annotated[
        str | None,
        Field(description="Exact name of the workflow; absent: metadata.name.", max_length=253, min_length=1),
    ] = None
    pool: Annotated[
        str | None, Field(description="The WorkerPool whose workers may register and run it.", max_length=63)
    ] = None
    execution: Annotated[
        Execution,
        Field(
            description="Pool: by the pool's workers. Pod: in a pod made for the run from the pool's template, which "
            "takes only that run and is deleted after it."
        ),
    ] = Execution.POOL
    pod_overrides: Annotated[
        PodOverrides | None,
        Field(description="What pods made for runs have other than the pool's template; for execution Pod."),
    ] = None
    steps: Annotated[
        dict[str, StepOverrides], Field(description="Overrides by step name.", json_schema_extra={"maxProperties": 256})
    ] = {}
    schedule_timeout: Annotated[
        PositiveDuration | None, Field(description="How long a step may wait while no connected worker could take it.")
    ] = None
    schedule_timeout_counts: Annotated[
        ScheduleTimeoutCounts,
        Field(description="Worker: only time without a worker that could take the step. Queue: all time in the queue."),
    ] = ScheduleTimeoutCounts.WORKER
    priority: Annotated[int | None, Field(ge=1, le=3, description="Priority of runs that set none; 3 goes first.")] = (
        None
    )
    ttl: Annotated[
        Duration | None,
        Field(description="How long finished root runs are kept; absent: 24h, and 7d for those that failed."),
    ] = None
    suspended: Annotated[bool, Field(description="No step is started while this is true; running ones finish.")] = False


class WorkflowStatus(ResourceModel):
    """What the operator knows of a workflow."""

    definition: Annotated[WorkflowDefinition | None, Field(description="What a worker registered.")] = None
    revision: Annotated[
        str | None, Field(description="The ControllerRevision that keeps the definition.", max_length=63)
    ] = None
    pool: Annotated[str | None, Field(description="The pool whose worker registered it.", max_length=63)] = None
    template: Annotated[
        str | None,
        Field(
            description="Hash of the pool's template that the worker's pod was made from; absent: the pool does not "
            "make the worker.",
            max_length=63,
        ),
    ] = None
    workers: Annotated[
        int | None,
        Field(ge=0, description="Connected workers that offer it; absent: nobody looked, or each run has a pod."),
    ] = None
    conditions: Annotated[Conditions, Field(description="Ready, Registered, Valid, Offered and Stalled.")] = ()
    observed_generation: Annotated[int | None, Field(description="The generation this status describes.")] = None


class Workflow(ResourceModel):
    """The definition of a workflow. Workers register it; a person may set overrides in its spec."""

    metadata: ObjectMeta
    spec: Annotated[WorkflowSpec, Field(description="What a person set; all optional.")] = WorkflowSpec()
    status: Annotated[WorkflowStatus, Field(description="What workers registered.")] = WorkflowStatus()

    @property
    def exact_name(self) -> str:
        """The name that code uses: spec.name, or else what a worker registered, or else the object's name."""
        if self.spec.name:
            return self.spec.name
        return self.status.definition.name if self.status.definition else self.metadata.name
