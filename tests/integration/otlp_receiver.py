"""A receiver of OTLP over gRPC, as a collector is one: it keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

OK, ERROR = 1, 2


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span as it came; ids are numbers, the parent's is 0 if there is none."""

    service: str
    name: str
    trace_id: int
    span_id: int
    parent_id: int
    start: int
    end: int
    attributes: dict[str, Any]
    links: tuple[int, ...]
    status: int
    error: str
    events: tuple[str, ...]


@dataclass
class Receiver(TraceServiceServicer):
    """What was received, and where it listens."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802  # named by the protocol
        self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        for resource in request.resource_spans:
            service = _read(resource.resource.attributes).get("service.name", "")
            self.spans += [_received(span, service) for scope in resource.scope_spans for span in scope.spans]
        return wire.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Received:
        (span,) = self.named(name)
        return span


def _read(attributes: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in attributes}


def _received(span: Any, service: str) -> Received:
    return Received(
        service=service,
        name=span.name,
        trace_id=int.from_bytes(span.trace_id),
        span_id=int.from_bytes(span.span_id),
        parent_id=int.from_bytes(span.parent_span_id),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_read(span.attributes),
        links=tuple(int.from_bytes(link.span_id) for link in span.links),
        status=span.status.code,
        error=span.status.message,
        events=tuple(event.name for event in span.events),
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive spans until the block ends."""
    server = grpc.server(ThreadPoolExecutor(2))
    receiver = Receiver()
    add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]  # generated
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()
