"""Phases, condition types and reasons: the words that ``kubectl get`` and ``kubectl describe`` show."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a run or a step stands. Pending -> Running -> Succeeded | Failed | Cancelled; the last three are final."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})


class OnParentClose(StrEnum):
    """What becomes of a child when its parent succeeds or fails. Cancelling a parent always cancels its children."""

    ABANDON = "Abandon"
    CANCEL = "Cancel"


class Execution(StrEnum):
    """Where the steps of a workflow run."""

    POOL = "Pool"
    POD = "Pod"


class LossKind(StrEnum):
    """What the death of a worker means for a step that it had."""

    CRASH = "Crash"  # the step may be the cause
    CLEARED = "Cleared"  # it had been tried apart after a crash, and other steps ran that were not
    BYSTANDER = "Bystander"  # it waited for children while other steps ran
    DISRUPTION = "Disruption"  # the worker's Pod was taken away
    NOT_STARTED = "NotStarted"  # the step had not begun


class ScheduleTimeoutCounts(StrEnum):
    """What the schedule timeout measures."""

    WORKER = "Worker"
    QUEUE = "Queue"


class ConditionType(StrEnum):
    """Condition types of the three kinds."""

    READY = "Ready"  # the object is what its spec asks for: a pool has its workers, a run succeeded
    STALLED = "Stalled"  # it will not be Ready by itself; only there while it holds
    RECONCILING = "Reconciling"  # on the way to what a changed spec asks for; only there while it holds
    FINISHED = "Finished"
    SUCCEEDED = "Succeeded"
    WORKFLOW_MISSING = "WorkflowMissing"
    OFFERED = "Offered"  # connected workers have a Workflow's code
    REGISTERED = "Registered"  # a Workflow has a definition
    VALID = "Valid"  # a Workflow's or WorkerPool's spec makes sense
    AVAILABLE = "Available"  # a WorkerPool has its workers
    SCALING_LIMITED = "ScalingLimited"  # a WorkerPool keeps fewer pods than it was scaled to; only there while it holds
    ROLLED_OUT = "RolledOut"  # a WorkerPool has no pod of an older template, and one of this is good or none is wanted


class Reason(StrEnum):
    """Why something is as it is."""

    COMPLETED = "Completed"
    STEP_FAILED = "StepFailed"
    TIMED_OUT = "TimedOut"
    SCHEDULING_TIMED_OUT = "SchedulingTimedOut"
    WORKER_LOST = "WorkerLost"
    CANCEL_REQUESTED = "CancelRequested"
    PARENT_CANCELLED = "ParentCancelled"
    PARENT_CLOSED = "ParentClosed"
    CANCELLED_BY_STEP = "CancelledByStep"
    PREVIOUS_STEP_FAILED = "PreviousStepFailed"
    WORKFLOW_MISSING = "WorkflowMissing"
    WORKFLOW_SUSPENDED = "WorkflowSuspended"
    INVALID_INPUT = "InvalidInput"
    STATUS_REFUSED = "StatusRefused"
    INTERNAL_ERROR = "InternalError"
    WAITING_FOR_WORKER = "WaitingForWorker"
    WAITING_FOR_SLOT = "WaitingForSlot"
    POD_ENDING = "PodEnding"  # somebody deletes the pod that the run was given, or drains its node
    # Workflow and WorkerPool
    REGISTERED = "Registered"
    OFFERED = "Offered"
    NOT_OFFERED = "NotOffered"
    NO_WORKER = "NoWorker"
    NOT_REGISTERED = "NotRegistered"
    UNKNOWN_STEP = "UnknownStep"
    INVALID_SPEC = "InvalidSpec"
    INVALID_DEFINITION = "InvalidDefinition"
    VALID = "Valid"
    AVAILABLE = "Available"
    PODS_MISSING = "PodsMissing"
    PODS_FAILING = "PodsFailing"
    ROLLED_OUT = "RolledOut"
    ROLLING_OUT = "RollingOut"
    FAILED_CREATE = "FailedCreate"
    DEFINITION_MISSING = "DefinitionMissing"  # a CRD of ours is not installed, or too old
    TOO_MANY_REPLICAS = "TooManyReplicas"  # the word of an HPA for the same
    # Events
    POD_ENDED = "PodEnded"  # by the kubelet, a drain or the scheduler
    POD_KILLED = "PodKilled"
    SPAWN_INPUT_DIFFERS = "SpawnInputDiffers"
    POOL_CONFLICT = "PoolConflict"
