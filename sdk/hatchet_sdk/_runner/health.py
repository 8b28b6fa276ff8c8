"""What a worker tells of itself over HTTP, if its environment asks for it, in Hatchet's variables and at its paths.

    GET /health     200 while the operator can give it steps, otherwise 503; JSON
    GET /metrics    Prometheus' text; needs prometheus-client, this package's extra `metrics`

It is answered by a thread of its own, so also while a step blocks the event loop.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hatchet_sdk._runner.tally import BUCKETS, Tally
from hatchet_sdk.errors import NotConfigured

_PREFIX = "HATCHET_CLIENT_WORKER_HEALTHCHECK_"
_DEFAULT_PORT = 8001
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_MISSING = 'metrics need prometheus-client: pip install "hatchet-operator-sdk[metrics]"\n'


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """Where a worker stands.

    Attributes:
        name: The worker's.
        is_connected: Whether the operator can give it steps.
        is_stopping: It finishes what it has.
        slots: How many steps it may have at a time.
        running: Steps that run.
        unreported: Steps that have ended, and of which the operator has not confirmed the outcome.
    """

    name: str
    is_connected: bool
    is_stopping: bool
    slots: int
    running: int
    unreported: int


@dataclass(frozen=True, kw_only=True)
class HealthOptions:
    """Where to answer."""

    port: int = _DEFAULT_PORT
    bind_address: str = "0.0.0.0"  # noqa: S104  # a kubelet and a Prometheus come from elsewhere

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "HealthOptions | None":
        """Read HATCHET_CLIENT_WORKER_HEALTHCHECK_ENABLED, _PORT and _BIND_ADDRESS; None: nobody asks for it.

        Raises:
            NotConfigured: The port is none.
        """
        if environ.get(f"{_PREFIX}ENABLED", "").lower() not in ("true", "1", "t"):
            return None
        port = environ.get(f"{_PREFIX}PORT") or str(_DEFAULT_PORT)
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise NotConfigured(f"{_PREFIX}PORT is {port!r} (expected a port, 0 to 65535)")
        return cls(port=int(port), bind_address=environ.get(f"{_PREFIX}BIND_ADDRESS") or cls.bind_address)


class HealthServer:
    """Answers until it is closed.

    Args:
        options: Where.
        state: Returns where the worker stands; called in this server's threads.
        tally: What it has counted.

    Raises:
        NotConfigured: The port is taken.
    """

    def __init__(self, options: HealthOptions, state: Callable[[], WorkerState], tally: Tally) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content_type, text = _answer(self.path.partition("?")[0], state(), tally)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass  # a probe every few seconds is nothing to tell

        try:
            self._server = ThreadingHTTPServer((options.bind_address, options.port), Handler)
        except OSError as error:
            where = f"{options.bind_address}:{options.port}"
            raise NotConfigured(f"health and metrics can't be served at {where}: {error.strerror}") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="hatchet-health", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(path: str, state: WorkerState, tally: Tally) -> tuple[HTTPStatus, str, str]:
    match path:
        case "/health":
            fine = state.is_connected or state.is_stopping
            said = {
                "status": "healthy" if fine else "unhealthy",
                "name": state.name,
                "slots": state.slots,
                "running": state.running,
            }
            return HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", json.dumps(said)
        case "/metrics":
            text = _metrics(state, tally)
            return (HTTPStatus.OK, _TEXT, text) if text is not None else (HTTPStatus.NOT_IMPLEMENTED, _TEXT, _MISSING)
        case _:
            return HTTPStatus.NOT_FOUND, _TEXT, "expected /health or /metrics\n"


def _metrics(state: WorkerState, tally: Tally) -> str | None:
    """Return metrics as Prometheus reads them; None: its library is not installed."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    except ModuleNotFoundError:
        return None

    class Worker:
        def collect(self) -> Iterator[Metric]:
            for name, value, what in (
                ("connected", int(state.is_connected), "1: the operator can give it steps"),
                ("slots", state.slots, "Steps that it may have at a time"),
                ("running", state.running, "Steps that run"),
                ("unreported", state.unreported, "Steps that ended and whose outcome is not confirmed yet"),
            ):
                yield GaugeMetricFamily(f"hatchet_worker_{name}", what, value=value)
            started = CounterMetricFamily("hatchet_worker_attempts_started", "Attempts begun", labels=["action"])
            for action, count in list(tally.started.items()):
                started.add_metric([action], count)
            yield started
            ended = CounterMetricFamily(
                "hatchet_worker_attempts_ended", "Attempts that ended, and how", labels=["action", "outcome"]
            )
            for (action, how), count in list(tally.ended.items()):
                ended.add_metric([action, how], count)
            yield ended
            took = HistogramMetricFamily(
                "hatchet_worker_attempt_duration_seconds", "How long attempts took", labels=["action"]
            )
            for action, durations in list(tally.durations.items()):
                total, buckets = 0, []
                for bound, count in zip(BUCKETS, durations.counts, strict=True):
                    total += count
                    buckets.append(("+Inf" if bound == BUCKETS[-1] else str(bound), total))
                took.add_metric([action], buckets, sum_value=durations.sum)
            yield took

    registry = CollectorRegistry()
    registry.register(Worker())
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()
