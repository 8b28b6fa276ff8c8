"""How programs declare how many runs of a workflow may run at a time."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import Any


class ConcurrencyLimitStrategy(IntEnum):
    """What happens when a group is full and another run of it comes; numbers as in Hatchet's protocol."""

    CANCEL_IN_PROGRESS = 0
    """The newest run continues; those before it are cancelled."""
    DROP_NEWEST = 1
    """Same as CANCEL_NEWEST."""
    QUEUE_NEWEST = 2
    """It waits for its turn."""
    GROUP_ROUND_ROBIN = 3
    """Same as QUEUE_NEWEST: slots are shared among groups anyway."""
    CANCEL_NEWEST = 4
    """Running ones continue; the new one is cancelled."""
    CANCEL_QUEUED_EXCEPT_NEWEST = 5
    """Running ones continue, and the newest waits; those that waited before it are cancelled."""


@dataclass(frozen=True)
class ConcurrencyExpression:
    """A limit of concurrent runs for each group.

    Args:
        expression: CEL over ``input`` and ``additional_metadata`` that names the group, as in "input.user".
        max_runs: How many runs of a group may run at a time.
        limit_strategy: What happens to the others.
    """

    expression: str
    max_runs: int = 1
    limit_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS


@dataclass(frozen=True)
class GroupMethod:
    """A limit whose groups a method of the workflow names.

    Args:
        max_runs: How many runs of a group may run at a time.
        limit_strategy: What happens to the others.
    """

    max_runs: int = 1
    limit_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS


def naming_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a step from a method that names a run's group: its result is sent like any step's output."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def name_group(self: Any, context: Any) -> dict[str, str]:
            return _named(function, await function(self, context))

        return name_group

    @wraps(function)
    def name_group_at_once(self: Any, context: Any) -> dict[str, str]:
        return _named(function, function(self, context))

    return name_group_at_once


def _named(function: Callable[..., Any], key: object) -> dict[str, str]:
    if not isinstance(key, str) or not key:
        raise TypeError(
            f"{function.__qualname__} names the concurrency group {key!r} (expected a text that is not empty)"
        )
    return {"key": key}


def concurrency_problem(limit: object) -> str | None:
    """Say what is wrong with a limit, or None. The operator checks whether its expression is valid CEL."""
    if not isinstance(limit, ConcurrencyExpression | GroupMethod):
        return f"concurrency has {limit!r} (expected a ConcurrencyExpression, or a list of them)"
    if isinstance(limit, ConcurrencyExpression) and (
        not isinstance(limit.expression, str) or not limit.expression.strip()
    ):
        return f'concurrency has the expression {limit.expression!r} (expected CEL, as in "input.user")'
    if not isinstance(limit.max_runs, int) or isinstance(limit.max_runs, bool) or not 1 <= limit.max_runs < 2**31:
        return f"concurrency has max_runs={limit.max_runs!r} (expected a whole number, 1 or more)"
    if not isinstance(limit.limit_strategy, ConcurrencyLimitStrategy):
        return (
            f"concurrency has limit_strategy={limit.limit_strategy!r} (expected a ConcurrencyLimitStrategy, as in "
            "ConcurrencyLimitStrategy.QUEUE_NEWEST)"
        )
    return None
