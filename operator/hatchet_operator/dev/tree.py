"""Runs as the tree that their spawns make; what a person wants to know of it: the result, or where it failed. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus, WorkflowRun

_TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True, kw_only=True)
class RunNode:
    """A run, the exact name of its workflow, and the runs that its steps spawned, in the order of their spawning."""

    run: WorkflowRun
    workflow: str
    children: tuple["RunNode", ...] = ()

    @property
    def phase(self) -> Phase:
        """Where the run stands. `Running` is written late, to save a write for short runs; who spawned is running."""
        phase = self.run.status.phase
        return Phase.RUNNING if phase is Phase.PENDING and self.children else phase

    @property
    def label(self) -> str:
        """What tells the run from its siblings: its spawn key or index, or the name of a root run."""
        parent = self.run.spec.parent
        if parent is None:
            return self.run.metadata.name
        return parent.key if parent.key is not None else f"#{parent.index}"

    def duration(self, now: datetime) -> timedelta | None:
        """Return how long the run took, or has taken so far; None before it has started."""
        return duration(self.run.status.started_at, self.run.status.finished_at, now)

    def walk(self) -> Iterator["RunNode"]:
        """Yield the node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a tree failed: the runs and steps from the root down to the first one that failed by itself."""

    path: tuple[tuple[RunNode, str | None], ...]
    error: str

    @property
    def step(self) -> str | None:
        return self.path[-1][1]

    @property
    def node(self) -> RunNode:
        return self.path[-1][0]


def make_tree(runs: Iterable[WorkflowRun], root_uid: str, *, names: Mapping[str, str]) -> RunNode | None:
    """Return the root with everything below it; None while the root is not among the runs.

    Args:
        runs: Of the whole namespace.
        root_uid: UID of the root.
        names: Exact names of workflows, by object name.
    """
    root: WorkflowRun | None = None
    children: dict[str, list[WorkflowRun]] = {}
    for run in runs:
        if run.metadata.uid == root_uid:
            root = run
        elif run.spec.parent is not None:
            children.setdefault(run.spec.parent.uid, []).append(run)

    def node(run: WorkflowRun) -> RunNode:
        below = sorted(children.get(run.metadata.uid, []), key=_spawn_order)
        name = run.spec.workflow
        return RunNode(run=run, workflow=names.get(name, name), children=tuple(node(child) for child in below))

    return None if root is None else node(root)


def _spawn_order(run: WorkflowRun) -> tuple[int, str]:
    assert run.spec.parent is not None, "only children are sorted"
    return run.spec.parent.index, run.metadata.name


def count_phases(nodes: Iterable[RunNode]) -> Counter[Phase]:
    return Counter(node.phase for node in nodes)


def result(node: RunNode) -> dict[str, Any]:
    """Return what the steps of a run returned, by step; steps without output are left out."""
    steps = node.run.status.steps
    return {name: json.loads(step.output) for name, step in steps.items() if step.output is not None}


def find_failure(root: RunNode) -> Failure:
    """Follow failed steps down to the run that failed first, without a failed child of its own.

    Call it for a tree whose root has failed.
    """
    path: list[tuple[RunNode, str | None]] = []
    node = root
    while True:
        step = failed_step(node.run)
        path.append((node, step))
        below = [
            child
            for child in node.children
            if child.phase is Phase.FAILED and (step is None or _spawned_by(child) == step)
        ]
        if not below:
            break
        node = min(below, key=_finished_at)
    status = node.run.status
    error = status.steps[step].error if step is not None else None
    words = error or status.message or status.reason or "no error text was recorded"
    # Workers put the exception's words before the traceback, which ends with them anyway.
    return Failure(path=tuple(path), error=words[max(words.find(_TRACEBACK), 0) :])


def failed_step(run: WorkflowRun) -> str | None:
    """Return the step that failed first, if one did."""
    failed = [(name, step) for name, step in run.status.steps.items() if step.phase is Phase.FAILED]
    return min(failed, key=_step_finished_at)[0] if failed else None


def duration(start: datetime | None, end: datetime | None, now: datetime) -> timedelta | None:
    return None if start is None else max((end or now) - start, timedelta(0))


def format_elapsed(elapsed: timedelta) -> str:
    """Write a duration as a person would say it: "31ms", "4.2s", "1m05s", "2h03m"."""
    seconds = elapsed.total_seconds()
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m"


def _spawned_by(node: RunNode) -> str | None:
    return node.run.spec.parent.step if node.run.spec.parent else None


def _finished_at(node: RunNode) -> float:
    finished = node.run.status.finished_at
    return finished.timestamp() if finished else float("inf")


def _step_finished_at(item: tuple[str, StepStatus]) -> float:
    return item[1].finished_at.timestamp() if item[1].finished_at else float("inf")
