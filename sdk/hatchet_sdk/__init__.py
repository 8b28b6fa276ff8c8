"""Write workflows as plain Python; hatchet-operator runs them on Kubernetes.

This module is the whole public API; `hatchet_sdk.errors` draws the tree of what can go wrong.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hatchet_sdk._client.config import ClientConfig
from hatchet_sdk._client.events import BulkPushEventWithMetadata, Event, PushEventOptions
from hatchet_sdk._client.gathering import GatheredRuns, gather_runs, sync_gather_runs
from hatchet_sdk._client.options import (
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    TriggerWorkflowOptions,
    WorkflowRunDict,
)
from hatchet_sdk._client.rate_limits import RateLimit, RateLimitDuration
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.runs import Run, RunActResult, RunDetails, RunFilter, RunPage, RunStep
from hatchet_sdk._client.stream_events import StepRunEvent, StepRunEventType, WorkflowRunEventType
from hatchet_sdk._client.typed import Workflow
from hatchet_sdk._hatchet import Hatchet
from hatchet_sdk._runner.concurrency import ConcurrencyExpression, ConcurrencyLimitStrategy
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.sticky import StickyStrategy
from hatchet_sdk._runner.worker import Worker
from hatchet_sdk._runner.worker_labels import DesiredWorkerLabel, WorkerContext, WorkerLabelComparator
from hatchet_sdk.errors import (
    AccessDenied,
    AttemptCancelled,
    AttemptSuperseded,
    DedupeViolationErr,
    HatchetError,
    InvalidDefinition,
    InvalidInput,
    InvalidRequest,
    NonRetryableError,
    NotConfigured,
    OperatorUnavailable,
    PayloadError,
    PayloadLost,
    RequestRefused,
    RetryAfterError,
    RunNotFound,
    SpawnConflict,
    StepsOverran,
    StoreUnavailable,
    TooManyFailures,
    WorkflowNotFound,
    WorkflowRunCancelled,
    WorkflowRunDeleted,
    WorkflowRunFailed,
)

__all__ = [
    "AccessDenied",
    "AttemptCancelled",
    "AttemptSuperseded",
    "BulkPushEventWithMetadata",
    "ChildScheduleWorkflowOptions",
    "ChildTriggerWorkflowOptions",
    "ChildWorkflowRunDict",
    "ClientConfig",
    "ConcurrencyExpression",
    "ConcurrencyLimitStrategy",
    "Context",
    "DedupeViolationErr",
    "DesiredWorkerLabel",
    "Event",
    "GatheredRuns",
    "Hatchet",
    "HatchetError",
    "InvalidDefinition",
    "InvalidInput",
    "InvalidRequest",
    "NonRetryableError",
    "NotConfigured",
    "OperatorUnavailable",
    "PayloadError",
    "PayloadLost",
    "PushEventOptions",
    "RateLimit",
    "RateLimitDuration",
    "RequestRefused",
    "RetryAfterError",
    "Run",
    "RunActResult",
    "RunDetails",
    "RunFilter",
    "RunNotFound",
    "RunPage",
    "RunStep",
    "SpawnConflict",
    "StepRunEvent",
    "StepRunEventType",
    "StepsOverran",
    "StickyStrategy",
    "StoreUnavailable",
    "TooManyFailures",
    "TriggerWorkflowOptions",
    "Worker",
    "WorkerContext",
    "WorkerLabelComparator",
    "Workflow",
    "WorkflowNotFound",
    "WorkflowRunCancelled",
    "WorkflowRunDeleted",
    "WorkflowRunDict",
    "WorkflowRunEventType",
    "WorkflowRunFailed",
    "WorkflowRunRef",
    "gather_runs",
    "sync_gather_runs",
]


if not _TYPE_CHECKING:  # or type checkers would accept every name

    def __getattr__(name: str) -> object:
        from hatchet_sdk._lacking import NAMES, words_on

        if name in NAMES:
            raise ImportError(words_on(f"hatchet_sdk.{name}", NAMES[name]), name=__name__)
        if not name.startswith("_"):
            from hatchet_sdk._runner.installation import conflict

            if (problem := conflict()) is not None:
                raise ImportError(f"this hatchet_sdk has no {name}: {problem}", name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
