"""Spans go to an OpenTelemetry collector by OTLP, in batches, from a thread: nothing that the operator does waits.

What OpenTelemetry's variables say is followed (OTEL_EXPORTER_OTLP_ENDPOINT, …_HEADERS, OTEL_TRACES_SAMPLER,
OTEL_BSP_MAX_QUEUE_SIZE, OTEL_RESOURCE_ATTRIBUTES and others). The library is the extra `tracing`, and is imported by
`find_tracer` alone, if tracing is on.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from hatchet_operator.decisions.tracing import EndedSpan, SpanContext
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanContext as OtelContext

log = logging.getLogger(__name__)

_SERVICE = "hatchet-operator"
_CLOSE_SECONDS = 3.0
_NOISY = ("opentelemetry.exporter", "opentelemetry.sdk")


def find_tracer(metrics: Metrics) -> "OtlpTracer | None":
    """Return where spans go; None: OpenTelemetry's own variables switch it off.

    Raises:
        ConfigurationError: The library is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'tracing needs OpenTelemetry ({error}): pip install "hatchet-operator[tracing]"'
        ) from error
    return OtlpTracer(OTLPSpanExporter(), metrics)


class OtlpTracer:
    """Hands spans to an exporter's queue, which is bounded: what finds it full is dropped, and counted."""

    def __init__(self, exporter: "SpanExporter", metrics: Metrics) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        for name in _NOISY:  # it would warn of every batch; we warn once
            logging.getLogger(name).setLevel(logging.CRITICAL)
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._resource, self._sampler = provider.resource, provider.sampler
        self._metrics = metrics
        self._most = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or 2048)
        self._emitted = 0
        self._watched = _watch_exporter(exporter, metrics)
        self._processor = BatchSpanProcessor(self._watched.exporter)

    def is_sampled(self, trace_id: int, caller: SpanContext | None) -> bool:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.sampling import Decision

        context = trace.set_span_in_context(trace.NonRecordingSpan(_otel(caller))) if caller is not None else None
        decision = self._sampler.should_sample(context, trace_id, _SERVICE).decision
        return decision is not Decision.DROP

    def emit(self, span: EndedSpan) -> None:
        if not span.context.is_sampled:
            return
        if self._emitted - self._watched.settled >= self._most:
            self._metrics.spans.labels(outcome="dropped").inc()
            return
        self._emitted += 1
        self._processor.on_end(_readable(span, self._resource))

    async def close(self) -> None:
        """Send what is there, if that is done soon."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            loop.call_soon_threadsafe(done.set)

        # No thread of the loop's pool, which the process would wait for: an exporter may take long to give up.
        threading.Thread(target=_unless_closed(shut_down), name="tracing-close", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            log.warning("spans not sent", extra={"spans": self._emitted - self._watched.settled})


def _unless_closed(work: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        except RuntimeError:  # the loop is gone: nobody waits any more
            log.debug("tracing closed late")

    return run


class _Watched:
    """An exporter's progress."""

    exporter: "SpanExporter"
    settled = 0
    is_failing = False


def _watch_exporter(exporter: "SpanExporter", metrics: Metrics) -> _Watched:
    """Wrap an exporter so that what it sends and fails to send is counted, and told once."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    watched = _Watched()

    class Watching(SpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            try:
                result = exporter.export(spans)
            except Exception as error:  # noqa: BLE001 - whatever the library raises, spans are lost and no more
                log.debug("spans not exported", extra={"error": repr(error)})
                result = SpanExportResult.FAILURE
            succeeded = result is SpanExportResult.SUCCESS
            metrics.spans.labels(outcome="exported" if succeeded else "failed").inc(len(spans))
            watched.settled += len(spans)
            if succeeded is watched.is_failing:  # otherwise nothing has changed
                watched.is_failing = not succeeded
                if succeeded:
                    log.info("spans are exported again")
                else:
                    log.warning("spans can't be exported, and are dropped; is the collector there?")
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    watched.exporter = Watching()
    return watched


def _resource() -> "Resource":
    from opentelemetry.sdk.resources import Resource

    is_named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if is_named else {"service.name": _SERVICE})


def _otel(context: SpanContext) -> "OtelContext":
    from opentelemetry.trace import SpanContext as OtelContext
    from opentelemetry.trace import TraceFlags

    flags = TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT
    return OtelContext(context.trace_id, context.span_id, is_remote=True, trace_flags=TraceFlags(flags))


def _readable(span: EndedSpan, resource: "Resource") -> "ReadableSpan":
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, Status, StatusCode

    def beside(span_id: int) -> "OtelContext":
        return _otel(SpanContext(span.context.trace_id, span_id, span.context.is_sampled))

    code = StatusCode.ERROR if span.error is not None else StatusCode.OK if span.succeeded else StatusCode.UNSET
    return ReadableSpan(
        span.name,
        context=_otel(span.context),
        parent=beside(span.parent_id) if span.parent_id is not None else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(each.name, dict(each.attributes), _nanoseconds(each.at)) for each in span.events],
        links=[Link(beside(span.follows), {"hatchet.link": "follows"})] if span.follows is not None else [],
        status=Status(code, span.error),
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(span.end),
        instrumentation_scope=InstrumentationScope(_SERVICE),
    )


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
