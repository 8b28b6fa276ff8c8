"""What scenarios run on: processes of this machine, or a cluster; and what is spent there."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from benchmarks.api_servers import READS, ApiCounts
from benchmarks.machine import busy_seconds, cpu_seconds
from hatchet_operator.cluster.api import Api


class BenchmarkFailed(Exception):
    """Something ended, failed or did not get ready; the message ends with logs."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What processes have used until a moment.

    Attributes:
        cpu_seconds: By component; the benchmark itself is "client".
        at: The moment, of the monotonic clock.
        busy_seconds: CPU time of the whole machine.
    """

    cpu_seconds: Mapping[str, float]
    at: float = field(default_factory=time.monotonic)
    busy_seconds: float = field(default_factory=busy_seconds)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted until a moment.

    Attributes:
        api: What the API server did.
        grpc_messages: That the operator received and sent; None: nobody counts them.
        operator_bytes: The leading operator's resident memory.
    """

    api: ApiCounts
    grpc_messages: float | None
    operator_bytes: int


@dataclass(frozen=True, kw_only=True)
class Worked:
    """What processes used between two moments.

    Attributes:
        seconds: Between them.
        cpu_seconds: By component.
        cores: That all of them had together.
        foreign_cores: That others on this machine had: so a disturbed measurement shows itself.
    """

    seconds: float
    cpu_seconds: dict[str, float]
    cores: float
    foreign_cores: float


def worked(before: Load, after: Load) -> Worked:
    """Return what was used between two moments."""
    seconds = after.at - before.at
    cpu = dict(after.cpu_seconds)
    for name, used in before.cpu_seconds.items():
        if used <= cpu.get(name, 0.0):  # otherwise it was restarted, and all that it used is of now
            cpu[name] -= used
    cores = sum(cpu.values()) / seconds
    busy = (after.busy_seconds - before.busy_seconds) / seconds
    return Worked(seconds=seconds, cpu_seconds=cpu, cores=cores, foreign_cores=max(0.0, busy - cores))


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was counted between two moments.

    Attributes:
        requests: To the API server, by verb and resource.
        api_bytes: Allocated by the API server.
        etcd_bytes: Written by etcd.
        grpc_messages: Of the operator.
    """

    requests: dict[str, int]
    api_bytes: float | None
    etcd_bytes: float | None
    grpc_messages: float | None

    @property
    def writes(self) -> int:
        return sum(count for request, count in self.requests.items() if not request.startswith(READS))


def spent(before: Counts, after: Counts) -> Spent:
    """Return what was counted between two moments."""
    return Spent(
        requests=dict(after.api.requests - before.api.requests),
        api_bytes=_difference(before.api.allocated_bytes, after.api.allocated_bytes),
        etcd_bytes=_difference(before.api.etcd_bytes, after.api.etcd_bytes),
        grpc_messages=_difference(before.grpc_messages, after.grpc_messages),
    )


def _difference(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return after - before if after >= before else after  # otherwise what counts was restarted


def own_cpu_seconds() -> float:
    """Return what the benchmark itself has used."""
    return cpu_seconds(psutil.Process(os.getpid()))


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

    def load(self) -> Load: ...

    def counts(self) -> Counts:
        """Count; this takes requests too, so it stands outside of what is measured."""
