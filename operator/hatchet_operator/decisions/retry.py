"""Whether a step is retried, and when the next attempt may start."""

import hashlib
from datetime import timedelta

from hatchet_operator.resources.workflow import StepDefinition

LONGEST_BACKOFF = timedelta(days=1)


def has_retries_left(step: StepDefinition, attempt: int) -> bool:
    """Whether another attempt may follow number ``attempt`` (from 0)."""
    return attempt < step.retries


def backoff(step: StepDefinition, failed_attempt: int, *, seed: str = "") -> timedelta:
    """Return the wait after attempt ``failed_attempt``: from the list, or factor^n seconds for the n-th retry; or none.

    Source: Hatchet's ``backoff_factor`` and ``backoff_max_seconds``.

    Args:
        step: Says how long.
        failed_attempt: From 0.
        seed: Determines the random part of the wait, if the step has one: equal seeds give equal waits, so that a
            decision that is made again is the same.
    """
    pause = min(_full_backoff(step, failed_attempt), _longest(step))
    return pause * (1 - step.backoff_jitter * _chance(seed)) if step.backoff_jitter else pause


def asked_wait(milliseconds: int) -> timedelta:
    """Return the wait that an error asked for, limited to what is possible."""
    longest = LONGEST_BACKOFF // timedelta(milliseconds=1)
    return timedelta(milliseconds=min(max(milliseconds, 0), longest))


def _full_backoff(step: StepDefinition, failed_attempt: int) -> timedelta:
    if step.backoff_delays:
        return step.backoff_delays[min(failed_attempt, len(step.backoff_delays) - 1)]
    if step.backoff_factor is None:
        return timedelta()
    try:
        return timedelta(seconds=step.backoff_factor ** (failed_attempt + 1))
    except OverflowError:
        return LONGEST_BACKOFF


def _longest(step: StepDefinition) -> timedelta:
    if step.backoff_max_seconds is None:
        return LONGEST_BACKOFF
    return min(LONGEST_BACKOFF, timedelta(seconds=step.backoff_max_seconds))


def _chance(seed: str) -> float:
    """Return a number from 0 to below 1."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6]) / 2**48
