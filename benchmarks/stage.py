"""What a fan-out is measured on: processes of this machine, or a cluster."""

from dataclasses import dataclass
from typing import Protocol

from benchmarks.api_servers import RequestCounts
from hatchet_operator.cluster.api import Api


class BenchmarkFailed(Exception):
    """Something ended, failed or did not get ready; the message ends with logs."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the components have used until a moment.

    Attributes:
        cpu_seconds: By component.
        operator_bytes: The leading operator's resident memory.
    """

    cpu_seconds: dict[str, float]
    operator_bytes: int


class Stage(Protocol):
    """All that runs: an API server, the operator and workers of `worker.py`.

    Attributes:
        api: An administrator's way to the API server.
        namespace: Where the workers are.
    """

    api: Api
    namespace: str

    def check_alive(self) -> None:
        """Raise BenchmarkFailed if a part that must run has ended."""

    def logs(self) -> str: ...

    def usage(self) -> Usage: ...

    def api_cpu_seconds(self) -> dict[str, float]:
        """What the API server's components have used; empty where only looking would cost more than a request."""

    def requests(self) -> RequestCounts:
        """Requests of all clients since the API server's start."""
