"""A tree of runs as lines for a terminal: one per run, one per step where there are several, a bar for many runs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from textwrap import indent

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from hatchet_cli.tree import FailedStep, Failure, RunNode, count_phases, duration, failed_step
from hatchet_operator.durations import format_elapsed
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus
from hatchet_operator.terminal import lines, one_line

MAX_SIBLINGS = 20
"""More children than this of one step and workflow are drawn as one line."""

_SHOWN_FAILURES = 5
_LISTED_FAILURES = 20
_BAR_WIDTH = 24
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SYMBOLS = {
    Phase.PENDING: ("○", "dim"),
    Phase.SUCCEEDED: ("✔", "green"),
    Phase.FAILED: ("✘", "red"),
    Phase.CANCELLED: ("⊘", "yellow"),
}
_COUNT_WORDS = (  # the words beside a bar's numbers
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
    """Draw the path down to the cause, each step's traceback, the root's first, and what else failed."""
    way = Text()
    for depth, failed in enumerate(failure.path):
        way.append("   " * (depth - 1) + "└─ " if depth else "", "dim")
        way.append("✘ ", "red").append(title(failed.node), "bold").append(f" failed{_in_step(failed)}\n")
    way.rstrip()
    parts = [way, Text()]
    for failed in failure.path:
        is_cause = failed is failure.cause
        if len(failure.path) > 1:
            parts.append(Text(f"  {title(failed.node)}{_in_step(failed)}:", "bold"))
        # The part that quotes a child's failure is shown below, as the child's own.
        words = failed.error.words if is_cause else failed.error.headline
        parts += [Text(indent(lines(f"{failed.error.way}{words}".rstrip()), "  ")), Text()]
    if failure.others:
        parts += _draw_others(failure)
    return Group(*parts[:-1])


def _draw_others(failure: Failure) -> list[Text]:
    count = len(failure.others)
    parts = [Text(f"{count} {'run' if count == 1 else 'runs'} also failed{', tolerated' * failure.were_tolerated}:")]
    for failed in failure.others[:_LISTED_FAILURES]:
        line = Text("  ").append("✘ ", "red").append(title(failed.node))
        line.append(f"{_in_step(failed)}: {one_line(failed.error.headline)}")
        parts.append(line)
    if count > _LISTED_FAILURES:
        parts.append(Text(f"  … {count - _LISTED_FAILURES} more: kubectl get wfr", "dim"))
    return [*parts, Text()]


def title(node: RunNode) -> str:
    """Name a run for a person, and for `hatchet-operator logs`: "Child child1 (parent-557fn-11995153a9f0c5bd)"."""
    name = f"{node.workflow} {node.label}"
    return one_line(name if node.run.spec.parent is None else f"{name} ({node.run.metadata.name})")


def _in_step(failed: FailedStep) -> str:
    if failed.step is None:
        return ""
    attempt = f" (attempt {failed.attempt})" if failed.attempt != 1 else ""
    return one_line(f" in step {failed.step}{attempt}")


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
    line.append(one_line(node.workflow), "bold")
    line.append(f"  {one_line(node.label)}", "default" if node.run.spec.parent else "dim")
    _append_elapsed(line, node.duration(now))
    if len(status.steps) == 1:
        _append_attempts(line, next(iter(status.steps.values())))
    if node.phase is Phase.FAILED:
        if node.run.spec.parent is not None:
            line.append(f"  {node.run.metadata.name}", "dim")  # what `logs` and kubectl want
        step = failed_step(node.run)
        error = headline((status.steps[step].error if step else None) or status.message or status.reason)
        _append_error(line, f"{step}: {error}" if step else error)
    elif status.message and node.phase in (Phase.PENDING, Phase.CANCELLED):
        line.append(f"  {one_line(status.message)}", "dim")
    return line


def _step_line(name: str, step: StepStatus, now: datetime) -> Text:
    line = _line(step.phase, now).append(one_line(name))
    _append_elapsed(line, duration(step.started_at, step.finished_at, now))
    _append_attempts(line, step)
    if step.phase is Phase.FAILED and step.error:
        _append_error(line, headline(step.error))
    return line


def _bar_line(workflow: str, nodes: Sequence[RunNode]) -> Text:
    counts = count_phases(nodes)
    done = sum(count for phase, count in counts.items() if phase.is_final)
    filled = round(_BAR_WIDTH * done / len(nodes))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(one_line(workflow), "bold").append(f" \N{MULTIPLICATION SIGN} {len(nodes)}  ")
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
    line.append(f"  {one_line(error)}", "red")


def _step_of(node: RunNode) -> str | None:
    return node.run.spec.parent.step if node.run.spec.parent else None
