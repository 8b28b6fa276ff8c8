"""Where the time of a tree went: how fast its runs were spawned, how long they waited, how long they took. Pure.

created ──── waited for a worker ────► started ──── was executed ────► finished
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median_high

from hatchet_cli.tree import RunNode


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Some times of many runs: the middle one, the longest, and whose that is."""

    median: timedelta
    longest: timedelta
    node: RunNode


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the runs of one workflow in a tree did with their time.

    Attributes:
        workflow: Its exact name.
        count: How many runs there are.
        spawned_within: Time from the first one's creation to the last one's.
        waited: From creation, or the time that a run is scheduled for, until the first step was given to a worker.
            To the second, as the API server writes down creations. None: none has begun, or all were run again since.
        took: From there until the end. None: none is over.
        together: The most that were executed at the same time, of those that needed one attempt for each step: others
            waited again in between.
        retried: How many needed more than one attempt for a step.
    """

    workflow: str
    count: int
    spawned_within: timedelta
    waited: Spread | None
    took: Spread | None
    together: int
    retried: int


def paces(root: RunNode, *, now: datetime, at_least: int) -> list[Pace]:
    """Say of the runs below the root where their time went, by workflow, the most numerous first.

    Args:
        root: The tree.
        now: Until when a run that goes on has been executed.
        at_least: Of how many runs of a workflow it is worth telling.
    """
    by_workflow: dict[str, list[RunNode]] = {}
    for node in root.walk():
        if node is not root:
            by_workflow.setdefault(node.workflow, []).append(node)
    many = sorted(by_workflow.items(), key=lambda item: -len(item[1]))
    return [_pace(workflow, nodes, now) for workflow, nodes in many if len(nodes) >= at_least]


def _pace(workflow: str, nodes: list[RunNode], now: datetime) -> Pace:
    created = [_created(node) for node in nodes]
    retried = [node for node in nodes if any(step.attempt for step in node.run.status.steps.values())]
    return Pace(
        workflow=workflow,
        count=len(nodes),
        spawned_within=max(created) - min(created),
        waited=_spread((_waited(node), node) for node in nodes),
        took=_spread((_took(node), node) for node in nodes),
        together=_most_at_a_time((node for node in nodes if node not in retried), now),
        retried=len(retried),
    )


def _created(node: RunNode) -> datetime:
    """A child that is recorded with its result is created when it is over: its start is the better word."""
    created, started = node.run.metadata.creation_timestamp, node.run.status.started_at
    assert created is not None, "it comes from the API server"
    return min(created, started or created)


def _waited(node: RunNode) -> timedelta | None:
    status = node.run.status
    if status.started_at is None or status.reruns:  # a rerun begins anew, long after the creation
        return None
    return status.started_at - max(_created(node), min(node.run.spec.start_at or _created(node), status.started_at))


def _took(node: RunNode) -> timedelta | None:
    status = node.run.status
    if status.started_at is None or status.finished_at is None:
        return None
    return status.finished_at - status.started_at


def _spread(times: Iterable[tuple[timedelta | None, RunNode]]) -> Spread | None:
    known = [(time, node) for time, node in times if time is not None]
    if not known:
        return None
    longest, node = max(known, key=lambda item: item[0])
    return Spread(median=median_high([time for time, _ in known]), longest=longest, node=node)


def _most_at_a_time(nodes: Iterable[RunNode], now: datetime) -> int:
    """Ends go before beginnings of the same moment: a slot that is given back is taken at once."""
    turns = sorted(
        turn
        for node in nodes
        if (started := node.run.status.started_at) is not None
        for turn in ((started, 1), (node.run.status.finished_at or max(now, started), -1))
    )
    most = running = 0
    for _, change in turns:
        running += change
        most = max(most, running)
    return most
