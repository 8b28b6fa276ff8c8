"""What kopf calls: the operator's life, and the kinds that people edit.

kopf watches Workflows and WorkerPools, at a low rate; runs and pods have an informer of their own (a kopf event costs
0.3 to 0.7 ms, ours 0.025). The handlers are level-triggered and write nothing through kopf: no annotation, no
finalizer. kopf's relist after a 410 does not tell what was deleted, but it marks listed objects with no event type;
a moment after the last of these, what is known is compared with what is there.

kopf's own liveness endpoint says nothing about its watches (it calls handlers of ours, while a watch may be dead), and
bookmarks reach no handler. But its requests pass through our session, and a watch that the server is asked to end after
a minute is asked for again: a kind that kopf has not asked for lately is one that it does not watch any more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any, cast

import aiohttp
import kopf

from hatchet_operator.cluster.api import Endpoint
from hatchet_operator.cluster.kinds import POOLS, WORKFLOWS
from hatchet_operator.engine.engine import Engine
from hatchet_operator.resources.base import GROUP, VERSION
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.nesting import shallow

_ABSENT_SECONDS = 2.0  # between two looks whether a kind is there again
_WATCH_SECONDS = 55  # kopf itself leaves a watch that says nothing for 70 s


class KopfWatches:
    """When kopf last asked for the objects of each kind that it watches, in the loop's time; empty before its start.

    Args:
        on_absence: Called when the server does not know one of these kinds, or not any more.
    """

    def __init__(self, on_absence: Callable[[], None]) -> None:
        self._on_absence = on_absence
        self.asked_at: dict[str, float] = {}

    def begin(self) -> None:
        """Kopf is being started, which gives it as long as a watch has to ask for the first time."""
        now = asyncio.get_running_loop().time()
        self.asked_at = {WORKFLOWS.plural: now, POOLS.plural: now}

    def note(self, path: str) -> None:
        """Kopf asks for this path."""
        plural = path.rpartition("/")[2]
        if plural in self.asked_at:
            self.asked_at[plural] = asyncio.get_running_loop().time()

    def is_absent(self, path: str, status: int) -> bool:
        """Whether this answer says that one of these kinds is not there."""
        if status != HTTPStatus.NOT_FOUND or path.rpartition("/")[2] not in self.asked_at:
            return False
        self._on_absence()
        return True


def make_registry(engine: Engine, endpoint: Endpoint, watches: KopfWatches) -> kopf.OperatorRegistry:
    """Register all handlers of one operator.

    Args:
        engine: What they tell.
        endpoint: The API server.
        watches: Told of kopf's requests.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.persistence.finalizer = f"{GROUP}/kopf"
        settings.watching.chunk_size = 500
        settings.watching.server_timeout = _WATCH_SECONDS
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 5
        settings.process.ultimate_exiting_timeout = None  # otherwise kopf kills the whole process 10 min after an error

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=endpoint.server, aiohttp_session=_session(endpoint, watches))

    @kopf.on.event(GROUP, VERSION, "workflows", registry=registry)
    async def workflow_changed(event: kopf.RawEvent, namespace: str | None, name: str | None, **_: Any) -> None:
        if event["type"] is None:
            engine.listed_anew()
        engine.workflows.observe(event["type"] or "MODIFIED", dict(event["object"]))
        await engine.workflows.reconcile(ObjectRef(namespace or "", name or ""))

    @kopf.on.event(GROUP, VERSION, "workerpools", registry=registry)
    async def pool_changed(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] is None:
            engine.listed_anew()
        engine.pools.observe(event["type"] or "MODIFIED", dict(event["object"]))

    return registry


class _Shallow:
    """The content of a response, with nothing in it that is nested too deep; in the two ways in which kopf reads it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self) -> bytes:
        return shallow(await self._content.read())

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield shallow(line) + b"\n"
        yield rest


def _session(endpoint: Endpoint, watches: KopfWatches) -> aiohttp.ClientSession:
    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        watches.note(request.url.path)
        token = endpoint.token_file.read_text().strip() if endpoint.token_file else endpoint.token
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        response = await handler(request)
        while watches.is_absent(request.url.path, response.status):
            # Of a 404 kopf would die, and leave tasks behind that nobody can end.
            response.close()
            await asyncio.sleep(_ABSENT_SECONDS)
            response = await handler(request)
        # In kopf, one object that it can't parse would end the watches of all.
        response.content = cast("aiohttp.StreamReader", _Shallow(response.content))
        return response

    connector = aiohttp.TCPConnector(ssl=endpoint.ssl_context if endpoint.ssl_context is not None else True)
    return aiohttp.ClientSession(connector=connector, middlewares=(authorize,), trust_env=False)
