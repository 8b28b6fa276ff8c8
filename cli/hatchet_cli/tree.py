"""Runs as the tree that their spawns form, and what a person wants to know: the result, or where it failed. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from hatchet_operator.decisions.results import error_told
from hatchet_operator.resources.error_text import ErrorText, read_error
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus, WorkflowRun

_COMPARED = 400  # characters of an error by which errors are compared


@dataclass(frozen=True, kw_only=True)
class RunNode:
    """A run, the exact name of its workflow, and the runs that its steps spawned, in the order of their spawning."""

    run: WorkflowRun
    workflow: str
    children: tuple["RunNode", ...] = ()

    @property
    def phase(self) -> Phase:
        """The run's phase. `Running` is written late, to save a write for short runs; a run that spawned is running."""
        phase = self.run.status.phase
        return Phase.RUNNING if phase is Phase.PENDING and self.children else phase

    @property
    def label(self) -> str:
        """What distinguishes the run from its siblings: its spawn key or position, or the name of a root run."""
        parent = self.run.spec.parent
        if parent is None:
            return self.run.metadata.name
        return parent.key if parent.key is not None else f"#{parent.ordinal}"

    def duration(self, now: datetime) -> timedelta | None:
        """Return how long the run took, or has taken so far; None before it has started."""
        return duration(self.run.status.started_at, self.run.status.finished_at, now)

    def walk(self) -> Iterator["RunNode"]:
        """Yield the node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, kw_only=True)
class FailedStep:
    """A run that failed, the step it failed in (None: before it had one), and that step's error."""

    node: RunNode
    step: str | None
    error: ErrorText

    @property
    def attempt(self) -> int | None:
        """Which attempt it was, from 1."""
        return None if self.step is None else self.node.run.status.steps[self.step].attempt + 1


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a tree failed.

    Attributes:
        path: The root's failed step; if its error says that a child failed, that child's, and so on down to the cause.
        others: What else failed below the root without causing the root's failure.
    """

    path: tuple[FailedStep, ...]
    others: tuple[FailedStep, ...] = ()

    @property
    def cause(self) -> FailedStep:
        return self.path[-1]

    @property
    def were_tolerated(self) -> bool:
        """Whether the root's step continued after its children had failed, and failed by itself."""
        return len(self.path) == 1


def make_tree(runs: Iterable[WorkflowRun], root_uid: str, *, names: Mapping[str, str]) -> RunNode | None:
    """Return the root with everything below it; None while the root is not among the runs.

    Args:
        runs: The runs of the whole namespace.
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


def result(node: RunNode, texts: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return what the steps of a run returned, by step; steps without output are left out.

    Args:
        node: The run.
        texts: The texts of references to payloads; one that is not among them stays a reference.
    """
    outputs = {name: step.output for name, step in node.run.status.steps.items() if step.output is not None}
    return {name: json.loads(texts.get(output, output)) for name, output in outputs.items()}


def find_failure(root: RunNode) -> Failure:
    """Follow errors from the root down to the step that failed by itself.

    A failed child is the cause only if the parent's step says so, by the error that awaiting the child raised: one
    whose failure was tolerated, or that nobody awaited, explains nothing. Call it for a tree whose root has failed.
    """
    path = [_failed_step_of(root)]
    while (child := _child_it_failed_of(path[-1])) is not None:
        path.append(_failed_step_of(child))
    on_the_way = {failed.node.run.metadata.uid for failed in path}
    others = (
        _failed_step_of(node)
        for node in root.walk()
        if node.phase is Phase.FAILED and node.run.metadata.uid not in on_the_way
    )
    return Failure(path=tuple(path), others=tuple(others))


def _failed_step_of(node: RunNode) -> FailedStep:
    status, step = node.run.status, failed_step(node.run)
    error = status.steps[step].error if step is not None else None
    words = error or status.message or status.reason or "no error text was recorded"
    return FailedStep(node=node, step=step, error=read_error(words))


def _child_it_failed_of(failed: FailedStep) -> RunNode | None:
    said = failed.error.words
    children = [
        child
        for child in failed.node.children
        if child.phase is Phase.FAILED and _spawned_by(child) == failed.step and _is_told(child, said)
    ]
    return min(children, key=_finished_at, default=None)


def _is_told(child: RunNode, said: str) -> bool:
    """Return whether an error quotes how a child ended: SDKs raise ``Workflow Errors: [<its steps' errors>]``."""
    if child.run.metadata.name in said:
        return True
    _, _, quoted = said.partition("Workflow Errors: [")
    errors = [error_told(step) for step in child.run.status.steps.values() if step.phase is Phase.FAILED]
    texts = [error[:_COMPARED] for error in errors if error] or [child.run.status.message or ""]
    quoted = _without_quotes(quoted)
    return any(text and _without_quotes(repr(text)) in quoted for text in texts)


def _without_quotes(text: str) -> str:
    """Remove what depends on how often, and with which quotes, Python has quoted a text."""
    return text.replace("\\", "").replace("'", "").replace('"', "")


def failed_step(run: WorkflowRun) -> str | None:
    """Return the step that failed first, if one did."""
    failed = [(name, step) for name, step in run.status.steps.items() if step.phase is Phase.FAILED]
    return min(failed, key=_step_finished_at)[0] if failed else None


def duration(start: datetime | None, end: datetime | None, now: datetime) -> timedelta | None:
    return None if start is None else max((end or now) - start, timedelta(0))


def _spawned_by(node: RunNode) -> str | None:
    return node.run.spec.parent.step if node.run.spec.parent else None


def _finished_at(node: RunNode) -> float:
    finished = node.run.status.finished_at
    return finished.timestamp() if finished else float("inf")


def _step_finished_at(item: tuple[str, StepStatus]) -> float:
    return item[1].finished_at.timestamp() if item[1].finished_at else float("inf")
