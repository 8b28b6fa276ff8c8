"""What kopf calls: the operator's lifecycle, and the kinds that people edit.

kopf watches Workflows, WorkerPools and WebhookSources, at a low rate; runs and pods have an informer of their own (a
kopf event costs 0.3 to 0.7 ms, ours 0.025). The handlers are level-triggered and write nothing through kopf: no
annotation, no finalizer.

kopf does not tell handlers that it relists, what was deleted meanwhile, or that its watches are alive. But its requests
pass through our session and show it: after a list, what is known is compared with what exists; and since the server is
asked to end a watch after a minute, a kind that kopf has not requested lately is one that it does not watch.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from http import HTTPStatus
from typing import Any, cast

import aiohttp

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import POOLS, WEBHOOK_SOURCES, WORKFLOWS
from hatchet_operator.decisions.shards import Scope, may_concern
from hatchet_operator.engine.engine import Engine
from hatchet_operator.kopf_alone import kopf
from hatchet_operator.resources.base import GROUP, VERSION
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.nesting import shallow


class KopfWatches:
    """When kopf last requested the objects of each kind that it watches, in loop time; empty before its start.

    Args:
        namespaces: Those that were named, each of which it watches by itself; empty: the cluster.
        on_list: Called when it has received a list: it may have missed what was deleted before.
        on_absence: Called when the server does not know one of these kinds, or no longer does.
        absent_seconds: Between two checks whether a kind exists again.
    """

    def __init__(
        self,
        namespaces: Collection[str],
        *,
        on_list: Callable[[], None],
        on_absence: Callable[[], None],
        absent_seconds: float = 2.0,
    ) -> None:
        self._absent_seconds = absent_seconds
        self._namespaces = namespaces
        self._on_list = on_list
        self._on_absence = on_absence
        self._asked_at: dict[str, dict[str, float]] = {}  # by kind, and by path

    def begin(self) -> None:
        """Note that kopf is starting: for its first request it has as long as a watch may take."""
        now = asyncio.get_running_loop().time()
        self._asked_at = {
            kind.plural: {kind.path(namespace): now for namespace in self._namespaces or (None,)}
            for kind in (WORKFLOWS, POOLS, WEBHOOK_SOURCES)
        }

    def asked_at(self) -> dict[str, float]:
        """Return when it last requested each kind: in the namespace of which that is longest ago."""
        return {plural: min(asked.values()) for plural, asked in self._asked_at.items()}

    async def pass_on(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send one of kopf's requests.

        It never learns that a kind is absent, since a 404 would end its watch; nor that it may read one of several
        namespaces no longer, as when that was deleted with its Role, since a 403 would end its watches of all.
        """
        asked = self._asked_at.get(request.url.path.rpartition("/")[2], {})
        path = next(filter(request.url.path.endswith, asked), None)
        if path is None:
            return await handler(request)
        ends_a_watch = {HTTPStatus.NOT_FOUND, *([HTTPStatus.FORBIDDEN] if len(self._namespaces) > 1 else [])}
        while True:
            asked[path] = asyncio.get_running_loop().time()
            response = await handler(request)
            if response.status not in ends_a_watch:
                break
            response.close()
            self._on_absence()
            await asyncio.sleep(self._absent_seconds)
        if response.ok and not {"watch", "continue"} & request.url.query.keys():
            self._on_list()
        return response


class Endless:
    """kopf's pauses between tries of a request: as they are, and then the longest, without end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8), itertools.repeat(13))


def make_registry(
    engine: Engine, endpoint: Endpoint, watches: KopfWatches, *, watch_seconds: int
) -> kopf.OperatorRegistry:
    """Register all handlers of one operator.

    Args:
        engine: The engine that they notify.
        endpoint: The API server.
        watches: Told of kopf's requests.
        watch_seconds: How long a watch of kopf's goes on.
    """
    registry = kopf.OperatorRegistry()
    covers = engine.scope.covers

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings, watch_seconds=watch_seconds)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=endpoint.server, aiohttp_session=_session(endpoint, watches, engine.scope))

    @kopf.on.event(GROUP, VERSION, "workflows", registry=registry)
    async def workflow_changed(event: kopf.RawEvent, namespace: str | None, name: str | None, **_: Any) -> None:
        if not covers(namespace or ""):
            return
        engine.workflows.observe(event["type"] or "MODIFIED", dict(event["object"]))
        await engine.workflows.reconcile(ObjectRef(namespace or "", name or ""))

    @kopf.on.event(GROUP, VERSION, "workerpools", registry=registry)
    async def pool_changed(event: kopf.RawEvent, namespace: str | None, **_: Any) -> None:
        if not covers(namespace or ""):
            return
        engine.pools.observe(event["type"] or "MODIFIED", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, "webhooksources", registry=registry)
    async def source_changed(event: kopf.RawEvent, namespace: str | None, **_: Any) -> None:
        if not covers(namespace or ""):
            return
        engine.webhooks.observe(event["type"] or "MODIFIED", dict(event["object"]))

    return registry


def _configure(settings: kopf.OperatorSettings, *, watch_seconds: int) -> None:
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = watch_seconds
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Endless()  # otherwise kopf ends after a minute of 5xx
    settings.process.ultimate_exiting_timeout = None  # otherwise kopf kills the whole process 10 min after an error


class _Shallow:
    """The content of a response, in the two ways in which kopf reads it, without anything nested too deeply.

    Nor has it events of other shards' namespaces, as kopf takes 0.3 to 0.7 ms for each.
    """

    def __init__(self, content: aiohttp.StreamReader, scope: Scope) -> None:
        self._content = content
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self) -> bytes:
        return shallow(await self._content.read())

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not self._scope.is_shard or may_concern(line, self._scope.covers):
                    yield shallow(line) + b"\n"
        yield rest


def _session(endpoint: Endpoint, watches: KopfWatches, scope: Scope) -> aiohttp.ClientSession:
    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        token = endpoint.token_file.read_text().strip() if endpoint.token_file else endpoint.token
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        response = await watches.pass_on(request, handler)
        # In kopf, a single object that it can't parse would end the watches of all.
        response.content = cast("aiohttp.StreamReader", _Shallow(response.content, scope))
        return response

    connector = aiohttp.TCPConnector(ssl=endpoint.ssl_context if endpoint.ssl_context is not None else True)
    return aiohttp.ClientSession(connector=connector, middlewares=(authorize,), trust_env=False)
