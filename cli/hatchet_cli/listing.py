"""Which runs a list shows, in which order, and what its columns say. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from hatchet_operator.durations import format_elapsed
from hatchet_operator.resources.error_text import headline
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.terminal import one_line

STYLES = {
    Phase.PENDING: "dim",
    Phase.RUNNING: "cyan",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.CANCELLED: "yellow",
}
_COLUMNS = ("NAME", "WORKFLOW", "PHASE", "REASON", "AGE", "DURATION", "CHILDREN")
_WIDE_COLUMNS = ("PRIORITY", "GROUPS", "RERUNS", "MESSAGE")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which runs to list.

    Attributes:
        phases: Runs in one of these; empty: in any.
        workflow: Runs of the workflow with this exact or object name; None: any.
        created_after: Runs created later; None: at any time.
        metadata: Runs with these entries in their additional metadata.
        group: Runs in the concurrency group of this name; None: in any, or none.
        children: Whether to include spawned runs.
    """

    phases: frozenset[Phase] = frozenset()
    workflow: str | None = None
    created_after: datetime | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    children: bool = False

    def admits(self, run: WorkflowRun) -> bool:
        created = run.metadata.creation_timestamp
        return (
            (not self.phases or run.status.phase in self.phases)
            and (self.children or run.spec.parent is None)
            and (self.created_after is None or created is None or created >= self.created_after)
            and self.metadata.items() <= {key: str(value) for key, value in metadata_of(run).items()}.items()
            and (self.group is None or self.group in (run.status.concurrency_groups or ()))
        )


def metadata_of(run: WorkflowRun) -> dict[str, object]:
    return dict(run.spec.additional_metadata or {})


def in_order(runs: Iterable[WorkflowRun]) -> list[WorkflowRun]:
    """Sort runs: failed roots first, then what runs or waits, then the rest; the newest first in each."""
    newest = sorted(runs, key=_created, reverse=True)
    return sorted(newest, key=_rank)


def _created(run: WorkflowRun) -> tuple[datetime, str]:
    return run.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC), run.metadata.name


def _rank(run: WorkflowRun) -> int:
    if run.status.phase is Phase.FAILED:
        return 0 if run.spec.parent is None else 1
    return 3 if run.status.phase.is_final else 2


def draw_list(runs: Iterable[WorkflowRun], *, names: dict[str, str], now: datetime, wide: bool) -> Table:
    """Draw runs as kubectl draws objects, with colours where there is a terminal."""
    table = Table(box=None, pad_edge=False, header_style="", show_edge=False)
    for column in _COLUMNS + (_WIDE_COLUMNS if wide else ()):
        # Of columns that may all not wrap, each gives up a part to a long one; so it is the text that does not.
        table.add_column(column, no_wrap=column != "MESSAGE", overflow="fold")
    for run in runs:
        cells = [run.metadata.name, names.get(run.spec.workflow, run.spec.workflow), *_state(run, now)]
        table.add_row(*(_cell(cell) for cell in cells + (_more(run) if wide else [])))
    return table


def _cell(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(one_line(cell))


def _state(run: WorkflowRun, now: datetime) -> list[str | Text]:
    status = run.status
    reason = "" if status.phase is Phase.SUCCEEDED else status.reason or ""
    return [
        Text(status.phase, STYLES[status.phase]),
        reason,
        elapsed(run.metadata.creation_timestamp, None, now),
        elapsed(status.started_at, status.finished_at, now),
        status.children.summary or "" if status.children else "",
    ]


def _more(run: WorkflowRun) -> list[str | Text]:
    status = run.status
    return [
        str(run.spec.priority or ""),
        ",".join(status.concurrency_groups or ()),
        str(status.reruns or ""),
        cut_short(headline(status.message)) if status.message else "",
    ]


def cut_short(text: str) -> Text:
    """Return the text of a cell that gives up what the line has no room for, so that the other cells are whole."""
    return Text(one_line(text), no_wrap=True, overflow="ellipsis")


def elapsed(start: datetime | None, end: datetime | None, now: datetime) -> str:
    if start is None:
        return ""
    return format_elapsed(max((end or now) - start, timedelta(0)))
