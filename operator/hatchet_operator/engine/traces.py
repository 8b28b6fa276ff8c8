"""Spans of runs and attempts: emitted when the status that ends them is known to be written, by who leads then.

The operator emits them, not the worker: a worker may die before its attempt has ended. Which they are is decided in
`decisions/tracing.py`. What was over when this leader began, an earlier one has emitted.
"""

from collections.abc import Callable
from typing import Protocol

from hatchet_operator.decisions.tracing import (
    TRACEPARENT,
    EndedSpan,
    RunTrace,
    SpanContext,
    attempt_span_id,
    child_traceparent,
    deleted_run_span,
    ended_spans,
    given_context,
    trace_id_of,
)
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.run import WorkflowRun


class Tracer(Protocol):
    """Where spans go. Neither call waits for anything."""

    def is_sampled(self, trace_id: int, caller: SpanContext | None) -> bool:
        """Whether spans of a trace are wanted; its caller may have decided that."""

    def emit(self, span: EndedSpan) -> None:
        """Hand a span over."""


class Traces:
    """Follows runs, and names the spans of attempts to those who work for them.

    Args:
        tracer: Where spans go.
        store: What is known of runs.
        clock: Tells the time.
        is_loading: Whether runs are read for the first time.
    """

    def __init__(self, tracer: Tracer, store: RunStore, clock: Clock, *, is_loading: Callable[[], bool]) -> None:
        self._tracer = tracer
        self._store = store
        self._clock = clock
        self._is_loading = is_loading

    def run_changed(self, change: RunChange) -> None:
        """React to a change of a run."""
        before, after = change.before, change.run
        if before is None or self._is_loading():
            return
        if after is not None:
            if after.status == before.status:
                return
            spans = ended_spans(before, after, self._trace_of(change.record, after), now=self._clock.now())
        elif change.gone and not before.status.phase.is_final:
            spans = [deleted_run_span(before, self._trace_of(change.record, before), now=self._clock.now())]
        else:
            return
        for span in spans:
            self._tracer.emit(span)

    def traceparent_of(self, record: RunRecord, attempt_id: str) -> str:
        """Return the `traceparent` that an attempt's worker gets: that of the attempt's span."""
        return str(self._attempt(record, attempt_id))

    def place_child(self, body: Json, parent: RunRecord, attempt_id: str) -> None:
        """Say in the object of a child who spawns it."""
        metadata = body["spec"].setdefault("additionalMetadata", {})
        inherited = (parent.run.spec.additional_metadata or {}).get(TRACEPARENT)
        metadata[TRACEPARENT] = child_traceparent(
            metadata.get(TRACEPARENT), inherited=inherited, attempt=self._attempt(parent, attempt_id)
        )

    def _attempt(self, record: RunRecord, attempt_id: str) -> SpanContext:
        trace = self._trace_of(record, record.run)
        return SpanContext(trace.trace_id, attempt_span_id(attempt_id), trace.is_sampled)

    def _trace_of(self, record: RunRecord, run: WorkflowRun) -> RunTrace:
        if (parent := given_context(run)) is not None:
            return RunTrace(parent.trace_id, parent, self._tracer.is_sampled(parent.trace_id, parent))
        top = record  # one that was spawned while there was no tracing: its tree is one trace all the same
        while (above := self._store.parent_of(top)) is not None:
            top = above
        trace_id = trace_id_of(top.uid)
        return RunTrace(trace_id, None, self._tracer.is_sampled(trace_id, None))
