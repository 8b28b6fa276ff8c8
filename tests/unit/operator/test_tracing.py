"""OpenTelemetry is an extra: whoever does not ask for traces does not have it in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.tracing import find_tracer

_PROGRAM = """
import sys
import hatchet_operator.cli, hatchet_operator.operator, hatchet_sdk
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.settings import Settings
hatchet_operator.operator.Operator(Settings(), Endpoint(server="http://127.0.0.1:1"))
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_nothing_of_it_is_imported_with_tracing_off() -> None:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ConfigurationError, match=r'pip install "hatchet-operator\[tracing\]"'):
        find_tracer(Metrics())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("OTEL_SDK_DISABLED", "true", id="all of it"),
        pytest.param("OTEL_TRACES_EXPORTER", "none", id="traces"),
    ],
)
def test_opentelemetrys_own_variables_switch_it_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert find_tracer(Metrics()) is None
