"""OpenTelemetry's context in requests and log records, and that it is not imported unasked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from hatchet_sdk._client import tracing
from hatchet_sdk._client.options import SpawningAttempt
from hatchet_sdk._client.requests import child_request, root_request
from hatchet_sdk.errors import NotConfigured
from tests.integration.otlp_receiver import receiving

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("test")
ATTEMPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARENT = SpawningAttempt(
    workflow_run_id="run",
    task_run_external_id="id",
    additional_metadata={"traceparent": ATTEMPT, "a": 1},
    is_current=lambda: True,
)


def test_a_root_run_is_asked_for_with_the_current_span() -> None:
    with TRACER.start_as_current_span("caller") as span:
        request = root_request("Etl", {}, {"additional_metadata": {"a": 1}})
    context = span.get_span_context()
    assert json.loads(request.additional_metadata) == {
        "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}",
        "a": 1,
    }
    assert not root_request("Etl", {}, None).additional_metadata


def test_a_child_is_below_the_current_span_or_else_the_attempt() -> None:
    def spawned() -> str:
        request = child_request("Child", {}, key=None, index=0, options=None, parent=PARENT)
        return str(json.loads(request.additional_metadata)["traceparent"])

    assert spawned() == ATTEMPT
    with TRACER.start_as_current_span("within"):
        assert spawned() == tracing.current()["traceparent"] != ATTEMPT


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        pytest.param(json.dumps({"traceparent": ATTEMPT}), ATTEMPT, id="as the operator gives it"),
        pytest.param("", None, id="no metadata"),
        pytest.param('{"traceparent": 7}', None, id="a number"),
        pytest.param('["traceparent"]', None, id="no object"),
    ],
)
def test_where_an_attempt_finds_its_span(metadata: str, want: str | None) -> None:
    assert tracing.traceparent_in(metadata) == want


def test_log_ids_are_those_of_the_attempt_unless_there_is_a_span_within() -> None:
    assert tracing.current_ids(None) is None
    assert tracing.current_ids(ATTEMPT) == tuple(ATTEMPT.split("-")[1:3])
    with TRACER.start_as_current_span("within") as span:
        ids = tracing.current_ids(ATTEMPT)
    assert ids == (f"{span.get_span_context().trace_id:032x}", f"{span.get_span_context().span_id:016x}")


def test_nothing_is_imported_unasked() -> None:
    program = """
import sys
from hatchet_sdk._client import tracing
from hatchet_sdk._client.requests import root_request
tracing.set_up({})
tracing.enter("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
root_request("Etl", {}, None)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_worker_sends_spans_where_its_environment_says() -> None:
    program = """
from hatchet_sdk._client import tracing
from opentelemetry import trace
tracing.set_up()
trace.get_tracer("a").start_span("download").end()
"""
    with receiving() as receiver:
        environ = {
            "HATCHET_CLIENT_TRACING": "true",
            "OTEL_SERVICE_NAME": "my-worker",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        subprocess.run([sys.executable, "-c", program], env=environ, check=True)
        assert receiver.one("download").service == "my-worker"


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(NotConfigured, match=r'pip install "hatchet-operator-sdk\[tracing\]"'):
        tracing.set_up({"HATCHET_CLIENT_TRACING": "true"})
