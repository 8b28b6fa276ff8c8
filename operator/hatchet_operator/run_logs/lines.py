"""Lines of a pod's log: when Kubernetes got them, which attempt wrote them, and how they are shown. Pure.

The SDK marks each line with its run, step and attempt. A pool's pod writes lines of many runs, of which those with a
wanted mark are shown. A pod that was created for the run serves nothing else, so its other lines are shown too, under
the pod's name: the worker's own messages, and the output of subprocesses and C code.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from hatchet_operator import terminal
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk.contracts.step_lines import read_line

CLOCKS_DIFFER = timedelta(seconds=2)  # of nodes and the API server, whose creation times are whole seconds

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ")
_TRACEBACK = "Traceback (most recent call last):"
_STYLES = re.compile(r"\x1b\[[0-9;:]*m")


@dataclass(frozen=True, slots=True)
class Line:
    """A line to show.

    Attributes:
        time: When the node got it; None: the server does not say.
        run: Name of the run; None: none, but in the log of a pod that was created for a run.
        step: Name of the step, or of the pod.
        attempt: From 1.
        text: As it was written.
        is_error: It is of the error that the attempt failed with, and in no log.
        trace_id, span_id: What it was written in; None: it does not say.
    """

    time: datetime | None
    run: str | None
    step: str
    attempt: int
    text: str
    is_error: bool = False
    trace_id: str | None = None
    span_id: str | None = None

    def shown(self, *, with_run: bool) -> str:
        """Return the line for a terminal: ``step#attempt | text``."""
        if self.run is None:
            return f"{self.step} | {plain(self.text)}"
        run = f"{self.run} " if with_run else ""
        return f"{run}{terminal.one_line(self.step)}#{self.attempt} {'!' if self.is_error else '|'} {plain(self.text)}"

    def to_json(self) -> str:
        """Return the line for a program: an object without what is not known of it.

        Escapes of JSON stand for all but ASCII, so that a terminal obeys nothing in it.
        """
        said = {
            "time": self.time.isoformat() if self.time is not None else None,
            "run": self.run,
            "step" if self.run is not None else "pod": self.step,
            "attempt": self.attempt or None,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "error" if self.is_error else "message": _last_drawn(self.text),
        }
        return json.dumps({name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which lines are wanted.

    Attributes:
        step: Only those of this step; names are compared in lower case.
        attempt: Only those of this attempt, from 1.
    """

    step: str | None = None
    attempt: int | None = None

    @property
    def is_all(self) -> bool:
        return self.step is None and self.attempt is None

    def takes(self, step: str, attempt: int) -> bool:
        is_step = self.step is None or step.lower() == self.step.lower()
        return is_step and (self.attempt is None or attempt == self.attempt)


def wanted_lines(
    raw: str, *, runs: dict[str, WorkflowRun], wanted: Wanted, pod: str, is_the_runs: bool
) -> Iterator[Line]:
    """Yield what is wanted of a line of a pod's log, which begins with its time.

    Args:
        raw: The line.
        runs: The runs in question, by name.
        wanted: Which of their attempts.
        pod: Name of the pod.
        is_the_runs: Whether it was created for one of them.
    """
    time, text = _split(raw)
    line = read_line(text)
    own = is_the_runs and wanted.is_all
    if line is None:
        if own:
            yield Line(time, None, pod, 0, text)
        return
    if line.before and own:
        yield Line(time, None, pod, 0, line.before)
    run = runs.get(line.run)
    if run is None or not wanted.takes(line.step, line.attempt):
        return
    created_at = run.metadata.creation_timestamp
    if time is not None and created_at is not None and time < created_at - CLOCKS_DIFFER:
        return  # it belongs to an earlier run of this name
    yield Line(time, line.run, line.step, line.attempt, line.text, trace_id=line.trace_id, span_id=line.span_id)


def error_lines(run: WorkflowRun, wanted: Wanted) -> Iterator[Line]:
    """Yield the errors of a run's failed steps."""
    for step, state in run.status.steps.items():
        has_failed = state.phase is Phase.FAILED or state.reason == Reason.SCHEDULING_TIMED_OUT
        if has_failed and state.error and wanted.takes(step, state.attempt + 1):
            # Workers put the exception's message before the traceback, which ends with it anyway.
            error = state.error[max(state.error.find(_TRACEBACK), 0) :].rstrip("\n")
            for text in error.split("\n"):
                yield Line(None, run.metadata.name, step, state.attempt + 1, text, is_error=True)


def plain(text: str) -> str:
    """Return text that a user wrote, without colours or anything else that a terminal would interpret."""
    return terminal.lines(_STYLES.sub("", _last_drawn(text)))


def with_colours(text: str) -> str:
    """Return text that a user wrote, without anything but colours that a terminal would interpret."""
    parts = re.split(f"({_STYLES.pattern})", _last_drawn(text))
    return "".join(part if index % 2 else terminal.lines(part) for index, part in enumerate(parts))


def _last_drawn(text: str) -> str:
    """Return the final state of a progress bar that redraws its line."""
    text = text.rstrip("\r")
    return text[text.rfind("\r") + 1 :]


def _split(raw: str) -> tuple[datetime | None, str]:
    if (found := _TIME.match(raw)) is None:
        return None, raw
    second, fraction, zone = found.groups()
    micro = (fraction or "")[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{second}.{micro}{zone.replace('Z', '+00:00')}"), raw[found.end() :]
