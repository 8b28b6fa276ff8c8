"""The API servers to measure against, and what each counts of the writes that it answered."""

import json
import urllib.request
from collections import Counter
from enum import StrEnum
from typing import Protocol, Self

from tests.kube.embedded_api import EmbeddedApi
from tests.kube.real_api import ApiEndpoint, RealApi


class ApiKind(StrEnum):
    """Which API server."""

    EMBEDDED = "embedded"
    REAL = "real"


WriteCounts = Counter[str]
"""Writes of all clients since the server's start, by "create workflowruns", "update workflowruns/status" and so on."""


class CountingApi(Protocol):
    """An API server in processes of its own."""

    @property
    def endpoint(self) -> ApiEndpoint: ...
    @property
    def pids(self) -> dict[str, int]: ...
    def write_counts(self) -> WriteCounts: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class _Embedded(EmbeddedApi):
    def write_counts(self) -> WriteCounts:
        request = urllib.request.Request(self.url + "/_stats", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10, context=self.endpoint.ssl_context()) as response:
            requests = json.load(response)["requests"]
        counts: WriteCounts = Counter()
        for line in requests:
            if line["verb"] not in ("get", "list", "watch"):
                counts[_write(line["verb"], line["resource"], line["subresource"])] += line["count"]
        return counts


_VERBS = {
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "APPLY": "patch",
    "DELETE": "delete",
    "DELETECOLLECTION": "deletecollection",
}


class _Real(RealApi):
    def write_counts(self) -> WriteCounts:
        counts: WriteCounts = Counter()
        for kind, count in self.request_counts().items():
            if verb := _VERBS.get(kind.verb):
                counts[_write(verb, kind.resource, kind.subresource)] += count
        return counts


def make_api(kind: ApiKind) -> CountingApi:
    """Return the API server, not started yet. The real etcd waits for its disk, as in a cluster."""
    return _Real() if kind is ApiKind.REAL else _Embedded()


def _write(verb: str, resource: str, subresource: str) -> str:
    return f"{verb} {resource}/{subresource}" if subresource else f"{verb} {resource}"
