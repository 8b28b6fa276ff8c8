"""A small client that speaks raw JSON to any Kubernetes API server and hides nothing of the answers.

Tests of an API server want to see status codes and bodies, so a call returns an `Answer` whatever came back;
`Answer.ok` and `Answer.refused` say what the test expects of it.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from tests.kube.real_api import ApiEndpoint

Json = dict[str, Any]
Params = Mapping[str, str | int]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

EVENT_SECONDS = 60.0  # an event that takes longer will not come


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A resource as the URL names it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        root = "/apis" if "/" in self.api_version else "/api"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        rest = "".join(f"/{part}" for part in (self.plural, name, subresource) if part)
        return f"{root}/{self.api_version}{scope}{rest}"

    def make(self, name: str = "", /, **fields: Any) -> Json:
        """Return an object of this kind; ``metadata`` among the fields is merged with the name."""
        metadata = {"name": name} if name else {}
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            **fields,
            "metadata": metadata | fields.get("metadata", {}),
        }


NAMESPACES = Kind(api_version="v1", kind="Namespace", plural="namespaces", namespaced=False)
PODS = Kind(api_version="v1", kind="Pod", plural="pods")
CONFIG_MAPS = Kind(api_version="v1", kind="ConfigMap", plural="configmaps")
SECRETS = Kind(api_version="v1", kind="Secret", plural="secrets")
SERVICE_ACCOUNTS = Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts")
CORE_EVENTS = Kind(api_version="v1", kind="Event", plural="events")
EVENTS = Kind(api_version="events.k8s.io/v1", kind="Event", plural="events")
LEASES = Kind(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")
REVISIONS = Kind(api_version="apps/v1", kind="ControllerRevision", plural="controllerrevisions")
TOKEN_REVIEWS = Kind(
    api_version="authentication.k8s.io/v1", kind="TokenReview", plural="tokenreviews", namespaced=False
)
ACCESS_REVIEWS = Kind(
    api_version="authorization.k8s.io/v1", kind="LocalSubjectAccessReview", plural="localsubjectaccessreviews"
)
CRDS = Kind(
    api_version="apiextensions.k8s.io/v1",
    kind="CustomResourceDefinition",
    plural="customresourcedefinitions",
    namespaced=False,
)


def _dump(body: Any) -> bytes:
    """Write JSON as the server would: it compares some fields (the data of a ControllerRevision) byte by byte."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    body: Json
    headers: Mapping[str, str]

    def ok(self, status: int | None = None) -> Json:
        """Return the body of a success."""
        assert self.status == status if status else 200 <= self.status < 300, f"{self.status}: {self.body}"
        return self.body

    def refused(self, status: int, reason: str) -> Json:
        """Return the Status object of a refusal with this code and reason."""
        assert (self.status, self.body.get("reason")) == (status, reason), f"{self.status}: {self.body}"
        assert self.body["kind"] == "Status"
        assert self.body["apiVersion"] == "v1"
        assert self.body["status"] == "Failure"
        assert self.body["code"] == status
        return self.body


@dataclass(frozen=True)
class WatchEvent:
    """One line of a watch."""

    type: str
    object: Json

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])


class Watch:
    """An open watch; iterate over it, or take events one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> WatchEvent:
        """Return the next event.

        Raises:
            EOFError: The server ended the watch.
            TimeoutError: Nothing came within `EVENT_SECONDS`.
        """
        async with asyncio.timeout(EVENT_SECONDS):
            line = await self._response.content.readline()
        if not line:
            raise EOFError
        event = json.loads(line)
        return WatchEvent(event["type"], event["object"])

    async def take(self, count: int) -> list[tuple[str, str]]:
        """Return the type and the object's name of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event.type, event.name) for event in events]

    async def until(self, event_type: str) -> WatchEvent:
        """Return the next event of this type; what comes before it is passed over."""
        while (event := await self.next()).type != event_type:
            pass
        return event

    async def rest(self) -> list[WatchEvent]:
        """Return what comes until the server ends the watch."""
        events = []
        while True:
            try:
                events.append(await self.next())
            except EOFError:
                return events


class Api:
    """An administrator of one API server, in one namespace."""

    def __init__(self, endpoint: ApiEndpoint, session: aiohttp.ClientSession, namespace: str) -> None:
        self.endpoint = endpoint
        self.namespace = namespace
        self._session = session

    def within(self, namespace: str) -> Api:
        """Return the same administrator in another namespace; "" means in all of them."""
        return Api(self.endpoint, self._session, namespace)

    @classmethod
    @asynccontextmanager
    async def connect(cls, endpoint: ApiEndpoint, namespace: str) -> AsyncIterator[Self]:
        connector = aiohttp.TCPConnector(ssl=endpoint.ssl_context() or True)
        async with aiohttp.ClientSession(
            endpoint.url,
            connector=connector,
            headers={"Authorization": f"Bearer {endpoint.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120),
            read_bufsize=2**22,  # a watch event is one line, and readline() takes no longer ones
        ) as session:
            yield cls(endpoint, session, namespace)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Params | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = None if body is None else io.BytesIO(_dump(body))
        all_headers = (
            {"Accept": accept} | ({"Content-Type": content_type} if data is not None else {}) | dict(headers or {})
        )
        async with self._session.request(method, path, data=data, params=params, headers=all_headers) as response:
            text = await response.text()
            try:
                answer = json.loads(text)
            except json.JSONDecodeError:
                answer = {"text": text}
            return Answer(response.status, answer, response.headers)

    async def create(self, kind: Kind, body: Json, **params: str | int) -> Answer:
        return await self.call("POST", kind.path(self.namespace), body, params=params)

    async def post(self, kind: Kind, name: str, subresource: str, body: Json) -> Answer:
        return await self.call("POST", kind.path(self.namespace, name, subresource), body)

    async def get(self, kind: Kind, name: str, subresource: str = "", *, accept: str = "application/json") -> Answer:
        return await self.call("GET", kind.path(self.namespace, name, subresource), accept=accept)

    async def list_all(self, kind: Kind, *, accept: str = "application/json", **params: str | int) -> Answer:
        return await self.call("GET", kind.path(self.namespace), params=params, accept=accept)

    async def put(self, kind: Kind, body: Json, subresource: str = "", *, name: str = "") -> Answer:
        path = kind.path(self.namespace, name or body["metadata"]["name"], subresource)
        return await self.call("PUT", path, body)

    async def merge_patch(self, kind: Kind, name: str, patch: Json, subresource: str = "") -> Answer:
        path = kind.path(self.namespace, name, subresource)
        return await self.call("PATCH", path, patch, content_type=MERGE_PATCH)

    async def json_patch(self, kind: Kind, name: str, patch: list[Json], subresource: str = "") -> Answer:
        path = kind.path(self.namespace, name, subresource)
        return await self.call("PATCH", path, patch, content_type=JSON_PATCH)

    async def strategic_patch(self, kind: Kind, name: str, patch: Json, subresource: str = "") -> Answer:
        path = kind.path(self.namespace, name, subresource)
        return await self.call("PATCH", path, patch, content_type=STRATEGIC_PATCH)

    async def delete(self, kind: Kind, name: str, options: Json | None = None, **params: str | int) -> Answer:
        return await self.call("DELETE", kind.path(self.namespace, name), options, params=params)

    async def exists(self, kind: Kind, name: str) -> bool:
        answer = await self.get(kind, name)
        if answer.status != 404:
            answer.ok()
        return answer.status != 404

    async def names(self, kind: Kind, **params: str | int) -> list[str]:
        body = (await self.call("GET", kind.path(self.namespace), params=params)).ok()
        return [item["metadata"]["name"] for item in body["items"]]

    @asynccontextmanager
    async def watch(self, kind: Kind, *, accept: str = "application/json", **params: str | int) -> AsyncIterator[Watch]:
        """Open a watch that the server accepts; for one that it refuses see `list_all` with ``watch="true"``."""
        async with self._session.get(
            kind.path(self.namespace),
            params={"watch": "true", **params},
            headers={"Accept": accept},
        ) as response:
            assert response.status == 200, f"{response.status}: {await response.text()}"
            try:
                yield Watch(response)
            finally:
                # Closed in mid-body, a TLS connection lingers until its goodbye is answered: beyond the loop's end.
                if response.connection and response.connection.transport:
                    response.connection.transport.abort()
