"""What can go wrong, as one tree.

HatchetError
├── NotConfigured            no address of an operator, or one that cannot be used
├── OperatorUnavailable      no answer in time
├── InvalidDefinition        a workflow class that says something impossible (also a ValueError)
├── AttemptCancelled         the attempt that asked was cancelled
├── StepsOverran             too many steps of a worker went on though they were cancelled; it ended to be replaced
├── NonRetryableError        raised by your step: fail now, whatever retries are left
├── RequestRefused           the operator answered, and said no
│   ├── AccessDenied         the token is missing, wrong, or not allowed to do this
│   ├── InvalidRequest       the request makes no sense (also a ValueError)
│   ├── WorkflowNotFound     nobody registered a workflow of that name
│   ├── SpawnConflict        the spawn's key or request id belongs to a different run
│   └── AttemptSuperseded    a newer attempt of this step runs; this one's words no longer count
└── WorkflowRunFailed        a run ended, and not well
    ├── WorkflowRunCancelled
    └── WorkflowRunDeleted

A call whose Python arguments are wrong raises TypeError or ValueError before anything is sent.
"""

from collections.abc import Callable, Mapping

__all__ = [
    "AccessDenied",
    "AttemptCancelled",
    "AttemptSuperseded",
    "HatchetError",
    "InvalidDefinition",
    "InvalidRequest",
    "NonRetryableError",
    "NotConfigured",
    "OperatorUnavailable",
    "RequestRefused",
    "SpawnConflict",
    "StepsOverran",
    "WorkflowNotFound",
    "WorkflowRunCancelled",
    "WorkflowRunDeleted",
    "WorkflowRunFailed",
]


class HatchetError(Exception):
    """Everything that this package raises on purpose. Each can be pickled and copied, yours that inherit it too."""

    def __reduce__(self) -> tuple[Callable[..., "HatchetError"], tuple[object, ...], dict[str, object]]:
        # Exception's own way calls the class with the message alone, which a class with other arguments refuses.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[HatchetError], args: tuple[object, ...]) -> HatchetError:
    return kind.__new__(kind, *args)


class NotConfigured(HatchetError):
    """No operator's address is known, or what is configured cannot be used."""


class OperatorUnavailable(HatchetError):
    """The operator did not answer in time."""


class InvalidDefinition(HatchetError, ValueError):
    """A workflow class says something impossible."""


class AttemptCancelled(HatchetError):
    """The attempt that asked was cancelled; it spawns nothing more."""


class StepsOverran(HatchetError):
    """A worker ended itself: its bound of steps that go on though they were cancelled was reached."""


class NonRetryableError(HatchetError):
    """Raise it (or a subclass) in a step to fail at once, whatever retries are left."""


class RequestRefused(HatchetError):
    """The operator answered, and said no."""


class AccessDenied(RequestRefused):
    """The token is missing, wrong, or not allowed to do this."""


class InvalidRequest(RequestRefused, ValueError):
    """The operator found the request to make no sense."""


class WorkflowNotFound(RequestRefused):
    """Nobody registered a workflow of that name."""


class SpawnConflict(RequestRefused):
    """The spawn's identity belongs to a run of a different workflow or input."""


class AttemptSuperseded(RequestRefused):
    """The operator gave the step to a newer attempt; spawns of this one are refused."""


class WorkflowRunFailed(HatchetError):
    """A run ended without success.

    Attributes:
        workflow_run_id: The run.
        errors: Error text by step name.
        phase: How the run ended: ``Failed``, ``Cancelled`` or ``Deleted``.
    """

    def __init__(self, message: str, *, workflow_run_id: str, errors: Mapping[str, str], phase: str) -> None:
        super().__init__(message)
        self.workflow_run_id = workflow_run_id
        self.errors = dict(errors)
        self.phase = phase


class WorkflowRunCancelled(WorkflowRunFailed):
    """The run was cancelled."""


class WorkflowRunDeleted(WorkflowRunFailed):
    """There is no such run, or not any more."""
