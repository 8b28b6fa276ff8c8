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


class Record(StrEnum):
    """What is recorded of a child: everything, from its spawn on; or its result, with the first status that it gets."""

    FULL = "Full"
    RESULT = "Result"


class OnRetriesExhausted(StrEnum):
    """What becomes of a run of which a step failed and has no retries left."""

    FAIL = "Fail"
    PAUSE = "Pause"  # the run goes on when a person says so


class ReplayFrom(StrEnum):
    """What a replay of a finished run runs again."""

    FAILED = "Failed"  # the steps that did not succeed, the failed children of these first
    START = "Start"  # everything: all steps, with new children


class ClientApi(StrEnum):
    """Hatchet's APIs after the first one."""

    V1 = "v1"


class RunOn(StrEnum):
    """After which ends of the others a workflow's on-failure step runs."""

    FAILURE = "Failure"
    CANCEL = "Cancel"
    FAILURE_OR_CANCEL = "FailureOrCancel"
    ALWAYS = "Always"


class Execution(StrEnum):
    """Where the steps of a workflow run."""

    POOL = "Pool"
    POD = "Pod"


class ConcurrencyPolicy(StrEnum):
    """What a tick does while a run of its cron goes on; the words of a CronJob."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class CatchUp(StrEnum):
    """What becomes of ticks that nobody was there for."""

    SKIP = "Skip"
    LAST = "Last"
    ALL = "All"


class LossKind(StrEnum):
    """What the death of a worker means for a step that it had."""

    CRASH = "Crash"  # the step may be the cause
    CLEARED = "Cleared"  # it had been tried apart after a crash, and other steps ran that were not
    BYSTANDER = "Bystander"  # it waited for children while other steps ran
    DISRUPTION = "Disruption"  # the worker's Pod was taken away
    NOT_STARTED = "NotStarted"  # the step had not begun


class LimitStrategy(StrEnum):
    """What happens when a concurrency group is full and another run of it comes."""

    CANCEL_IN_PROGRESS = "CancelInProgress"  # the newest run; those before it are cancelled
    CANCEL_NEWEST = "CancelNewest"  # those that run; the newcomer is cancelled
    QUEUE_NEWEST = "QueueNewest"  # all of them, in the order in which they came
    GROUP_ROUND_ROBIN = "GroupRoundRobin"  # likewise; slots are shared among groups anyway
    CANCEL_QUEUED_EXCEPT_NEWEST = "CancelQueuedExceptNewest"  # those that run, and the newest that waits


class Stickiness(StrEnum):
    """Whether the steps of a run go to one worker."""

    NONE = "None"
    SOFT = "Soft"  # if it has a free slot
    HARD = "Hard"  # and to no other


class ScheduleTimeoutCounts(StrEnum):
    """What the schedule timeout measures."""

    WORKER = "Worker"
    QUEUE = "Queue"


class WebhookType(StrEnum):
    """How a sender of webhooks signs what it delivers."""

    GITHUB = "GitHub"
    STRIPE = "Stripe"
    STANDARD = "StandardWebhooks"
    HMAC = "HMAC"


class HmacAlgorithm(StrEnum):
    """The hash of a signature."""

    SHA256 = "SHA256"
    SHA512 = "SHA512"


class DigestEncoding(StrEnum):
    """How a signature is written."""

    HEX = "Hex"
    BASE64 = "Base64"


class ConditionType(StrEnum):
    """Condition types of all kinds."""

    READY = "Ready"  # the object is what its spec asks for: a pool has its workers, a run succeeded
    STALLED = "Stalled"  # it will not be Ready by itself; only there while it holds
    RECONCILING = "Reconciling"  # on the way to what a changed spec asks for; only there while it holds
    FINISHED = "Finished"
    SUCCEEDED = "Succeeded"
    WORKFLOW_MISSING = "WorkflowMissing"
    PAUSED = "Paused"  # of a run; only there while it holds
    SUSPENDED = "Suspended"  # of a run; False once it is resumed, with the time of that
    OFFERED = "Offered"  # connected workers have a Workflow's code
    REGISTERED = "Registered"  # a Workflow has a definition
    VALID = "Valid"  # a spec makes sense
    SECRET_FOUND = "SecretFound"  # noqa: S105  # what a WebhookSource's deliveries are signed with is there
    LISTENING = "Listening"  # the operator has a port that deliveries come to
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
    CONCURRENCY_LIMIT = "ConcurrencyLimit"  # its group is full: it waits, or had to go
    PREVIOUS_STEP_FAILED = "PreviousStepFailed"
    WORKFLOW_MISSING = "WorkflowMissing"
    WORKFLOW_SUSPENDED = "WorkflowSuspended"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    PAUSED = "Paused"  # a step failed for good, and a person is to say how the run goes on
    REPLAYING_CHILDREN = "ReplayingChildren"  # a replay begins with the children that failed, or with none at all
    INVALID_INPUT = "InvalidInput"
    STATUS_REFUSED = "StatusRefused"
    INTERNAL_ERROR = "InternalError"
    WAITING_FOR_WORKER = "WaitingForWorker"
    WAITING_FOR_SLOT = "WaitingForSlot"
    WAITING_FOR_RATE_LIMIT = "WaitingForRateLimit"
    INVALID_RATE_LIMIT = "InvalidRateLimit"  # what a step says of its limits makes nothing of use for a run
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
    # WebhookSource
    SECRET_FOUND = "SecretFound"  # noqa: S105  # a word
    SECRET_MISSING = "SecretMissing"  # noqa: S105  # likewise
    LISTENING = "Listening"
    NO_PORT = "NoPort"
    # RateLimit
    KEY_TAKEN = "KeyTaken"  # another RateLimit has that key
    # Events
    FILTER_FAILED = "FilterFailed"  # of an event, for which it can't be evaluated
    DELIVERY_REFUSED = "DeliveryRefused"  # a webhook that is not signed as it should be, or no event
    POD_ENDED = "PodEnded"  # by the kubelet, a drain or the scheduler
    POD_KILLED = "PodKilled"
    TICK_NOT_STARTED = "TickNotStarted"  # a cron that is none, or a run that the API server refused
    SPAWN_INPUT_DIFFERS = "SpawnInputDiffers"
    POOL_CONFLICT = "PoolConflict"
