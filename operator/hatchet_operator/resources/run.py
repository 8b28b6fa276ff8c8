"""WorkflowRun: one execution of a workflow, child or not. Its object in etcd is the truth about the run."""

import operator
from typing import Annotated, Any

from pydantic import Field, model_validator

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel, Time
from hatchet_operator.resources.durations import Duration
from hatchet_operator.resources.labels import LabelKey
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import LossKind, OnParentClose, Phase, ReplayFrom
from hatchet_operator.resources.worker_labels import StickyWorker
from hatchet_operator.resources.workflow import MAX_INT32

OURSELVES = "hatchet-operator.dev/operator"
"""Which `managedBy` is ours."""
_CONTROLLER = {
    "rule": "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$')",
    "message": "cannot be the name of a controller; expected a domain and a path, as in kueue.x-k8s.io/multikueue",
}


class ParentRef(ResourceModel):
    """Which step of which run spawned this one, and as which child."""

    name: Annotated[str, Field(description="Name of the parent run.", max_length=253)]
    uid: Annotated[str, Field(description="UID of the parent run.", max_length=64)]
    step: Annotated[str, Field(description="The step that spawned this run.", max_length=253)]
    key: Annotated[str | None, Field(description="The spawn key, if one was given.", max_length=65536)] = None
    index: Annotated[
        int,
        Field(
            description="Position among the spawns of the step's attempt, from -1, as Hatchet counts. "
            "Trees call the first one #1.",
            ge=-1,
            le=MAX_INT32,
        ),
    ]

    @property
    def ordinal(self) -> int:
        """Position among the spawns as people count, from 1."""
        return self.index + 2


class Replay(ResourceModel):
    """A finished run, run again: from what failed, or from the start."""

    number: Annotated[
        int,
        Field(ge=1, le=MAX_INT32, description="Which rerun is meant: one more than status.reruns. It only goes up."),
    ]
    from_: Annotated[
        ReplayFrom,
        Field(
            alias="from",
            description="Failed: the steps that did not succeed, the failed children of these first; outputs and "
            "children of the others are kept. Start: all steps; the children are deleted first, and spawned again.",
        ),
    ]
    requested_by: Annotated[
        str | None, Field(description="The replay of the parent that asked, set by the operator.", max_length=64)
    ] = None


class RunSpec(ResourceModel):
    """Desired state of the run. Immutable, but for its start, urgency, suspension, end, reruns and time to live."""

    workflow: Annotated[
        str,
        Field(
            description="Object name of the Workflow.",
            max_length=63,
            min_length=1,
            json_schema_extra={
                "x-kubernetes-validations": [
                    {
                        "rule": "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
                        "message": "cannot be the name of a Workflow object, which has lower-case letters, digits and "
                        '"-": workflow "DailyReport" has the object "dailyreport"; see kubectl get wf',
                    },
                ]
            },
        ),
    ]
    input: Annotated[
        dict[str, Any] | None,
        Field(description="Input of the steps, for people who write YAML; at most 256 KiB as JSON, or the run fails."),
    ] = None
    input_json: Annotated[
        str | None,
        Field(
            description="Input as the text of a JSON object, as programs write it; at most 256 KiB.", max_length=262144
        ),
    ] = None
    filter_payload: Annotated[
        str | None,
        Field(
            description="Payload of the filter that matched the event that started the run, as the text of a JSON "
            "object; Hatchet's clients give it to steps.",
            max_length=65536,
        ),
    ] = None
    start_at: Annotated[
        Time | None, Field(description="No step is dispatched before this time; it may be changed until then.")
    ] = None
    sticky_worker: Annotated[
        StickyWorker | None,
        Field(description="Set by the operator on sticky children: the worker that spawned the run."),
    ] = None
    priority: Annotated[
        int | None, Field(ge=1, le=3, description="From 1, the default, to 3, which is dispatched first.")
    ] = None
    additional_metadata: Annotated[
        dict[str, Any] | None,
        Field(description="Arbitrary key-value pairs, passed to the steps and to child runs; at most 256 KiB as JSON."),
    ] = None
    parent: Annotated[
        ParentRef | None,
        Field(
            description="Set by the operator on runs that a step spawned.",
            json_schema_extra={"x-kubernetes-map-type": "atomic"},  # it is never changed, so has one owner
        ),
    ] = None
    managed_by: Annotated[
        str | None,
        Field(
            description="The controller that runs it, as a domain and a path; absent or hatchet-operator.dev/operator: "
            "hatchet-operator, which leaves a run of another one, and the runs below it, entirely alone.",
            max_length=63,
            json_schema_extra={"x-kubernetes-validations": [_CONTROLLER]},
        ),
    ] = None
    begun_as: Annotated[
        str | None,
        Field(
            description="Set by the operator on a child of which the result is recorded: the id under which it began, "
            "before this object was made. Its attempts are identified by it.",
            max_length=64,
        ),
    ] = None
    cancelled: Annotated[bool, Field(description="Set it to true to cancel the run and its children.")] = False
    suspended: Annotated[
        bool,
        Field(
            description="While this is true no step of the run is started, and the run holds no place in any queue; "
            "running steps finish, and so do their children."
        ),
    ] = False
    ttl: Annotated[
        Duration | None, Field(description="How long the run is kept after it finished; root runs only.")
    ] = None
    propagate_labels: Annotated[
        tuple[LabelKey, ...] | None,
        Field(
            description="Keys of labels of this run that its children get too, and theirs.",
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = None
    reruns: Annotated[
        int,
        Field(
            ge=0,
            description="Raise it by one to run all steps of a finished run once more; they find its children as they "
            "are. See replay for other ways.",
        ),
    ] = 0
    resumes: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_INT32,
            description="Raise it to have steps tried again that failed and wait for that, as a Workflow's "
            "onRetriesExhausted: Pause has them do.",
        ),
    ] = None
    replay: Annotated[
        Replay | None, Field(description="Runs a finished run again; one that goes on is run again after its end.")
    ] = None
    rerun_requested_by: Annotated[
        str | None, Field(description="The parent's attempt that asked for the last rerun.", max_length=64)
    ] = None
    execution: Annotated[int | None, Field(ge=0, description="Earlier name of reruns; the higher one counts.")] = None
    execution_requested_by: Annotated[
        str | None, Field(description="Earlier name of rerunRequestedBy.", max_length=64)
    ] = None
    on_parent_close: Annotated[
        OnParentClose, Field(description="What happens to this run when its parent succeeds or fails.")
    ] = OnParentClose.ABANDON

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_names(cls, value: Any) -> Any:
        return _with_earlier_names(value, reruns="execution", rerunRequestedBy="executionRequestedBy")

    @property
    def is_ours(self) -> bool:
        """Whether no other controller runs it."""
        return self.managed_by in (None, OURSELVES)

    @property
    def reruns_wanted(self) -> int:
        """The rerun that was asked for last, in whichever way."""
        return max(self.reruns, self.replay.number) if self.replay else self.reruns

    @property
    def rerun_from(self) -> ReplayFrom | None:
        """How that rerun is to go; None: all steps, which find the run's children as they are."""
        return self.replay.from_ if self.replay and self.replay.number > self.reruns else None


MAX_EARLIER = 10


class EarlierTry(ResourceModel):
    """An attempt of a step that was followed by another."""

    attempt: Annotated[int, Field(ge=0, description="Number of the attempt, from 0.")]
    worker: Annotated[str, Field(description="The worker pod, or worker, that ran the attempt.", max_length=253)]


class LostWorker(ResourceModel):
    """A worker that died, or was taken away, while it ran a step."""

    at: Annotated[Time, Field(description="When the loss was noticed.")]
    worker: Annotated[str | None, Field(description="The worker pod, or worker.", max_length=253)] = None
    started_at: Annotated[Time | None, Field(description="When the step was dispatched to the worker.")] = None
    attempt: Annotated[int, Field(ge=0, description="The attempt that the worker ran.")] = 0
    kind: Annotated[
        LossKind,
        Field(
            description="Crash: the step may be the cause. Cleared: it had been tried apart before, others that ran "
            "had not. Bystander: it waited for children while others ran. Disruption: the pod was taken away. "
            "NotStarted: the step had not begun."
        ),
    ] = LossKind.CRASH
    why: Annotated[str, Field(description="How the worker ended.", max_length=512)] = ""


class StepStatus(ResourceModel):
    """Observed state of one step."""

    phase: Annotated[Phase, Field(description="Phase of the step.")] = Phase.PENDING
    attempt: Annotated[int, Field(ge=0, description="How many attempts came before the current or last one.")] = 0
    losses: Annotated[
        int, Field(ge=0, description="How many workers died while they ran this step and may have died of it.")
    ] = 0
    disruptions: Annotated[
        int, Field(ge=0, description="How often its worker was taken away: drains, evictions, deletion, scale-in.")
    ] = 0
    lost_workers: Annotated[
        tuple[LostWorker, ...],
        Field(
            description="The most recent workers that were lost while they ran this step.",
            max_length=8,
            exclude_if=operator.not_,
        ),
    ] = ()
    dispatch: Annotated[int, Field(ge=0, description="Incremented when an attempt must be dispatched again.")] = 0
    worker: Annotated[
        str | None, Field(description="The worker pod, or worker, that runs or ran the attempt.", max_length=253)
    ] = None
    earlier: Annotated[
        tuple[EarlierTry, ...],
        Field(
            description="The last ten attempts before this one: those that failed, and those whose worker died.",
            max_length=MAX_EARLIER,
            exclude_if=operator.not_,
        ),
    ] = ()
    started_at: Annotated[Time | None, Field(description="When the attempt was dispatched.")] = None
    finished_at: Annotated[Time | None, Field(description="When the step became final.")] = None
    retry_at: Annotated[Time | None, Field(description="When the next attempt may start.")] = None
    paused_at: Annotated[
        Time | None, Field(description="Since when the step waits for a person, after it failed with no retries left.")
    ] = None
    retries_from: Annotated[
        int | None,
        Field(ge=0, description="The attempt with which a person resumed the step; retries count from there."),
    ] = None
    reason: Annotated[str | None, Field(description="Why it failed or was cancelled.", max_length=63)] = None
    error: Annotated[str | None, Field(description="Error text of the last failed attempt.", max_length=20000)] = None
    output: Annotated[str | None, Field(description="What the step returned, as JSON text.", max_length=262144)] = None


NOT_BEGUN = StepStatus()
"""The state of a step that the status says nothing about."""


class ChildCounts(ResourceModel):
    """How many children a run has, by phase."""

    total: Annotated[int, Field(ge=0, description="All children.")] = 0
    succeeded: Annotated[int, Field(ge=0, description="Children that succeeded.")] = 0
    failed: Annotated[int, Field(ge=0, description="Children that failed.")] = 0
    cancelled: Annotated[int, Field(ge=0, description="Children that were cancelled.")] = 0
    summary: Annotated[str, Field(description='Finished and all children, as in "7/10".', max_length=32)] = ""

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """All, and those that succeeded, failed and were cancelled."""
        return self.total, self.succeeded, self.failed, self.cancelled


class RunStatus(ResourceModel):
    """Where a run stands; written whole, by the operator alone."""

    phase: Annotated[Phase, Field(description="Phase of the run.")] = Phase.PENDING
    reason: Annotated[
        str | None, Field(description="Machine-readable reason for the phase, in one word.", max_length=63)
    ] = None
    message: Annotated[str | None, Field(description="Explanation of the phase, as a sentence.", max_length=4096)] = (
        None
    )
    reruns: Annotated[int, Field(ge=0, description="The rerun that this status describes; 0 is the first run.")] = 0
    execution: Annotated[int | None, Field(ge=0, description="Earlier name of reruns.")] = None
    resumes: Annotated[
        int | None, Field(ge=0, description="How much of spec.resumes has had its effect; absent: none.")
    ] = None
    children_first: Annotated[
        ReplayFrom | None,
        Field(
            description="A replay has begun, and the run's own steps wait. Failed: until children that failed were run "
            "again. Start: until its children are deleted."
        ),
    ] = None
    started_at: Annotated[Time | None, Field(description="When the first step was dispatched.")] = None
    finished_at: Annotated[Time | None, Field(description="When the run became final.")] = None
    duration: Annotated[str | None, Field(description="Time from startedAt to finishedAt.", max_length=32)] = None
    duration_milliseconds: Annotated[
        int | None, Field(ge=0, description="The same as a number, for kubectl get --sort-by.")
    ] = None
    definition: Annotated[
        str | None, Field(description="The ControllerRevision whose graph is executed.", max_length=63)
    ] = None
    steps: Annotated[
        dict[str, StepStatus],
        Field(description="State of the steps, by name.", json_schema_extra={"maxProperties": 257}),
    ] = {}
    children: Annotated[ChildCounts | None, Field(description="The child runs, by phase.")] = None
    sticky_worker: Annotated[
        StickyWorker | None, Field(description="The worker that the steps of an unfinished sticky run go to.")
    ] = None
    concurrency_groups: Annotated[
        tuple[Annotated[str, Field(max_length=512)], ...] | None,
        Field(
            description="The concurrency groups that the run counts in, one for each limit of its workflow.",
            max_length=9,
        ),
    ] = None
    conditions: Annotated[
        Conditions, Field(description="Ready, Finished, Succeeded, Stalled, Paused, Suspended, WorkflowMissing.")
    ] = ()
    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_names(cls, value: Any) -> Any:
        return _with_earlier_names(value, reruns="execution")


def _with_earlier_names(value: Any, **earlier: str) -> Any:
    """Read objects that were written before a field got its name; of two numbers the higher one counts."""
    if not isinstance(value, dict) or value.keys().isdisjoint(earlier.values()):
        return value
    read = dict(value)
    for now, before in earlier.items():
        if (old := read.pop(before, None)) is not None:
            new = read.get(now)
            read[now] = max(old, new) if isinstance(old, int) and isinstance(new, int) else (new or old)
    return read


class WorkflowRun(ResourceModel):
    """One execution of a workflow. Children of a run are WorkflowRuns too, owned by it."""

    metadata: ObjectMeta
    spec: Annotated[RunSpec, Field(description="Desired state of the run.")]
    status: Annotated[RunStatus, Field(description="Observed state of the run.")] = RunStatus()

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.metadata.namespace, self.metadata.name)

    @property
    def identity(self) -> str:
        """By which its attempts are identified: its UID, unless it began before it had one."""
        return self.spec.begun_as or self.metadata.uid
