"""How a line of a worker's output names the attempt that wrote it: shared by the SDK and readers of a pod's log.

    [etl-7/load#2] what the step printed                  run "etl-7", step "load", second attempt
    {"hatchet": "etl-7/load#2", "level": "info", …}       the same for a line that is a JSON object

    [etl-7/load#2 trace=4bf9…] what the step printed      within a trace, of OpenTelemetry
    {"hatchet": "etl-7/load#2", "trace_id": "4bf9…", "span_id": "00f0…", "level": "info", …}

The name of a run has no slash; what could end the name of a step too early, and control characters, are written as
``%`` and the hexadecimal digits of their UTF-8 bytes. A line without a mark belongs to no step. What subprocesses and C
code print is not marked, and may precede a mark if it did not end its line.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_RESERVED = frozenset('%#]["\\')
_NAME = r"(?P<run{0}>[a-z0-9.-]+)/(?P<step{0}>[^\]#\"]*)#(?P<attempt{0}>[0-9]+)"
_TRACE = "(?P<trace{0}>[0-9a-f]{{32}})"
_IDS = rf', "trace_id": "{_TRACE.format(2)}", "span_id": "(?P<span>[0-9a-f]{{16}})"'
_MARK = re.compile(
    rf"\[{_NAME.format(1)}(?: trace={_TRACE.format(1)})?\](?: |$)"
    rf'|\{{"hatchet": "{_NAME.format(2)}"(?:{_IDS})?(?P<more>, )?'
)


@dataclass(frozen=True, slots=True)
class StepLine:
    """A line that a step wrote.

    Attributes:
        run: Name of the WorkflowRun.
        step: The step's name.
        attempt: From 1.
        text: What it wrote.
        before: What something else had written to the line before.
        trace_id, span_id: The trace and the span that it was written in, in hexadecimal digits; None: it does not say.
    """

    run: str
    step: str
    attempt: int
    text: str
    before: str = ""
    trace_id: str | None = None
    span_id: str | None = None


def mark_of(run: str, step: str, attempt: int) -> str:
    """Return the mark's inside; ``attempt`` counts from 1."""
    return f"{run}/{''.join(map(_escaped, step))}#{attempt}"


def start_of_text(mark: str, ids: tuple[str, str] | None) -> str:
    """Return what a marked line of text begins with; ``ids``: those of its trace and span, if it has some."""
    return f"[{mark} trace={ids[0]}] " if ids is not None else f"[{mark}] "


def start_of_json(mark: str, ids: tuple[str, str] | None) -> str:
    """Return what a marked line that is a JSON object begins with."""
    said = f', "trace_id": "{ids[0]}", "span_id": "{ids[1]}"' if ids is not None else ""
    return f'{{"hatchet": "{mark}"{said}'


def read_line(line: str) -> StepLine | None:
    """Parse the mark of a line; None: it has none."""
    if (found := _MARK.search(line)) is None:
        return None
    before, after = line[: found.start()], line[found.end() :]
    which = 1 if found["run1"] is not None else 2
    return StepLine(
        run=found[f"run{which}"],
        step=unquote(found[f"step{which}"]),
        attempt=int(found[f"attempt{which}"]),
        text=after if which == 1 else "{" + after,
        before=before,
        trace_id=found[f"trace{which}"],
        span_id=found["span"],
    )


def _escaped(character: str) -> str:
    if character.isprintable() and character not in _RESERVED:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "backslashreplace"))
