"""The on-failure step, which is the last: after which outcomes of the others it runs."""

from collections.abc import Iterable

from hatchet_operator.resources.reasons import Phase, Reason, RunOn
from hatchet_operator.resources.run import StepStatus

STOPPED = frozenset(
    {
        None,
        Reason.CANCELLED_BY_STEP,
        Reason.CANCEL_REQUESTED,
        Reason.PARENT_CANCELLED,
        Reason.PARENT_CLOSED,
        Reason.CONCURRENCY_LIMIT,
    }
)
"""Reasons of steps that were cancelled and did not fail."""

_AFTER_FAILURE = frozenset({RunOn.FAILURE, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS})
_AFTER_CANCEL = frozenset({RunOn.CANCEL, RunOn.FAILURE_OR_CANCEL, RunOn.ALWAYS})


def runs_after(run_on: RunOn, others: Iterable[StepStatus]) -> bool:
    """Whether it runs now that all others ended by themselves.

    A step that cancels itself counts as cancelled and as failed: Hatchet considers it a failure.
    """
    states = list(others)
    if all(state.phase is Phase.SUCCEEDED for state in states):
        return run_on is RunOn.ALWAYS
    failed = any(state.phase is Phase.FAILED or not _was_stopped(state) for state in states)
    return run_on in _AFTER_FAILURE if failed else True


def runs_after_cancel(run_on: RunOn, steps: Iterable[StepStatus], *, is_assigned: bool) -> bool:
    """Whether it runs when the run is cancelled from outside: if nothing has begun, there is nothing to clean up.

    Args:
        run_on: When it should run.
        steps: The run's steps so far.
        is_assigned: Whether a worker has one of them.
    """
    return run_on in _AFTER_CANCEL and (is_assigned or any(state.started_at is not None for state in steps))


def _was_stopped(state: StepStatus) -> bool:
    return state.phase is Phase.SUCCEEDED or state.reason in STOPPED or state.reason == Reason.PREVIOUS_STEP_FAILED
