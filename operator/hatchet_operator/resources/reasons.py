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
    STALLED = "Stalled"  # it will not become Ready by itself; only present while it is true
    RECONCILING = "Reconciling"  # on the way to what a changed spec asks for; only present while it is true
    FINISHED = "Finished"  # a run is over
    SUCCEEDED = "Succeeded"  # a run is over, and how
    WORKFLOW_MISSING = "WorkflowMissing"  # a run waits for its Workflow
    PAUSED = "Paused"  # of a run; only present while it is true
    SUSPENDED = "Suspended"  # of a run; False once it is resumed, with the time of that
    OFFERED = "Offered"  # connected workers have a Workflow's code
    REGISTERED = "Registered"  # a Workflow has a definition
    VALID = "Valid"  # a spec makes sense
    SECRET_FOUND = "SecretFound"  # noqa: S105  # what a WebhookSource's deliveries are signed with is there
    LISTENING = "Listening"  # the operator has a port that deliveries come to
    AVAILABLE = "Available"  # a WorkerPool has its workers
    SCALING_LIMITED = "ScalingLimited"  # a WorkerPool keeps fewer pods than asked for; only present while it is true
    ROLLED_OUT = "RolledOut"  # a WorkerPool has no pod of an older template, and one of this is good or none is wanted


class Reason(StrEnum):
    """Why something is as it is."""

    COMPLETED = "Completed"  # all steps have succeeded
    STEP_FAILED = "StepFailed"  # a step failed, and has no retries left
    TIMED_OUT = "TimedOut"  # an attempt took longer than its step may
    SCHEDULING_TIMED_OUT = "SchedulingTimedOut"  # no worker took a step within its schedule timeout
    WORKER_LOST = "WorkerLost"  # the workers that had a step died, more often than it may be assigned again
    CANCEL_REQUESTED = "CancelRequested"  # somebody set spec.cancelled
    PARENT_CANCELLED = "ParentCancelled"  # the run that spawned it was cancelled
    PARENT_CLOSED = "ParentClosed"  # the run that spawned it ended before it
    CANCELLED_BY_STEP = "CancelledByStep"  # one of its steps asked for it
    CONCURRENCY_LIMIT = "ConcurrencyLimit"  # its group is full: it waits, or was cancelled
    PREVIOUS_STEP_FAILED = "PreviousStepFailed"  # a step that it needs the output of did not succeed
    WORKFLOW_MISSING = "WorkflowMissing"  # there is no Workflow of that name, or it was deleted
    WORKFLOW_SUSPENDED = "WorkflowSuspended"  # somebody suspended its Workflow
    SUSPENDED = "Suspended"  # somebody suspended it
    RESUMED = "Resumed"  # somebody resumed it
    PAUSED = "Paused"  # a step failed for good, and a person must decide how the run goes on
    REPLAYING_CHILDREN = "ReplayingChildren"  # a replay begins with the children that failed, or with none at all
    INVALID_INPUT = "InvalidInput"  # its input is invalid
    STATUS_REFUSED = "StatusRefused"  # the API server refuses its status: it is too large, or a policy denies it
    INTERNAL_ERROR = "InternalError"  # a fault of the operator, which leaves the object alone; please report it
    WAITING_FOR_WORKER = "WaitingForWorker"  # no connected worker has the step
    WAITING_FOR_SLOT = "WaitingForSlot"  # all slots of its workers are taken
    WAITING_FOR_RATE_LIMIT = "WaitingForRateLimit"  # units of a rate limit are used up
    INVALID_RATE_LIMIT = "InvalidRateLimit"  # the limits of a step yield nothing usable for a run
    POD_ENDING = "PodEnding"  # somebody deletes the pod that the run was given, or drains its node
    # Workflow and WorkerPool
    REGISTERED = "Registered"  # a worker has registered the Workflow
    OFFERED = "Offered"  # a connected worker has the Workflow
    NOT_OFFERED = "NotOffered"  # no connected worker has it any more: its class was renamed or removed
    NO_WORKER = "NoWorker"  # no worker is connected
    NOT_REGISTERED = "NotRegistered"  # no worker has registered it yet
    UNKNOWN_STEP = "UnknownStep"  # the spec names a step that the program does not have
    INVALID_SPEC = "InvalidSpec"  # the spec makes no sense, which the message explains
    INVALID_DEFINITION = "InvalidDefinition"  # what a worker registered makes no sense
    VALID = "Valid"  # the spec makes sense
    AVAILABLE = "Available"  # a pool has its workers
    PODS_MISSING = "PodsMissing"  # a pool has fewer connected workers than it needs
    PODS_FAILING = "PodsFailing"  # pods of a pool do not start, or end again and again
    ROLLED_OUT = "RolledOut"  # all pods of a pool have its current template
    ROLLING_OUT = "RollingOut"  # pods of an older template are being replaced
    FAILED_CREATE = "FailedCreate"  # the API server refuses a pod: a quota, a policy, a missing right
    DEFINITION_MISSING = "DefinitionMissing"  # a CRD of ours is not installed, or too old
    TOO_MANY_REPLICAS = "TooManyReplicas"  # the same, as an HPA names it
    # WebhookSource
    SECRET_FOUND = "SecretFound"  # noqa: S105  # the Secret of a WebhookSource is there
    SECRET_MISSING = "SecretMissing"  # noqa: S105  # the Secret of a WebhookSource, or its entry, is not there
    LISTENING = "Listening"  # deliveries can come in
    NO_PORT = "NoPort"  # the operator has no port for deliveries; see events.port of the chart
    # RateLimit
    KEY_TAKEN = "KeyTaken"  # another RateLimit has that key
    # Events
    FILTER_FAILED = "FilterFailed"  # of an event, for which it can't be evaluated
    DELIVERY_REFUSED = "DeliveryRefused"  # a webhook that is not signed as required, or is no event
    POD_ENDED = "PodEnded"  # by the kubelet, a drain or the scheduler
    POD_KILLED = "PodKilled"  # a step went on although it was told to stop
    TICK_NOT_STARTED = "TickNotStarted"  # an invalid cron, or a run that the API server refused
    SPAWN_INPUT_DIFFERS = "SpawnInputDiffers"  # a child exists with another input than the one it is spawned with now
    POOL_CONFLICT = "PoolConflict"  # workers of two pools register the same Workflow
