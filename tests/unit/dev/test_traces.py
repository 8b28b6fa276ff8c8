"""Where ``dev`` sends traces, and what it says of it."""

from __future__ import annotations

import pytest

from hatchet_operator_dev.errors import DevError
from hatchet_operator_dev.traces import find_traces

HERE, THERE = "http://localhost:4317", "https://collector.example:4317"
GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"
OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("given", "environ", "want"),
    [
        pytest.param(None, {}, None, id="nobody wants any"),
        pytest.param(HERE, {}, HERE, id="asked for"),
        pytest.param(None, {GENERAL: THERE}, THERE, id="OpenTelemetry's own variable"),
        pytest.param(None, {GENERAL: HERE, OF_TRACES: THERE}, THERE, id="the one for traces comes first"),
        pytest.param(HERE, {OF_TRACES: THERE}, HERE, id="what is asked for counts most"),
        pytest.param(None, {GENERAL: THERE, "OTEL_SDK_DISABLED": "true"}, None, id="switched off"),
        pytest.param(None, {GENERAL: THERE, "OTEL_TRACES_EXPORTER": "none"}, None, id="no traces wanted"),
    ],
)
def test_where_traces_go(given: str | None, environ: dict[str, str], want: str | None) -> None:
    found = find_traces(given, environ)
    assert (found and found.endpoint) == want
    if found is not None:
        assert found.shown == f"Traces go to {want}."
        assert found.worker_variables({}) == {
            OF_TRACES: want,
            "HATCHET_CLIENT_TRACING": "true",
            "OTEL_SERVICE_NAME": "worker",
        }
        assert found.worker_variables({"OTEL_SERVICE_NAME": "etl"})["OTEL_SERVICE_NAME"] == "etl"


@pytest.mark.parametrize("url", ["localhost:4317", "4317", "grpc://localhost:4317", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(DevError, match="expected a URL as in http://localhost:4317"):
        find_traces(url, {})


def test_without_opentelemetry_only_who_asks_for_traces_is_refused() -> None:
    with pytest.raises(DevError, match=r'pip install "hatchet-operator\[tracing\]"'):
        find_traces(HERE, {}, is_installed=lambda: False)
    found = find_traces(None, {GENERAL: HERE}, is_installed=lambda: False)
    assert found is not None
    assert "there are no traces; run" in found.shown
    assert found.worker_variables({}) == {}
