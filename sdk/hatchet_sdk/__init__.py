"""Write workflows as plain Python; hatchet-operator runs them on Kubernetes.

This module is the whole public API; `hatchet_sdk.errors` draws the tree of what can go wrong.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hatchet_sdk._client.config import ClientConfig
from hatchet_sdk._client.options import (
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    TriggerWorkflowOptions,
    WorkflowRunDict,
)
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._hatchet import Hatchet
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.worker import Worker
from hatchet_sdk.errors import (
    AccessDenied,
    AttemptCancelled,
    AttemptSuperseded,
    HatchetError,
    InvalidDefinition,
    InvalidRequest,
    NonRetryableError,
    NotConfigured,
    OperatorUnavailable,
    RequestRefused,
    SpawnConflict,
    StepsOverran,
    WorkflowNotFound,
    WorkflowRunCancelled,
    WorkflowRunDeleted,
    WorkflowRunFailed,
)

__all__ = [
    "AccessDenied",
    "AttemptCancelled",
    "AttemptSuperseded",
    "ChildTriggerWorkflowOptions",
    "ChildWorkflowRunDict",
    "ClientConfig",
    "Context",
    "Hatchet",
    "HatchetError",
    "InvalidDefinition",
    "InvalidRequest",
    "NonRetryableError",
    "NotConfigured",
    "OperatorUnavailable",
    "RequestRefused",
    "SpawnConflict",
    "StepsOverran",
    "TriggerWorkflowOptions",
    "Worker",
    "WorkflowNotFound",
    "WorkflowRunCancelled",
    "WorkflowRunDeleted",
    "WorkflowRunDict",
    "WorkflowRunFailed",
    "WorkflowRunRef",
]


if not _TYPE_CHECKING:  # or type checkers would take every name for one that is there

    def __getattr__(name: str) -> object:
        from hatchet_sdk._lacking import NAMES, words_on

        if name in NAMES:
            raise ImportError(words_on(f"hatchet_sdk.{name}", NAMES[name]), name=__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
