"""What can go wrong, as one tree.

HatchetError
├── NotConfigured            no address of an operator, or one that cannot be used
├── OperatorUnavailable      no answer in time
├── PayloadError             a large input or output can't be stored, or can't be read
│   ├── PayloadLost          it is no longer in the store, or not what was put there
│   └── StoreUnavailable     the store does not respond; the request is retried
├── InvalidDefinition        a workflow class that declares something impossible (also a ValueError)
├── AttemptCancelled         the attempt that asked was cancelled
├── StepsOverran             too many steps of a worker kept running after they were cancelled; it ended to be replaced
├── NonRetryableError        raised by your step: fail now, whatever retries are left
│   └── InvalidInput         a run's input, or a step's output, is not what its model accepts (also a ValueError)
├── RetryAfterError          raised by your step: retry, but only after this time
├── TooManyFailures          more of the awaited runs failed than allowed
├── RequestRefused           the operator refused the request
│   ├── AccessDenied         the token is missing, wrong, or not allowed to do this
│   ├── InvalidRequest       the request makes no sense (also a ValueError)
│   ├── RunNotFound          there is no run with that id
│   ├── WorkflowNotFound     nobody registered a workflow of that name
│   ├── DedupeViolationErr   another run of the workflow has the value of the metadata entry "dedupe"
│   ├── SpawnConflict        the spawn's key or request id belongs to a different run
│   └── AttemptSuperseded    a newer attempt of this step runs; this one no longer counts
└── WorkflowRunFailed        a run ended without success
    ├── WorkflowRunCancelled
    └── WorkflowRunDeleted

A call whose Python arguments are wrong raises TypeError or ValueError before anything is sent.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

__all__ = [
    "AccessDenied",
    "AttemptCancelled",
    "AttemptSuperseded",
    "DedupeViolationErr",
    "HatchetError",
    "InvalidDefinition",
    "InvalidInput",
    "InvalidRequest",
    "NonRetryableError",
    "NotConfigured",
    "OperatorUnavailable",
    "PayloadError",
    "PayloadLost",
    "RequestRefused",
    "RetryAfterError",
    "RunNotFound",
    "SpawnConflict",
    "StepsOverran",
    "StoreUnavailable",
    "TooManyFailures",
    "WorkflowNotFound",
    "WorkflowRunCancelled",
    "WorkflowRunDeleted",
    "WorkflowRunFailed",
]


class HatchetError(Exception):
    """Base of everything that this package raises on purpose. Each can be pickled and copied, like your subclasses."""

    def __reduce__(self) -> tuple[Callable[..., "HatchetError"], tuple[object, ...], dict[str, object]]:
        # Exception's own way calls the class with the message alone, which a class with other arguments refuses.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[HatchetError], args: tuple[object, ...]) -> HatchetError:
    return kind.__new__(kind, *args)


class NotConfigured(HatchetError):
    """No operator's address is known, or the configuration cannot be used."""


class OperatorUnavailable(HatchetError):
    """The operator did not answer in time."""


class PayloadError(HatchetError):
    """A large input or output can't be stored or read: the message names it, and says why."""


class PayloadLost(PayloadError):
    """What a reference stands for is no longer in the store, or is not what was put there."""


class StoreUnavailable(PayloadError):
    """The payload store does not respond at the moment."""


class InvalidDefinition(HatchetError, ValueError):
    """A workflow class declares something impossible."""


class AttemptCancelled(HatchetError):
    """The attempt that asked was cancelled; it spawns nothing more."""


class StepsOverran(HatchetError):
    """A worker ended itself: the limit of steps that keep running after they were cancelled was reached."""


class NonRetryableError(HatchetError):
    """Raise it (or a subclass) in a step to fail at once, whatever retries are left."""


class InvalidInput(NonRetryableError, ValueError):
    """A run's input, or a step's output, is not what its model accepts; a retry would not change that."""


class RetryAfterError(HatchetError):
    """Raise it (or a subclass) in a step to say how long its next attempt waits, as an HTTP server's Retry-After does.

    It uses a retry as any error does; without one left, the step fails.

    Args:
        message: What went wrong.
        retry_after: Seconds, or a timedelta; at most a day.

    Attributes:
        retry_after: As given.
    """

    def __init__(self, message: str = "", *, retry_after: float | timedelta) -> None:
        super().__init__(message)
        is_time = isinstance(retry_after, int | float | timedelta) and not isinstance(retry_after, bool)
        if not is_time:
            raise TypeError(f"{type(self).__name__}: retry_after is {retry_after!r} (expected seconds or a timedelta)")
        if not 0 <= _seconds(retry_after) < float("inf"):  # which NaN isn't either
            raise ValueError(f"{type(self).__name__}: retry_after is {retry_after!r} (expected 0 or more)")
        self.retry_after = retry_after


def _seconds(wait: float | timedelta) -> float:
    return wait.total_seconds() if isinstance(wait, timedelta) else wait


class RequestRefused(HatchetError):
    """The operator refused the request."""


class AccessDenied(RequestRefused):
    """The token is missing, wrong, or not allowed to do this."""


class InvalidRequest(RequestRefused, ValueError):
    """The operator found the request to be invalid."""


class RunNotFound(RequestRefused):
    """There is no run with that id in the worker's namespace."""


class WorkflowNotFound(RequestRefused):
    """Nobody registered a workflow of that name."""


class DedupeViolationErr(RequestRefused):
    """Another run of the workflow has the value of this one's metadata entry ``dedupe``. Named as in Hatchet."""


class SpawnConflict(RequestRefused):
    """The spawn's identity belongs to a run of a different workflow or input."""


class AttemptSuperseded(RequestRefused):
    """The step has a newer attempt; spawns of this one are refused."""


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
    """The run does not exist, or no longer exists."""


class TooManyFailures(HatchetError):
    """More of the runs that were awaited together failed than allowed; the others continue.

    Attributes:
        results: What the runs that had succeeded by then returned, in the order of the references.
        failures: Why the others failed, in the same order.
    """

    def __init__(
        self,
        message: str,
        *,
        results: Sequence[Any] = (),
        failures: Sequence[WorkflowRunFailed] = (),
    ) -> None:
        super().__init__(message)
        self.results = list(results)
        self.failures = list(failures)
