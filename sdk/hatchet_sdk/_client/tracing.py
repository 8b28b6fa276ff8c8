"""OpenTelemetry's context: from callers into the metadata of runs, and from there into steps.

    current span ──► metadata of a run ─ ─ operator ─ ─► metadata of an attempt ──► current span of its step

Programs that don't use OpenTelemetry neither import it here nor pay for it: whoever has a span has imported it. Spans
of attempts are the operator's, which knows how they end; here they are only what spans of user code are part of.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from hatchet_sdk.errors import NotConfigured

TRACEPARENT = "traceparent"
_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")  # W3C Trace Context
_SWITCH = "HATCHET_CLIENT_TRACING"
_MISSING = f'{_SWITCH} needs OpenTelemetry: pip install "hatchet-operator-sdk[tracing]"'


def set_up(environ: Mapping[str, str] = os.environ) -> None:
    """Have spans sent by OTLP if HATCHET_CLIENT_TRACING asks for it, unless the program has arranged that itself.

    Where to and which, OpenTelemetry's own variables say.

    Raises:
        NotConfigured: The library is not installed.
    """
    if environ.get(_SWITCH, "").lower() not in ("true", "1", "t"):
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise NotConfigured(f"{_MISSING} ({error})") from error
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def traceparent_in(metadata_json: str) -> str | None:
    """Return the `traceparent` of an attempt, of which these are the metadata."""
    if f'"{TRACEPARENT}"' not in metadata_json:
        return None
    metadata = json.loads(metadata_json)
    found = metadata.get(TRACEPARENT) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def enter(traceparent: str | None) -> None:
    """Make an attempt's span the current one, in the context that this is called in."""
    if traceparent is None or "opentelemetry.trace" not in sys.modules:
        return
    from opentelemetry import context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context.attach(TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent}))


def current() -> dict[str, str]:
    """Return what the metadata of a run say of the current span; nothing: there is none."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or not (context := trace.get_current_span().get_span_context()).is_valid:
        return {}
    return {TRACEPARENT: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}


def current_ids(traceparent: str | None) -> tuple[str, str] | None:
    """Return the ids of the current trace and span in hexadecimal digits, by default those of an attempt."""
    found = _TRACEPARENT.fullmatch(current().get(TRACEPARENT) or traceparent or "")
    return (found[1], found[2]) if found else None


def traceparent_of(trace_id: str | None, span_id: str | None) -> str | None:
    """Return what `current_ids` makes these ids of."""
    return f"00-{trace_id}-{span_id}-00" if trace_id and span_id else None
