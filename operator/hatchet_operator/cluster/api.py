"""The API server over HTTP, raw JSON in and out, errors as our own types.

The API server's capacity for writes limits everything else, so the number of writes in flight is bounded here, and
after a 429 we wait for as long as the server asked.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import aiohttp
import orjson

from hatchet_operator.backoff import NO_ANSWER, NO_PAGE
from hatchet_operator.cluster.api_errors import error_of
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import PODS, Resource
from hatchet_operator.cluster.transport import OnAnswer, Params, Transport
from hatchet_operator.cluster.watch_lines import version_in
from hatchet_operator.errors import ApiError, Gone, Transient
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.nesting import read_json

T = TypeVar("T")
P = ParamSpec("P")
_FIRST_PAGE = 50  # objects; their size, at most 1 MiB each, is not known yet
_LARGEST_PAGE, _SMALLEST_PAGE = 500, 10
# Roughly: parsing them takes about 3 ms, in which nothing else runs, and ten times as much memory.
_PAGE_BYTES = 500_000
_PAGE_TRIES = 4
_LIST_TRIES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a list, and the resourceVersion of all of it. Taking the items out frees their memory."""

    items: list[Json]
    version: str


def always() -> bool:
    """Always allow writes: for processes without an election; only a leader may be deposed."""
    return True


class Api:
    """The API server, for this process.

    Args:
        endpoint: Where it is.
        may_write: Checked right before each write; while False, nothing is sent and the write fails as Transient.
        user_agent: How we identify ourselves.
        max_writes: How many writes may be in flight at a time.
        writing: The same, shared with others; None: these are ours alone.
        on_answer: Called after each request except watches: method, kind with its subresource, status (0: there was no
            answer), and how many seconds it took.
        on_no_answer: Called after each error after which `until_answered` tries again.
        transport: What sends the requests; None: connections to the endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        may_write: Callable[[], bool],
        user_agent: str = "hatchet-operator",
        max_writes: int = 32,
        writing: asyncio.Semaphore | None = None,
        on_answer: OnAnswer = lambda method, kind, status, seconds: None,
        on_no_answer: Callable[[ApiError], None] = lambda error: None,
        transport: Transport | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.writes: Counter[tuple[str, str]] = Counter()
        self._may_write = may_write
        self._on_no_answer = on_no_answer
        self._writing = writing or asyncio.Semaphore(max_writes)
        self._transport = transport or Transport(endpoint, user_agent=user_agent, on_answer=on_answer)

    async def start(self) -> None:
        await self._transport.start()

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._request("GET", resource.path(namespace, name))

    async def list_all(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[list[Json], str]:
        """Read all objects of one consistent snapshot; if there may be many, use `list_pages`.

        Returns:
            The objects and the resourceVersion from which a watch misses nothing.

        Raises:
            Gone: The snapshot expired before all of it was read, repeatedly.
        """
        tries = 0
        while True:
            items: list[Json] = []
            version = ""
            try:
                async for page in self.list_pages(
                    resource, namespace, label_selector=label_selector, field_selector=field_selector
                ):
                    items += page.items
                    version = page.version
            except Gone:
                tries += 1
                if tries == _LIST_TRIES:
                    raise
                continue  # from the beginning: the rest of another snapshot would not match what we have
            return items, version

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncIterator[Page]:
        """Yield all objects of one consistent snapshot, about half a megabyte at a time however large they are.

        Raises:
            Gone: The snapshot expired before all of it was read. The server offers to continue in the present, but
                changes in pages that were read already would be missed; so the list has to start again.
        """
        params = _selectors(label_selector, field_selector) | {"limit": str(_FIRST_PAGE)}
        while True:
            text = await self._read_page(resource.path(namespace), params)
            page = read_json(text)
            size, count = len(text), len(page["items"])
            del text
            token = page["metadata"].get("continue")
            yield Page(items=page.pop("items"), version=page["metadata"]["resourceVersion"])
            if not token:
                return
            fitting = _PAGE_BYTES * max(count, 1) // size
            params |= {"continue": token, "limit": str(min(max(fitting, _SMALLEST_PAGE), _LARGEST_PAGE))}

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        limit: int,
        token: str = "",
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> tuple[list[Json], str]:
        """Read one page; return its objects and the token of the next one, "" if there is none.

        Raises:
            Gone: The token's snapshot expired.
        """
        params = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        if token:
            params["continue"] = token
        page = read_json(await self._read_page(resource.path(namespace), params))
        return page["items"], page["metadata"].get("continue") or ""

    async def _read_page(self, path: str, params: Params) -> bytes:
        """Read a page, and retry if there was no answer: restarting the whole list each time might never end."""
        tries = 1
        while True:
            try:
                return await self._transport.fetch("GET", path, params=params)
            except Transient as error:
                if tries == _PAGE_TRIES or "continue" not in params:
                    raise
                await asyncio.sleep(error.retry_after or NO_PAGE.jittered_after(tries))
                tries += 1

    async def list_one(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Read at most one object, which shows that the server knows the kind however many there are."""
        page = await self._request("GET", resource.path(namespace), params={"limit": "1"})
        items: list[Json] = page["items"]
        return items

    async def document(self, path: str) -> Json:
        """Read a document that is not an object: discovery, or OpenAPI."""
        return await self._request("GET", path)

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        """Create an object; ``strict``: refuse fields that its kind lacks, which are otherwise silently dropped."""
        params = {"fieldValidation": "Strict"} if strict else None
        return await self._write("POST", resource, resource.path(namespace), body, params=params)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Json, *, subresource: str | None = None
    ) -> Json:
        return await self._write("PUT", resource, resource.path(namespace, name, subresource), body)

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, body: Json, *, subresource: str | None = None
    ) -> Json:
        """Apply a JSON merge patch (RFC 7386)."""
        path = resource.path(namespace, name, subresource)
        return await self._write("PATCH", resource, path, body, content_type="application/merge-patch+json")

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str = "Background",
    ) -> None:
        """Delete an object.

        Args:
            resource: Its kind.
            namespace: Its namespace; None: it has none.
            name: Its name.
            uid: Delete it only if this is its UID.
            resource_version: Delete it only if this is its version.
            grace_seconds: How long a Pod may take to end; None: as long as it says itself.
            propagation: What becomes of what it owns: Background, Foreground or Orphan.

        Raises:
            NotFound: It is gone already.
            Conflict: Its UID or version is another.
        """
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if given := {name: value for name, value in preconditions.items() if value is not None}:
            body["preconditions"] = given
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        await self._write("DELETE", resource, resource.path(namespace, name), body)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: int = 300,
        silence_seconds: float = 75,
        is_known: Callable[[int], bool] | None = None,
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield (type, object) until the server closes the stream; BOOKMARK events are yielded too.

        Args:
            resource: The kind.
            namespace: Only this one; None: all.
            resource_version: What the caller knows.
            label_selector: Only objects with these labels.
            field_selector: Only objects with these fields.
            timeout_seconds: When the server is asked to close it.
            silence_seconds: How long it may be silent.
            is_known: Whether the caller knows what an object was when it had this resourceVersion; an event that says
                just this is yielded as a BOOKMARK, without being parsed. See `version_in`.

        Raises:
            Gone: The resourceVersion is too old.
            Transient: The connection broke, or was silent for longer than bookmarks take to come.
        """
        params = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_read=silence_seconds)
        try:
            async with self._transport.open(resource.path(namespace), params=params, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    raise error_of(response.status, await response.read(), response.headers.get("Retry-After", ""))
                rest = b""
                # not readline(): it refuses lines over its buffer's limit, and objects may be larger
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if not line:
                            continue
                        if is_known and (version := version_in(line)) is not None and is_known(version):
                            yield "BOOKMARK", {"metadata": {"resourceVersion": str(version)}}
                            continue
                        event = read_json(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise error_of(status.get("code", 500), line, message=status.get("message", ""))
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Transient(f"watch of {resource.plural}: {error!r}") from error

    async def log_lines(
        self, namespace: str, pod: str, *, container: str | None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[str]:
        """Yield the lines of a container's log, each with its time before it.

        Args:
            namespace: The pod's.
            pod: Its name.
            container: Its container; None: its only one.
            follow: Also future lines, until the container ends.
            previous: Read the log of the container before its last restart.
        """
        path = PODS.path(namespace, pod, "log")
        params = {"timestamps": "true"} | ({"container": container} if container else {})
        params |= {name: "true" for name, wanted in (("follow", follow), ("previous", previous)) if wanted}
        timeout = aiohttp.ClientTimeout(total=None, connect=5)
        try:
            async with self._transport.open(path, params=params, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    raise error_of(response.status, await response.read(), response.headers.get("Retry-After", ""))
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line.decode("utf-8", "replace")
                if rest:
                    yield rest.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"log of pod {pod}: {error!r}") from error

    async def until_answered(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Repeat a call that is safe to repeat until the server gives a definite answer.

        For example: ``await api.until_answered(api.get, RUNS, namespace, name)``.
        """
        failures = 0
        while True:
            try:
                return await call(*args, **kwargs)
            except Transient as error:
                self._on_no_answer(error)
                failures += 1
                await asyncio.sleep(NO_ANSWER.jittered_after(failures))

    async def _write(
        self,
        method: str,
        resource: Resource,
        path: str,
        body: Json,
        *,
        params: Params | None = None,
        content_type: str = "application/json",
    ) -> Json:
        data = orjson.dumps(body)
        async with self._writing:
            while True:
                if not self._may_write():
                    raise Transient(f"{method} {path}: not sent, this operator is no longer the leader")
                self.writes[method, path.rsplit("/", 1)[-1] if path.endswith("/status") else resource.plural] += 1
                try:
                    return await self._request(method, path, params=params, data=data, content_type=content_type)
                except Transient as error:
                    if error.status != HTTPStatus.TOO_MANY_REQUESTS or not error.retry_after:
                        raise
                    await asyncio.sleep(error.retry_after)  # the server says that it did nothing, and when to retry

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> Json:
        answer = await self._transport.fetch(method, path, params=params, data=data, content_type=content_type)
        try:
            result: Json = read_json(answer)
        except orjson.JSONDecodeError as error:
            raise Transient(f"{method} {self.endpoint.server}{path}: {error!r}") from error
        return result


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in selectors.items() if value}
