"""Which runs of a concurrency group go on, wait or are cancelled.

Runs are given oldest first; an admitted run stays admitted until it is over, so a full group never gets another run by
a change of order. A run that is being cancelled counts until it is final: its successor starts after it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from hatchet_operator.resources.reasons import LimitStrategy
from hatchet_operator.resources.workflow import (
    GROUPS_SHOWN,
    ConcurrencyLimit,
    GroupStatus,
    WorkflowDefinition,
    WorkflowSpec,
    WorkflowStatus,
)

M = TypeVar("M")


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPlan(Generic[M]):
    """What changes in a group.

    Attributes:
        admit: Runs that may go on from now on.
        cancel: Runs to be cancelled.
    """

    admit: tuple[M, ...] = ()
    cancel: tuple[M, ...] = ()


def plan_group(
    limit: ConcurrencyLimit,
    *,
    going: Sequence[M],
    leaving: int,
    waiting: Iterable[M],
    may_go: Callable[[M], bool],
) -> GroupPlan[M]:
    """Decide which runs are admitted and which are cancelled.

    Args:
        limit: How many at a time, and what happens to the others.
        going: Admitted runs, oldest first, without those that are being cancelled.
        leaving: How many admitted runs are being cancelled and are not final yet.
        waiting: Runs that wait, oldest first; no more of a queue is read than there is room for.
        may_go: Whether nothing else blocks a waiting run, such as another group of it.
    """
    room = max(limit.max_runs - len(going) - leaving, 0)
    match limit.strategy:
        case LimitStrategy.QUEUE_NEWEST | LimitStrategy.GROUP_ROUND_ROBIN:
            # one that is blocked elsewhere is skipped, and delays no other
            return GroupPlan(admit=tuple(islice(filter(may_go, waiting), room)) if room else ())
        case LimitStrategy.CANCEL_NEWEST:
            line = list(waiting)
            return GroupPlan(admit=_able(line[:room], may_go), cancel=tuple(line[room:]))
        case LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST:
            line = list(waiting)
            return GroupPlan(admit=_able(line[:room], may_go), cancel=tuple(line[room:-1]))
        case LimitStrategy.CANCEL_IN_PROGRESS:
            line = list(waiting)
            everybody = [*going, *line]
            cancel = everybody[: max(len(everybody) - limit.max_runs, 0)]
            staying = line[max(len(cancel) - len(going), 0) :]
            return GroupPlan(admit=_able(staying[:room], may_go), cancel=tuple(cancel))


def _able(runs: Sequence[M], may_go: Callable[[M], bool]) -> tuple[M, ...]:
    return tuple(run for run in runs if may_go(run))


MAX_PARALLEL = '"maxParallel"'
"""The expression of the group that contains all runs of a workflow with that field."""


def limits_of(spec: WorkflowSpec, definition: WorkflowDefinition) -> tuple[ConcurrencyLimit, ...]:
    """Return the limits of a workflow: a person's, or otherwise the code's; and `maxParallel` in addition."""
    limits = (spec.concurrency if spec.concurrency is not None else definition.concurrency) or ()
    if spec.max_parallel is None:
        return limits
    return (ConcurrencyLimit(expression=MAX_PARALLEL, max_runs=spec.max_parallel), *limits)


def why_it_waits(limit: ConcurrencyLimit, key: str) -> str:
    """Say what a run waits for if its group is full."""
    runs = "1 run" if limit.max_runs == 1 else f"{limit.max_runs} runs"
    if limit.expression == MAX_PARALLEL:
        return f"it waits for its turn: {runs} of its workflow may go on at a time (spec.maxParallel of the Workflow)"
    return (
        f'it waits for its turn in concurrency group "{key}" ({limit.expression}), of which {runs} may go on at a time'
    )


def why_cancelled(limit: ConcurrencyLimit, key: str) -> str:
    """Say why a run is cancelled if its group is full."""
    whose = {
        LimitStrategy.CANCEL_IN_PROGRESS: "newer runs have come",
        LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST: "a newer run waits instead of it",
    }.get(limit.strategy, "they go on already")
    runs = "1 run" if limit.max_runs == 1 else f"{limit.max_runs} runs"
    return (
        f'of concurrency group "{key}" ({limit.expression}) {runs} may go on at a time, and {whose} ({limit.strategy})'
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenGroup:
    """One group of a workflow: how many of its runs go on and wait, and the names of some of both.

    Attributes:
        expression: The expression of its limit.
        key: Its value, which names the group.
        active: How many runs go on, or are being cancelled: these count until they are final.
        waiting: How many runs wait.
        active_runs: Those that are being cancelled, then the others, oldest first.
        waiting_runs: The next first.
    """

    expression: str
    key: str
    active: int = 0
    waiting: int = 0
    active_runs: tuple[str, ...] = ()
    waiting_runs: tuple[str, ...] = ()


def with_groups(status: WorkflowStatus, groups: Sequence[SeenGroup]) -> WorkflowStatus:
    """Return a workflow's status with its groups: all are counted, and those with most waiting runs are shown.

    Args:
        status: What it has been.
        groups: All groups that have unfinished runs.
    """
    waiting: Counter[str] = Counter()  # of each expression, a run is in one group
    for group in groups:
        waiting[group.expression] += group.waiting
    shown = heapq.nsmallest(GROUPS_SHOWN, groups, key=_most_waiting_first)
    return status.model_copy(
        update={
            "concurrency_groups": tuple(
                GroupStatus(
                    expression=group.expression,
                    key=group.key,
                    active=group.active,
                    waiting=group.waiting,
                    active_runs=group.active_runs,
                    waiting_runs=group.waiting_runs,
                )
                for group in shown
            )
            or None,
            "groups": len(groups) or None,
            "waiting": max(waiting.values(), default=0) or None,
        }
    )


def _most_waiting_first(group: SeenGroup) -> tuple[int, int, str, str]:
    # Down to the name: otherwise equal groups would trade places, and each time that would be a write.
    return -group.waiting, -group.active, group.expression, group.key
