"""A tree of runs as lines for a terminal: one per run, one per step where there are several, a bar for many runs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from textwrap import indent

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from hatchet_operator.dev.tree import Failure, RunNode, count_phases, duration, failed_step, format_elapsed
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus

MAX_SIBLINGS = 20
"""More children than this of one step and workflow are drawn as one line."""

_SHOWN_FAILURES = 5
_BAR_WIDTH = 24
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SYMBOLS = {
    Phase.PENDING: ("○", "dim"),
    Phase.SUCCEEDED: ("✔", "green"),
    Phase.FAILED: ("✘", "red"),
    Phase.CANCELLED: ("⊘", "yellow"),
}
_COUNT_WORDS = (  # what a bar says beside its numbers
    (Phase.RUNNING, "running", "cyan"),
    (Phase.FAILED, "failed", "red"),
    (Phase.CANCELLED, "cancelled", "yellow"),
)


def draw_tree(root: RunNode, *, now: datetime) -> RenderableType:
    """Draw a run and everything below it.

    Args:
        root: The tree.
        now: For durations of what still runs, and the spinner.
    """
    tree = Tree(_run_line(root, now), guide_style="dim")
    _add_below(tree, root, now)
    return tree


def draw_run(node: RunNode) -> RenderableType:
    """Draw a finished run without what is below it."""
    return _run_line(node, datetime.now(UTC))


def draw_failure(failure: Failure) -> RenderableType:
    """Draw the way down to the step that failed, and its traceback."""
    way = Text()
    for depth, (node, step) in enumerate(failure.path):
        way.append("   " * (depth - 1) + "└─ " if depth else "", "dim")
        way.append("✘ ", "red").append(node.workflow, "bold").append(f" {node.label}")
        way.append(f" failed in step {step}\n" if step else " failed\n")
    way.rstrip()
    return Group(way, Text(), Text(indent(failure.error.rstrip(), "  ")))


def _add_below(tree: Tree, node: RunNode, now: datetime) -> None:
    steps = node.run.status.steps
    if len(steps) < 2:
        _add_children(tree, node.children, now)
        return
    for name, step in steps.items():
        branch = tree.add(_step_line(name, step, now))
        _add_children(branch, [child for child in node.children if _step_of(child) == name], now)


def _add_children(tree: Tree, children: Sequence[RunNode], now: datetime) -> None:
    groups: dict[str, list[RunNode]] = {}
    for child in children:
        groups.setdefault(child.workflow, []).append(child)
    for workflow, nodes in groups.items():
        if len(nodes) <= MAX_SIBLINGS:
            for child in nodes:
                _add_below(tree.add(_run_line(child, now)), child, now)
        else:
            branch = tree.add(_bar_line(workflow, nodes))
            failed = [child for child in nodes if child.phase is Phase.FAILED]
            for child in failed[:_SHOWN_FAILURES]:
                _add_below(branch.add(_run_line(child, now)), child, now)
            if len(failed) > _SHOWN_FAILURES:
                branch.add(Text(f"… {len(failed) - _SHOWN_FAILURES} more failed", "dim"))


def _run_line(node: RunNode, now: datetime) -> Text:
    status = node.run.status
    line = _line(node.phase, now)
    line.append(node.workflow, "bold").append(f"  {node.label}", "default" if node.run.spec.parent else "dim")
    _append_elapsed(line, node.duration(now))
    if len(status.steps) == 1:
        _append_attempts(line, next(iter(status.steps.values())))
    if node.phase is Phase.FAILED:
        step = failed_step(node.run)
        error = (status.steps[step].error if step else None) or status.message or status.reason or ""
        _append_error(line, f"{step}: {_last_line(error)}" if step else error)
    elif status.message and node.phase in (Phase.PENDING, Phase.CANCELLED):
        line.append(f"  {status.message}", "dim")
    return line


def _step_line(name: str, step: StepStatus, now: datetime) -> Text:
    line = _line(step.phase, now).append(name)
    _append_elapsed(line, duration(step.started_at, step.finished_at, now))
    _append_attempts(line, step)
    if step.phase is Phase.FAILED and step.error:
        _append_error(line, _last_line(step.error))
    return line


def _bar_line(workflow: str, nodes: Sequence[RunNode]) -> Text:
    counts = count_phases(nodes)
    done = sum(count for phase, count in counts.items() if phase.is_final)
    filled = round(_BAR_WIDTH * done / len(nodes))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(workflow, "bold").append(f" \N{MULTIPLICATION SIGN} {len(nodes)}  ")
    line.append("━" * filled, "red" if counts[Phase.FAILED] else "green").append("━" * (_BAR_WIDTH - filled), "dim")
    line.append(f"  {done}/{len(nodes)}")
    for phase, word, style in _COUNT_WORDS:
        if counts[phase]:
            line.append(f"  {counts[phase]} {word}", style)
    return line


def _line(phase: Phase, now: datetime) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if phase is Phase.RUNNING:
        symbol, style = _SPINNER[int(now.timestamp() * 10) % len(_SPINNER)], "cyan"
    else:
        symbol, style = _SYMBOLS[phase]
    return line.append(f"{symbol} ", style)


def _append_elapsed(line: Text, elapsed: timedelta | None) -> None:
    if elapsed is not None:
        line.append(f"  {format_elapsed(elapsed)}", "dim")


def _append_attempts(line: Text, step: StepStatus) -> None:
    if step.attempt:
        line.append(f"  attempt {step.attempt + 1}", "yellow")


def _append_error(line: Text, error: str) -> None:
    line.append(f"  {error}", "red")


def _last_line(error: str) -> str:
    """Return what a traceback ends with: the exception and its words."""
    lines = error.rstrip().splitlines()
    return lines[-1] if lines else ""


def _step_of(node: RunNode) -> str | None:
    return node.run.spec.parent.step if node.run.spec.parent else None
