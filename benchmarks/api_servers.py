"""The API servers to measure against, and what each counts of the requests that it answered."""

import json
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from tests.kube.embedded_api import EmbeddedApi
from tests.kube.real_api import ApiEndpoint, RealApi, RequestKind, count_requests


class ApiKind(StrEnum):
    """Which API server."""

    EMBEDDED = "embedded"
    REAL = "real"


RequestCounts = Counter[str]
"""Requests of all clients since the server's start, by "create workflowruns", "update workflowruns/status" …"""

READS = ("get", "list", "watch", "connect")


@dataclass(frozen=True, kw_only=True)
class ApiCounts:
    """What an API server has done since its start.

    Attributes:
        requests: Of all clients.
        allocated_bytes: In its heap; None: it does not say.
        etcd_bytes: Written to etcd's log; None: nobody says.
    """

    requests: RequestCounts
    allocated_bytes: float | None = None
    etcd_bytes: float | None = None


class CountingApi(Protocol):
    """An API server in processes of its own."""

    @property
    def endpoint(self) -> ApiEndpoint: ...
    @property
    def pids(self) -> dict[str, int]: ...
    def counts(self) -> ApiCounts: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class _Embedded(EmbeddedApi):
    def counts(self) -> ApiCounts:
        request = urllib.request.Request(self.url + "/_stats", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10, context=self.endpoint.ssl_context()) as response:
            lines = json.load(response)["requests"]
        counts: RequestCounts = Counter()
        for line in lines:
            counts[_request(line["verb"], line["resource"], line["subresource"])] += line["count"]
        return ApiCounts(requests=counts)


class _Real(RealApi):
    def counts(self) -> ApiCounts:
        etcd = read_gauge(self.etcd_metrics(), "etcd_disk_wal_write_bytes_total")
        return read_counts(self.metrics(), etcd_bytes=etcd)


def read_counts(metrics: str, *, etcd_bytes: float | None = None) -> ApiCounts:
    """Read kube-apiserver's ``/metrics``."""
    return ApiCounts(
        requests=by_name(count_requests(metrics)),
        allocated_bytes=read_gauge(metrics, "go_memstats_alloc_bytes_total"),
        etcd_bytes=etcd_bytes,
    )


def read_gauge(metrics: str, name: str) -> float | None:
    """Return the value of a metric without labels; None if it is not there."""
    values = (line.split()[1] for line in metrics.splitlines() if line.startswith(f"{name} "))
    return next(map(float, values), None)


def make_api(kind: ApiKind) -> CountingApi:
    """Return the API server, not started yet. The real etcd waits for its disk, as in a cluster."""
    return _Real() if kind is ApiKind.REAL else _Embedded()


_VERBS = {"POST": "create", "PUT": "update", "APPLY": "patch"}
"""The verbs of ``apiserver_request_total`` that RBAC calls otherwise."""


def by_name(counted: Mapping[RequestKind, int]) -> RequestCounts:
    """Name what kube-apiserver counted as RBAC does, "create pods", whatever came of it."""
    counts: RequestCounts = Counter()
    for kind, count in counted.items():
        counts[_request(_VERBS.get(kind.verb, kind.verb.lower()), kind.resource, kind.subresource)] += count
    return counts


def _request(verb: str, resource: str, subresource: str) -> str:
    return f"{verb} {resource}/{subresource}" if subresource else f"{verb} {resource}"
