"""When a step is tried again, and when the next attempt may start."""

from datetime import timedelta

from hatchet_operator.resources.workflow import StepDefinition

_LONGEST_BACKOFF = timedelta(days=1)


def has_retries_left(step: StepDefinition, attempt: int) -> bool:
    """Whether another attempt may follow number ``attempt`` (from 0)."""
    return attempt < step.retries


def backoff(step: StepDefinition, failed_attempt: int) -> timedelta:
    """Return the wait after attempt ``failed_attempt``: factor^n seconds for the n-th retry, capped; or none.

    Source: Hatchet's ``backoff_factor`` and ``backoff_max_seconds``.
    """
    if step.backoff_factor is None:
        return timedelta()
    longest = _LONGEST_BACKOFF
    if step.backoff_max_seconds is not None:
        longest = min(longest, timedelta(seconds=step.backoff_max_seconds))
    try:
        return min(timedelta(seconds=step.backoff_factor ** (failed_attempt + 1)), longest)
    except OverflowError:
        return longest
