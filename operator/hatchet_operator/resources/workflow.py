"""Workflow: the definition of a workflow. A person owns `spec`, registration by a worker owns `status.definition`."""

from typing import Annotated

from pydantic import Field

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel, Time
from hatchet_operator.resources.durations import Duration, PositiveDuration
from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.rate_limit import StepRateLimits
from hatchet_operator.resources.reasons import (
    ClientApi,
    Execution,
    LimitStrategy,
    OnRetriesExhausted,
    Record,
    RunOn,
    ScheduleTimeoutCounts,
    Stickiness,
)
from hatchet_operator.resources.triggers import (
    MAX_TRIGGERS,
    CronStatus,
    CronTrigger,
    EventFilter,
    EventKey,
    EventTrigger,
    Schedule,
)
from hatchet_operator.resources.worker_labels import DesiredLabels

_STICKY = (
    "Whether the steps of a run go to the worker that took its first one. Soft: if that has a free slot. Hard: to no "
    "other"
)
_WORKER_LABELS = "Labels that a worker should have, or must, by their keys"
MAX_INT32 = 2**31 - 1  # what the workers' protocol can carry
_MAX_REASSIGNMENTS = (
    "How often an attempt is given to another worker after one died with it; 0: it is never executed twice, whatever "
    "ended its worker. Absent: twice."
)
_RECORD = (
    "What is recorded of children that ask for nothing else. Full: an object from the spawn on. Result: the object is "
    "made when the child has finished, failed or run for a second; until then the operator's end makes it run again"
)
_MAX_DELAYS = 32
_BACKOFF_DELAYS = (
    "How long the first, second, … retry waits, later ones as long as the last; not with a factor; at most a day each."
)
_BACKOFF_JITTER = "Which share of each wait is left to chance, so that many failures don't return at once."
MAX_INPUT_SCHEMA = 65536
_POOL_NAME = {
    "rule": "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    "message": 'cannot be the name of a WorkerPool object, which has lower-case letters, digits, "-" and "."; '
    "see kubectl get wp",
}
_STEP_NAMES = {
    "rule": "self.all(name, name.matches('[^ \\t\\r\\n]') && name.size() <= 253)",
    "message": "has a step whose name is empty or has more than 253 characters; expected names of the workflow's steps",
}
Name = Annotated[str, Field(max_length=253, min_length=1)]


class ConcurrencyLimit(ResourceModel):
    """How many runs of one group may go on at a time. The group is what an expression makes of a run's input."""

    expression: Annotated[
        str,
        Field(
            description="CEL over `input` and `additional_metadata` that names the group, as in input.user; a text in "
            "quotes puts all runs into one group. Macros that loop (map, filter, all, exists) are not allowed.",
            max_length=1024,
            min_length=1,
        ),
    ]
    max_runs: Annotated[int, Field(ge=1, le=MAX_INT32, description="How many runs of a group go on at a time.")] = 1
    strategy: Annotated[
        LimitStrategy,
        Field(
            description="What happens when a group is full. CancelInProgress: the newest run goes on, the others are "
            "cancelled. CancelNewest: the newcomer is cancelled. QueueNewest, GroupRoundRobin: it waits for its turn. "
            "CancelQueuedExceptNewest: it waits, and those that waited before it are cancelled."
        ),
    ] = LimitStrategy.QUEUE_NEWEST


class Idempotency(ResourceModel):
    """What makes two runs of a workflow the same one: a key that an expression makes of a run's input."""

    expression: Annotated[
        str,
        Field(
            description="CEL over `input` and `additional_metadata` that makes the key, as in input.order; while a run "
            "has it, no second one is created. Macros that loop (map, filter, all, exists) are not allowed.",
            max_length=1024,
            min_length=1,
        ),
    ]
    ttl: Annotated[PositiveDuration, Field(description="How long a run has its key, from its creation.")]
    until_end: Annotated[
        bool, Field(description="Whether the key is free as soon as the run has ended; ttl is then the longest time.")
    ] = False


Concurrency = Annotated[tuple[ConcurrencyLimit, ...], Field(max_length=8)]


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
    backoff_delays: Annotated[
        tuple[Duration, ...] | None, Field(max_length=_MAX_DELAYS, description=_BACKOFF_DELAYS)
    ] = None
    backoff_jitter: Annotated[float | None, Field(ge=0, le=1, description=_BACKOFF_JITTER)] = None
    max_reassignments: Annotated[int | None, Field(ge=0, le=MAX_INT32, description=_MAX_REASSIGNMENTS)] = None
    worker_labels: Annotated[DesiredLabels | None, Field(description=f"{_WORKER_LABELS}.")] = None
    # None and not (): a definition without them keeps its text, and so its revision
    rate_limits: Annotated[StepRateLimits | None, Field(description="Units of rate limits that each attempt uses.")] = (
        None
    )


GROUP_KEY_STEP = "group-key"
"""Name of the step that runs a worker's method which names a run's group; code can give no step this name."""


class WorkflowDefinition(ResourceModel):
    """What a worker registered: the steps and their order."""

    name: Annotated[Name, Field(description="Exact name of the workflow, as code spells it.")]
    description: Annotated[str, Field(description="What the workflow is for.", max_length=4096)] = ""
    version: Annotated[str, Field(description="Version that the author gave.", max_length=253)] = ""
    steps: Annotated[tuple[StepDefinition, ...], Field(description="The steps of the graph.", max_length=256)]
    on_failure: Annotated[
        StepDefinition | None, Field(description="A step that runs once when the run has failed.")
    ] = None
    run_on: Annotated[RunOn | None, Field(description="After which ends the on-failure step runs.")] = None
    client_api: Annotated[
        ClientApi | None,
        Field(
            description="Hatchet's API that it was registered with, if not the first: whoever awaits its runs is told "
            "in the words that clients of that know."
        ),
    ] = None
    schedule_timeout: Annotated[
        Duration, Field(description="How long a step may wait while no connected worker could take it.")
    ]
    sticky: Annotated[Stickiness | None, Field(description=f"{_STICKY}.")] = None
    default_priority: Annotated[int | None, Field(ge=1, le=3, description="Priority of runs that set none.")] = None
    concurrency: Annotated[
        Concurrency | None, Field(description="Limits of runs at a time; a run starts when all of them let it.")
    ] = None
    group_key: Annotated[
        StepDefinition | None,
        Field(description="A step before all others that names the run's concurrency group, group_key of expressions."),
    ] = None
    idempotency: Annotated[
        Idempotency | None, Field(description="What makes two of its runs the same one; absent: nothing does.")
    ] = None
    record: Annotated[Record | None, Field(description=f"{_RECORD}.")] = None
    input_schema: Annotated[
        str | None,
        Field(
            description="JSON Schema of a run's input, as text, for forms; nothing is checked against it.",
            max_length=MAX_INPUT_SCHEMA,
        ),
    ] = None
    # None and not (): a definition without them keeps its text, and so its revision
    crons: Annotated[
        tuple[Schedule, ...] | None, Field(description="Schedules of runs, in UTC.", max_length=MAX_TRIGGERS)
    ] = None
    cron_input: Annotated[
        str | None, Field(description="Input of runs that a schedule starts, as JSON text.", max_length=262144)
    ] = None
    events: Annotated[
        tuple[EventKey, ...] | None, Field(description="Keys of events that start runs.", max_length=MAX_TRIGGERS)
    ] = None
    event_filters: Annotated[
        tuple[EventFilter, ...] | None,
        Field(description="Which events of these keys start a run; absent: all.", max_length=MAX_TRIGGERS),
    ] = None


class StepOverrides(ResourceModel):
    """Overrides for one step; where a field is absent, what the worker registered applies."""

    timeout: Annotated[PositiveDuration | None, Field(description='How long one attempt may run, as in "30s".')] = None
    retries: Annotated[int | None, Field(ge=0, le=MAX_INT32, description="Attempts after the first one.")] = None
    backoff_factor: Annotated[float | None, Field(ge=1, description="Attempt n+1 starts after factor^n seconds.")] = (
        None
    )
    backoff_max_seconds: Annotated[
        int | None, Field(ge=0, le=MAX_INT32, description="The longest wait between attempts.")
    ] = None
    backoff_delays: Annotated[
        tuple[Duration, ...] | None, Field(min_length=1, max_length=_MAX_DELAYS, description=_BACKOFF_DELAYS)
    ] = None
    backoff_jitter: Annotated[float | None, Field(ge=0, le=1, description=_BACKOFF_JITTER)] = None
    max_reassignments: Annotated[int | None, Field(ge=0, le=MAX_INT32, description=_MAX_REASSIGNMENTS)] = None
    worker_labels: Annotated[
        DesiredLabels | None, Field(description=f"{_WORKER_LABELS}, instead of those in the code; {{}}: none.")
    ] = None
    rate_limits: Annotated[
        StepRateLimits | None,
        Field(
            description="Units of rate limits that each attempt uses, instead of those that code registered; []: none."
        ),
    ] = None


class OnFailureOverrides(ResourceModel):
    """What a person changes about the on-failure step beside what steps have."""

    run_on: Annotated[
        RunOn | None,
        Field(
            description="After which ends of the other steps it runs. Failure: one failed, or stopped by itself. "
            "Cancel: the run was cancelled after a step had begun. FailureOrCancel: either. Always: after success too."
        ),
    ] = None


class WorkflowSpec(ResourceModel):
    """What a person set. All optional: an empty spec leaves everything to the code that registers the workflow."""

    name: Annotated[
        str | None,
        Field(description="Exact name of the workflow; absent: metadata.name.", max_length=253, min_length=1),
    ] = None
    pool: Annotated[
        str | None,
        Field(
            description="The WorkerPool whose workers may register and run it.",
            max_length=63,
            json_schema_extra={"x-kubernetes-validations": [_POOL_NAME]},
        ),
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
        Field(description="How pods made for runs differ from the pool's template; for execution Pod."),
    ] = None
    steps: Annotated[
        dict[str, StepOverrides],
        Field(
            description="Overrides by step name.",
            json_schema_extra={"maxProperties": 256, "x-kubernetes-validations": [_STEP_NAMES]},
        ),
    ] = {}
    on_failure: Annotated[
        OnFailureOverrides | None,
        Field(description="Overrides for the on-failure step, in addition to its entry in steps."),
    ] = None
    schedule_timeout: Annotated[
        PositiveDuration | None, Field(description="How long a step may wait while no connected worker could take it.")
    ] = None
    schedule_timeout_counts: Annotated[
        ScheduleTimeoutCounts,
        Field(description="Worker: only time without a worker that could take the step. Queue: all time in the queue."),
    ] = ScheduleTimeoutCounts.WORKER
    on_retries_exhausted: Annotated[
        OnRetriesExhausted,
        Field(
            description="What becomes of a run of which a step failed and has no retries left. Fail: it fails. Pause: "
            "the step waits for a person, who raises spec.resumes of the run to have it tried again, or cancels it."
        ),
    ] = OnRetriesExhausted.FAIL
    priority: Annotated[int | None, Field(ge=1, le=3, description="Priority of runs that set none; 3 goes first.")] = (
        None
    )
    sticky: Annotated[Stickiness | None, Field(description=f"{_STICKY}, None: to any; absent: as the code says.")] = (
        None
    )
    record: Annotated[Record | None, Field(description=f"{_RECORD}. Absent: as the code says.")] = None
    max_parallel: Annotated[
        int | None,
        Field(ge=1, le=MAX_INT32, description="How many runs of it go on at a time; others wait for their turn."),
    ] = None
    ttl: Annotated[
        Duration | None,
        Field(description="How long finished root runs are kept; absent: 24h, and 7d for those that failed."),
    ] = None
    concurrency: Annotated[
        Concurrency | None,
        Field(description="Limits of runs at a time, instead of those that code registered; []: none."),
    ] = None
    idempotency: Annotated[
        Idempotency | None,
        Field(description="What makes two of its runs the same one, instead of what code registered."),
    ] = None
    suspended: Annotated[
        bool, Field(description="No step is started while this is true, and no cron ticks; running steps finish.")
    ] = False
    crons: Annotated[
        tuple[CronTrigger, ...],
        Field(
            description="Runs by the clock, in addition to those that a worker registers; one with the schedule and "
            "zone of a registered one overrides it.",
            max_length=MAX_TRIGGERS,
        ),
    ] = ()
    events: Annotated[
        tuple[EventTrigger, ...],
        Field(
            description="Events that start runs, in addition to those that a worker registers.", max_length=MAX_TRIGGERS
        ),
    ] = ()


GROUPS_SHOWN = 20
"""How many concurrency groups a status shows; the others are counted."""
RUNS_SHOWN = 5
"""How many of a group's runs are named."""


class GroupStatus(ResourceModel):
    """One concurrency group: how many of its runs go on and wait, and the first of both."""

    expression: Annotated[str, Field(description="The limit's expression.", max_length=1024)]
    key: Annotated[str, Field(description="Value of the expression, which names the group.", max_length=512)]
    active: Annotated[int, Field(ge=0, description="Number of runs that are in progress or being cancelled.")] = 0
    waiting: Annotated[int, Field(ge=0, description="Number of runs that wait for their turn.")] = 0
    active_runs: Annotated[
        tuple[Name, ...],
        Field(description="Runs in progress, oldest first; truncated if there are many.", max_length=RUNS_SHOWN),
    ] = ()
    waiting_runs: Annotated[
        tuple[Name, ...],
        Field(description="Runs whose turn is next; truncated if there are many.", max_length=RUNS_SHOWN),
    ] = ()


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
    crons: Annotated[tuple[CronStatus, ...], Field(description="State of each cron.", max_length=2 * MAX_TRIGGERS)] = ()
    last_tick: Annotated[Time | None, Field(description="The last tick of any cron that started a run.")] = None
    next_tick: Annotated[Time | None, Field(description="The next tick of any cron.")] = None
    concurrency_groups: Annotated[
        tuple[GroupStatus, ...] | None,
        Field(
            description="Concurrency groups with unfinished runs, those with most waiting first; not all of many.",
            max_length=GROUPS_SHOWN,
        ),
    ] = None
    groups: Annotated[int | None, Field(ge=0, description="How many such groups there are; absent: none.")] = None
    waiting: Annotated[
        int | None, Field(ge=0, description="Runs that wait for their turn in a concurrency group; absent: none.")
    ] = None
    conditions: Annotated[Conditions, Field(description="Ready, Registered, Valid, Offered and Stalled.")] = ()
    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )


class Workflow(ResourceModel):
    """The definition of a workflow. Workers register it; a person may set overrides in its spec."""

    metadata: ObjectMeta
    spec: Annotated[
        WorkflowSpec, Field(description="Desired state: overrides that a person set, all of them optional.")
    ] = WorkflowSpec()
    status: Annotated[WorkflowStatus, Field(description="What workers registered.")] = WorkflowStatus()

    @property
    def exact_name(self) -> str:
        """The name that code uses: spec.name, otherwise what a worker registered, otherwise the object's name."""
        if self.spec.name:
            return self.spec.name
        return self.status.definition.name if self.status.definition else self.metadata.name
