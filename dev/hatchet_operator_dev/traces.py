"""Where ``dev`` sends traces: operator and workers to one collector, by OTLP over gRPC."""

import importlib.util
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hatchet_operator_dev.errors import DevError

ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"  # of traces, metrics and logs; the other is preferred
_NAME = "OTEL_SERVICE_NAME"


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Where they go.

    Attributes:
        endpoint: URL of the collector.
        lacking: Why there are none nevertheless; None: there are.
    """

    endpoint: str
    lacking: str | None = None

    @property
    def shown(self) -> str:
        """What is said of it, in a sentence."""
        return self.lacking or f"Traces go to {self.endpoint}."

    def client_variables(self) -> dict[str, str]:
        """Return what has a program of the SDK send its own spans there, and take part in the traces of its runs."""
        return {} if self.lacking else {ENDPOINT: self.endpoint, "HATCHET_CLIENT_TRACING": "true"}

    def worker_variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the same for workers that run here; a collector shows spans by who sent them."""
        return {_NAME: environ.get(_NAME, "worker"), **self.client_variables()} if not self.lacking else {}


def opentelemetry_is_installed() -> bool:
    """Return whether this Python has what sends traces."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


def find_traces(
    given: str | None, environ: Mapping[str, str], *, is_installed: Callable[[], bool] = opentelemetry_is_installed
) -> Traces | None:
    """Return where traces go; None: nobody wants any.

    Args:
        given: What was asked for.
        environ: Where OpenTelemetry's variables may ask for it; that OpenTelemetry is not installed is no error then.
        is_installed: Tells whether it is.

    Raises:
        DevError: What was asked for can't be done.
    """
    endpoint = given or environ.get(ENDPOINT) or environ.get(_GENERAL)
    if not endpoint or (given is None and _is_switched_off(environ)):
        return None
    if given is not None and (urlsplit(given).scheme not in ("http", "https") or not urlsplit(given).hostname):
        raise DevError(f'--otlp is "{given}"; expected a URL as in http://localhost:4317', exit_code=2)
    if is_installed():
        return Traces(endpoint=endpoint)
    how = f'{shlex.quote(sys.executable)} -m pip install "hatchet-operator[tracing]" "hatchet-operator-sdk[tracing]"'
    if given is not None:
        raise DevError(f"--otlp needs OpenTelemetry, which is not installed here; run {how}", exit_code=2)
    return Traces(
        endpoint=endpoint,
        lacking=f"{_GENERAL} is set, but OpenTelemetry is not installed here, so there are no traces; run {how}",
    )


def _is_switched_off(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
