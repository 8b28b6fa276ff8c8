"""One run as a page: what it is, its state, its steps, its result or its error. Pure."""

import json
from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hatchet_cli.drawing import draw_failure
from hatchet_cli.listing import STYLES, elapsed, metadata_of
from hatchet_cli.tree import RunNode, find_failure, result
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.terminal import lines, one_line

_SHOWN_CHARACTERS = 2000


def draw_page(node: RunNode, *, now: datetime) -> RenderableType:
    """Draw a run with what a person wants to know first."""
    run = node.run
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(node, now):
        facts.add_row(name, value if isinstance(value, Text) else Text(lines(value)))
    parts: list[RenderableType] = [facts]
    if run.status.steps:
        parts += [Text(), _draw_steps(run, now)]
    if node.phase is Phase.FAILED:
        parts += [Text(), draw_failure(find_failure(node))]
    return Group(*parts)


def _facts(node: RunNode, now: datetime) -> Iterator[tuple[str, str | Text]]:
    run, status = node.run, node.run.status
    yield "run", run.metadata.name
    yield "workflow", node.workflow
    phase = Text(node.phase, STYLES[node.phase])
    if status.reason and node.phase is not Phase.SUCCEEDED:
        phase.append(f"  {status.reason}")
    yield "phase", phase
    if status.message and node.phase is not Phase.SUCCEEDED:
        yield "message", status.message
    yield "age", elapsed(run.metadata.creation_timestamp, None, now)
    if status.started_at:
        yield "duration", elapsed(status.started_at, status.finished_at, now)
    if run.spec.parent:
        yield "parent", f"{run.spec.parent.name}, step {run.spec.parent.step}, {node.label}"
    if status.reruns:
        yield "reruns", str(status.reruns)
    if status.children:
        counts = status.children
        yield "children", f"{counts.summary}, {counts.failed} failed, {counts.cancelled} cancelled"
    for group in status.concurrency_groups or ():
        yield "group", group
    if metadata := metadata_of(run):
        yield "metadata", _shortened(json.dumps(metadata, ensure_ascii=False))
    yield "input", _shortened(run.spec.input_json or json.dumps(run.spec.input or {}, ensure_ascii=False))
    if node.phase is Phase.SUCCEEDED:
        yield "result", _shortened(json.dumps(result(node), ensure_ascii=False))


def _draw_steps(run: WorkflowRun, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("STEP", "PHASE", "ATTEMPT", "DURATION", "WORKER", "REASON"):
        table.add_column(column, no_wrap=True)
    for name, step in run.status.steps.items():
        table.add_row(
            Text(one_line(name)),
            Text(step.phase, STYLES[step.phase]),
            Text(str(step.attempt + 1)),
            Text(elapsed(step.started_at, step.finished_at, now)),
            Text(one_line(step.worker or "")),
            Text(step.reason or ""),
        )
    return table


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters; -o json has all)"
