"""One HTTP session to the API server, raw JSON in and out, errors as our own types.

Typed clients cost up to 1.5 ms of CPU a call, this 0.25; the API server's writes are the budget of everything, so
the number of writes under way is bounded here, and a 429 is waited out for as long as the server asked.
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import aiohttp
import orjson

from hatchet_operator.cluster.kinds import PODS, Resource
from hatchet_operator.cluster.ownership import Owner
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, Gone, NotFound, Refused, Transient
from hatchet_operator.resources.nesting import read_json

Json = dict[str, Any]
Params = Mapping[str, str]
T = TypeVar("T")
P = ParamSpec("P")

_FIRST_PAGE = 50  # objects; of 1 MiB each at most, but nobody knows yet
_LARGEST_PAGE, _SMALLEST_PAGE = 500, 10
_PAGE_BYTES = (
    500_000  # about: parsing them takes some 3 ms, in which nothing else is done, and ten times as much memory
)
_PAGE_TRIES = 4
_LIST_TRIES = 3
_ANSWER_SECONDS = 30.0
_TOO_LARGE = ("request is too large", "message larger than max")  # etcd's own words, above 1.5 and above 2 MiB


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the API server is, and how to prove who we are.

    Attributes:
        server: Base URL, as in "https://10.0.0.1:443".
        token: Bearer token.
        token_file: File with a bearer token that is rotated; read again once a minute.
        ssl_context: For https.
        namespace: The namespace that the kubeconfig or the Pod names.
        account: The ServiceAccount that we act as there, as the owner of objects; None: we are no Pod.
    """

    server: str
    token: str | None = None
    token_file: Path | None = None
    ssl_context: ssl.SSLContext | None = None
    namespace: str = "default"
    account: Owner | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a list, and the resourceVersion of all of it. Whoever takes the items out frees their memory."""

    items: list[Json]
    version: str


def always() -> bool:
    """Whether somebody may write who shares it with nobody: everybody but a leader, who may be deposed."""
    return True


class Api:
    """The API server, for this process.

    Args:
        endpoint: Where it is.
        may_write: Asked right before each write; while it says no, nothing is sent and the write fails as Transient.
        user_agent: Who we say that we are.
        max_writes: How many writes may be under way at a time.
        on_no_answer: Told of each error after which `until_answered` tries again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        may_write: Callable[[], bool],
        user_agent: str = "hatchet-operator",
        max_writes: int = 32,
        on_no_answer: Callable[[ApiError], None] = lambda error: None,
    ) -> None:
        self.endpoint = endpoint
        self.writes: Counter[tuple[str, str]] = Counter()
        self._user_agent = user_agent
        self._may_write = may_write
        self._on_no_answer = on_no_answer
        self._writing = asyncio.Semaphore(max_writes)
        self._session: aiohttp.ClientSession | None = None
        self._token = endpoint.token
        self._token_read_at = float("-inf")

    async def start(self) -> None:
        ssl_context = self.endpoint.ssl_context
        self._session = aiohttp.ClientSession(
            base_url=self.endpoint.server.rstrip("/"),
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=60, ssl=ssl_context if ssl_context is not None else True
            ),
            headers={"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=5),
            trust_env=False,
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

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
        """Read all objects of one consistent snapshot; of what there may be many of, use `list_pages`.

        Returns:
            The objects and the resourceVersion from which a watch misses nothing.

        Raises:
            Gone: The snapshot was forgotten before all of it was read, time and again.
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
                continue  # from the beginning: what is left of another snapshot would not fit to what we have
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
            Gone: The snapshot was forgotten before all of it was read. The server offers to go on in the present, but
                what changed in pages that were read already would be missed; so the list has to begin anew.
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

    async def _read_page(self, path: str, params: Params) -> bytes:
        """Read a page, again if there was no answer: to begin anew for each of a hundred requests might never end."""
        tries = 1
        while True:
            try:
                return await self._fetch("GET", path, params=params)
            except Transient as error:
                if tries == _PAGE_TRIES or "continue" not in params:
                    raise
                await asyncio.sleep(error.retry_after or back_off(tries, longest_seconds=1))
                tries += 1

    async def list_one(self, resource: Resource, namespace: str | None = None) -> list[Json]:
        """Read at most one object, which shows that the server knows the kind however many there are."""
        page = await self._request("GET", resource.path(namespace), params={"limit": "1"})
        items: list[Json] = page["items"]
        return items

    async def document(self, path: str) -> Json:
        """Read what is no object: discovery, or OpenAPI."""
        return await self._request("GET", path)

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        """Create an object; ``strict``: unless it has fields that its kind lacks, which else are dropped in silence."""
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
    ) -> AsyncIterator[tuple[str, Json]]:
        """Yield (type, object) until the server closes the stream; BOOKMARK events are yielded too.

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
            async with self._open("GET", resource.path(namespace), params=params, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    raise _error(response.status, await response.read(), response.headers)
                rest = b""
                # not readline(): it refuses lines over its buffer's limit, and objects may be larger
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if not line:
                            continue
                        event = read_json(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise _error(status.get("code", 500), line, {}, message=status.get("message", ""))
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
            follow: Also those to come, until the container ends.
            previous: Of the container before its last restart.
        """
        path = PODS.path(namespace, pod, "log")
        params = {"timestamps": "true"} | ({"container": container} if container else {})
        params |= {name: "true" for name, wanted in (("follow", follow), ("previous", previous)) if wanted}
        timeout = aiohttp.ClientTimeout(total=None, connect=5)
        try:
            async with self._open("GET", path, params=params, timeout=timeout) as response:
                if response.status != HTTPStatus.OK:
                    raise _error(response.status, await response.read(), response.headers)
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

        As in ``await api.until_answered(api.get, RUNS, namespace, name)``.
        """
        failures = 0
        while True:
            try:
                return await call(*args, **kwargs)
            except Transient as error:
                self._on_no_answer(error)
                failures += 1
                await asyncio.sleep(back_off(failures, longest_seconds=5))

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
                    raise Transient(f"{method} {path}: not sent, this operator does not lead any more")
                self.writes[method, path.rsplit("/", 1)[-1] if path.endswith("/status") else resource.plural] += 1
                try:
                    return await self._request(method, path, params=params, data=data, content_type=content_type)
                except Transient as error:
                    if error.status != HTTPStatus.TOO_MANY_REQUESTS or not error.retry_after:
                        raise
                    await asyncio.sleep(error.retry_after)  # the server says that it did nothing, and when to come

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> Json:
        answer = await self._fetch(method, path, params=params, data=data, content_type=content_type)
        try:
            result: Json = read_json(answer)
        except orjson.JSONDecodeError as error:
            raise Transient(f"{method} {self.endpoint.server}{path}: {error!r}") from error
        return result

    async def _fetch(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        try:
            async with self._open(method, path, params=params, data=data, content_type=content_type) as response:
                answer = await response.read()
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _error(response.status, answer, response.headers)
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(f"{method} {self.endpoint.server}{path}: {error!r}") from error

    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,  # aiohttp's own, not ours
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            raise RuntimeError("Api is used before start()")
        headers = {"Content-Type": content_type} if data is not None else {}
        if token := self._current_token():
            headers["Authorization"] = f"Bearer {token}"
        return self._session.request(
            method, path, params=params, data=data, headers=headers, timeout=timeout or self._session.timeout
        )

    def _current_token(self) -> str | None:
        if self.endpoint.token_file is None:
            return self._token
        now = asyncio.get_running_loop().time()
        if now - self._token_read_at > 60:
            self._token, self._token_read_at = self.endpoint.token_file.read_text().strip(), now
        return self._token


def back_off(failures: int, *, longest_seconds: float) -> float:
    """Return how long to wait: twice as long after each failure, with jitter, so that not all come back at once."""
    # 0.05 * 2**10 is longer than any limit; without a bound, a day of failures would be too large for a float
    return min(0.05 * 2.0 ** min(failures, 10), longest_seconds) * random.uniform(0.5, 1)  # noqa: S311  # jitter


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in selectors.items() if value}


def _error(status: int, answer: bytes, headers: Mapping[str, str], *, message: str = "") -> ApiError:
    """Turn a Status answer into the error that says what may be done about it."""
    reason, causes = "", frozenset[str]()
    if not message:
        try:
            body = orjson.loads(answer)
            message, reason = body.get("message", ""), body.get("reason", "")
            causes = frozenset(cause.get("reason", "") for cause in (body.get("details") or {}).get("causes") or [])
        except orjson.JSONDecodeError:
            message = answer[:500].decode("utf-8", "replace")
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(message, status=status)
        case HTTPStatus.CONFLICT if reason == "AlreadyExists":
            return AlreadyExists(message, status=status)
        case HTTPStatus.CONFLICT:
            return Conflict(message, status=status)
        case HTTPStatus.GONE:
            return Gone(message, status=status)
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.UNAUTHORIZED | HTTPStatus.REQUEST_TIMEOUT:
            # 401: a token that was rotated this minute; the next try reads it anew
            after = headers.get("Retry-After", "")
            return Transient(message, status=status, retry_after=float(after) if after.isdigit() else None)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # etcd's limits come as 500s; repeating these would go on for ever
            kind = Refused if any(text in message for text in _TOO_LARGE) else Transient
            return kind(message, status=status)
        case _:
            return Refused(message, status=status, causes=causes)
