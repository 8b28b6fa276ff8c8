"""Which spans a change of a run ends, and their ids: all of it follows from objects, so that any leader says the same.

caller ──traceparent──► root run ──► attempt ──traceparent──► child run ──► attempt …
                                        └──link── the next attempt

A run's metadata has the `traceparent` (W3C Trace Context) of whoever started it, as Hatchet's clients send it. Without
one, a root run begins a trace of its own, whose id is a hash of its UID. A hash, not the UID itself: samplers take some
bits of trace ids for random, which in a UUID are constant.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hatchet_operator.resources.names import attempt_id
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import NOT_BEGUN, RunStatus, StepStatus, WorkflowRun

TRACEPARENT = "traceparent"
"""Its key in the metadata of runs, and its name in HTTP."""
_FORMAT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LONGEST_TEXT = 256
_LONGEST_ERROR = 1024

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class SpanContext:
    """A span as others refer to it."""

    trace_id: int
    span_id: int
    is_sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


@dataclass(frozen=True, slots=True)
class RunTrace:
    """Where a run is in which trace.

    Attributes:
        trace_id: The trace.
        parent: What started the run, if that is known.
        is_sampled: Whether its spans are wanted.
    """

    trace_id: int
    parent: SpanContext | None
    is_sampled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """Something at one moment within a span."""

    name: str
    at: datetime
    attributes: Attributes


@dataclass(frozen=True, kw_only=True, slots=True)
class EndedSpan:
    """A span with all that will be known of it.

    Attributes:
        parent_id: The span it is part of; None: it is the first of its trace.
        error: Why it failed; None: it did not.
        follows: The span that it follows, in the same trace: an attempt before, an execution before.
    """

    name: str
    context: SpanContext
    parent_id: int | None
    start: datetime
    end: datetime
    attributes: Attributes
    succeeded: bool = False
    error: str | None = None
    follows: int | None = None
    events: tuple[Happening, ...] = ()


def read_traceparent(value: object) -> SpanContext | None:
    """Read a `traceparent`; None: it is none, or not valid. Of a later version, what this one knows is read."""
    if not isinstance(value, str) or (match := _FORMAT.fullmatch(value)) is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    return SpanContext(trace_id, span_id, bool(int(flags, 16) & 1)) if trace_id and span_id else None


def trace_id_of(root_uid: str) -> int:
    """Return the id of the trace that a root run begins."""
    return _number("trace", root_uid, size=16)


def run_span_id(identity: str, reruns: int) -> int:
    """Return the id of the span of one execution of a run."""
    return _number("run", f"{identity}/{reruns}", size=8)


def attempt_span_id(attempt: str) -> int:
    """Return the id of the span of an attempt, of which this is the id."""
    return _number("attempt", attempt, size=8)


def _number(kind: str, text: str, *, size: int) -> int:
    digest = hashlib.sha256(f"{kind}/{text}".encode()).digest()
    return int.from_bytes(digest[:size]) or 1  # zero means none


def given_context(run: WorkflowRun) -> SpanContext | None:
    """Return what a run's metadata says started it."""
    return read_traceparent((run.spec.additional_metadata or {}).get(TRACEPARENT))


def child_traceparent(given: object, *, inherited: object, attempt: SpanContext) -> str:
    """Return the `traceparent` of a child that an attempt spawns.

    Args:
        given: What the spawn's metadata say. A span of the user within the attempt is kept; what is of another trace,
            or only handed down from the parent's own caller, is not.
        inherited: What the parent's metadata say.
        attempt: The spawning attempt.
    """
    context = read_traceparent(given)
    if context is None or given == inherited or context.trace_id != attempt.trace_id:
        return str(attempt)
    return str(given)


def ended_spans(before: WorkflowRun, after: WorkflowRun, trace: RunTrace, *, now: datetime) -> list[EndedSpan]:
    """Return the spans that ended between two states of one run: those of attempts, and that of the run.

    Args:
        before: The state before.
        after: The state that has replaced it.
        trace: Where the run is.
        now: When an attempt ended that another one follows: its status tells when it began, and not this.
    """
    spans = []
    if before.status.reruns == after.status.reruns:  # otherwise steps were only reset
        for step, state in after.status.steps.items():
            old = before.status.steps.get(step, NOT_BEGUN)
            if state != old and not old.phase.is_final:
                spans += _ended_attempt(after, step, old, state, trace, now)
    was_final = before.status.phase.is_final and before.status.reruns == after.status.reruns
    if after.status.phase.is_final and not was_final:
        spans.append(_run_span(after, after.status, trace, now))
    return spans


def deleted_run_span(run: WorkflowRun, trace: RunTrace, *, now: datetime) -> EndedSpan:
    """Return the span of a run that was deleted before it was over."""
    gone = run.status.model_copy(update={"phase": Phase.CANCELLED, "reason": "Deleted", "finished_at": now})
    return _run_span(run, gone, trace, now)


def _ended_attempt(
    run: WorkflowRun, step: str, old: StepStatus, new: StepStatus, trace: RunTrace, now: datetime
) -> list[EndedSpan]:
    is_followed = (new.attempt, new.dispatch) != (old.attempt, old.dispatch)
    if not (is_followed or new.phase.is_final):
        return []
    # A step that waits for its next attempt still says when the last one began.
    began = None if old.phase is Phase.PENDING and new.started_at == old.started_at else new.started_at
    if began is None and not is_followed:
        return []  # it was never assigned; the run's span tells of it
    end = now if is_followed else new.finished_at or now
    return [
        EndedSpan(
            name=f"attempt {step}",
            context=SpanContext(trace.trace_id, attempt_span_id(_attempt_id(run, step, old)), trace.is_sampled),
            parent_id=run_span_id(run.identity, run.status.reruns),
            start=min(began or end, end),
            end=end,
            attributes=_attributes(run)
            | {"hatchet.step.name": step, "hatchet.attempt.number": old.attempt + 1}
            | {"hatchet.attempt.id": _attempt_id(run, step, old), "hatchet.attempt.dispatch": old.dispatch}
            | _said(worker=new.worker, reason=new.reason, phase=None if is_followed else new.phase.value),
            succeeded=new.phase is Phase.SUCCEEDED,
            error=_error(new.error or "") if is_followed or new.phase is Phase.FAILED else None,
            follows=_attempt_before(run, step, old),
        )
    ]


def _attempt_id(run: WorkflowRun, step: str, state: StepStatus) -> str:
    return _numbered(run, step, state.attempt, state.dispatch)


def _numbered(run: WorkflowRun, step: str, attempt: int, dispatch: int) -> str:
    return attempt_id(run.identity, rerun=run.status.reruns, step=step, attempt=attempt, dispatch=dispatch)


def _attempt_before(run: WorkflowRun, step: str, state: StepStatus) -> int | None:
    if state.dispatch:
        return attempt_span_id(_numbered(run, step, state.attempt, state.dispatch - 1))
    if not state.attempt:
        return None
    tries = sum(each.attempt == state.attempt - 1 for each in state.earlier)
    return attempt_span_id(_numbered(run, step, state.attempt - 1, max(tries - 1, 0)))


def _run_span(run: WorkflowRun, status: RunStatus, trace: RunTrace, now: datetime) -> EndedSpan:
    end = status.finished_at or now
    start = status.started_at or (run.metadata.creation_timestamp if not status.reruns else None) or end
    return EndedSpan(
        name=f"run {run.spec.workflow}",
        context=SpanContext(trace.trace_id, run_span_id(run.identity, status.reruns), trace.is_sampled),
        parent_id=trace.parent.span_id if trace.parent is not None else None,
        start=min(start, end),
        end=end,
        attributes=_attributes(run)
        | {"hatchet.run.reruns": status.reruns}
        | _said(phase=status.phase.value, reason=status.reason),
        succeeded=status.phase is Phase.SUCCEEDED,
        error=_error(status.message or "") if status.phase is Phase.FAILED else None,
        follows=run_span_id(run.identity, status.reruns - 1) if status.reruns else None,
        events=tuple(
            Happening(
                name="step not run", at=state.finished_at or end, attributes=_said(step=name, reason=state.reason)
            )
            for name, state in status.steps.items()
            if state.phase is Phase.CANCELLED and state.started_at is None
        ),
    )


def _attributes(run: WorkflowRun) -> dict[str, str | int]:
    parent = run.spec.parent
    return {
        "k8s.namespace.name": run.metadata.namespace,
        "hatchet.run.name": run.metadata.name,
        "hatchet.run.uid": run.metadata.uid,
        "hatchet.workflow.name": run.spec.workflow,
        **_said(parent=parent.name if parent is not None else None, key=parent.key if parent is not None else None),
    }


_NAMES = {
    "worker": "hatchet.worker.name",
    "reason": "hatchet.reason",
    "phase": "hatchet.phase",
    "step": "hatchet.step.name",
    "parent": "hatchet.parent.name",
    "key": "hatchet.spawn.key",
}


def _said(**said: str | None) -> dict[str, Any]:
    return {_NAMES[name]: value[:_LONGEST_TEXT] for name, value in said.items() if value}


def _error(text: str) -> str:
    """Return an error's first line: the rest is its traceback, which the run has."""
    return text.strip().partition("\n")[0][:_LONGEST_ERROR]
