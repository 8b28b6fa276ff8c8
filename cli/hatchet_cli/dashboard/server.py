"""The servers of the page: on loopback, for the person whose command it is; in a cluster, for whoever has a token."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from hatchet_cli.dashboard.feed import Feeds
from hatchet_cli.dashboard.guard import NONCE, add_headers, guard, key_needed, make_key
from hatchet_cli.dashboard.handlers import Handlers, errors_as_json
from hatchet_cli.dashboard.rights import ASK_SECONDS
from hatchet_cli.dashboard.sessions import Sessions
from hatchet_cli.dashboard.signing_in import SigningIn
from hatchet_cli.dashboard.viewers import VIEWER, Viewer, Viewers
from hatchet_operator.access.server_tls import ServerTls
from hatchet_operator.access.tls import CertificateSource
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.endpoint import Endpoint

LOOPBACK = "127.0.0.1"
LIVE = "/livez"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_FOREVER = "public, max-age=31536000, immutable"
_MOST_SESSIONS = 1000


@asynccontextmanager
async def serving(api: Api, namespace: str, *, port: int = 0, ask_seconds: float = ASK_SECONDS) -> AsyncIterator[str]:
    """Serve the page to one person, and lend the address that opens it.

    Args:
        api: Its requests are made with these rights.
        namespace: What it shows first.
        port: Where; 0: a free one.
        ask_seconds: How often to ask what these rights are.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.create_server((LOOPBACK, port))
    bound = listening.getsockname()[1]
    viewer = Viewer(api=api, feeds=Feeds(api, ask_seconds=ask_seconds))

    @web.middleware
    async def as_this_person(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[VIEWER] = viewer
        return await handler(request)

    async def end_streams(_: web.Application) -> None:
        await viewer.feeds.close()

    key, origins = make_key(), {f"http://{LOOPBACK}:{bound}", f"http://localhost:{bound}"}
    app = _application([guard(origins), key_needed(key), errors_as_json, as_this_person], Handlers(namespace).routes())
    app.on_shutdown.append(end_streams)
    async with _running(app) as runner:
        await web.SockSite(runner, listening).start()
        yield f"http://{LOOPBACK}:{bound}/?key={key}"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a cluster serves the page.

    Attributes:
        endpoint: The API server, without credentials: viewers bring their own.
        origins: Under which people open it, as in "https://hatchet.example.com".
        namespace: What is shown first.
        host: The address to listen on.
        port: The port to listen on.
        session_seconds: How long a sign-in lasts.
        most_viewers: How many people may look at a time.
        most_rows: How many rows are held for all of them.
        certificate: What the server presents; None: it speaks plain HTTP, to what terminates TLS in front of it.
        ask_seconds: How often to ask what each of them may do.
    """

    endpoint: Endpoint
    origins: frozenset[str]
    namespace: str = "default"
    host: str = LOOPBACK
    port: int = 8080
    session_seconds: float = 12 * 3600.0
    most_viewers: int = 50
    most_rows: int = 200_000
    certificate: CertificateSource | None = None
    ask_seconds: float = ASK_SECONDS


@asynccontextmanager
async def serving_viewers(serving: Serving) -> AsyncIterator[None]:
    """Serve the page to whoever has a token for the API server, with the rights of that token.

    Raises:
        OSError: The address can't be listened on.
        ConfigurationError: The certificate can't be read.
    """
    presented = await serving.certificate.read() if serving.certificate else None
    tls = ServerTls(presented.pair) if presented else None
    clock = asyncio.get_running_loop().time
    sessions = Sessions(seconds=serving.session_seconds, most=_MOST_SESSIONS)
    viewers = Viewers(
        serving.endpoint,
        most=serving.most_viewers,
        most_rows=serving.most_rows,
        on_refused=sessions.refuse,
        clock=clock,
        ask_seconds=serving.ask_seconds,
    )
    signing_in = SigningIn(viewers, sessions, clock)

    async def end_streams(_: web.Application) -> None:
        viewers.drop_all()

    async def close(_: web.Application) -> None:
        await viewers.until_closed()

    app = _application(
        [_except_probes(guard(serving.origins)), errors_as_json, signing_in.admit],
        [*signing_in.routes(), *Handlers(serving.namespace).routes(), web.get(LIVE, _is_alive)],
    )
    app.on_shutdown.append(end_streams)
    app.on_cleanup.append(close)
    async with _running(app) as runner:
        await web.TCPSite(runner, serving.host, serving.port, ssl_context=tls.context if tls else None).start()
        tasks = [asyncio.create_task(signing_in.sweep(), name="sweep of viewers")]
        if serving.certificate is not None and tls is not None:
            tasks.append(asyncio.create_task(_keep(serving.certificate, tls), name="renewal of the certificate"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _keep(source: CertificateSource, tls: ServerTls) -> None:
    """Present a newer certificate as soon as there is one."""
    while True:
        await asyncio.sleep(source.look_again_seconds)
        tls.show((await source.read()).pair)


def _except_probes(guarded: Middleware) -> Middleware:
    """Let the kubelet ask by the address of the Pod."""

    @web.middleware
    async def passed(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == LIVE:
            return await handler(request)
        return await guarded(request, handler)

    return passed


async def _is_alive(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _application(middlewares: Iterable[Middleware], routes: Iterable[web.RouteDef]) -> web.Application:
    app = web.Application(middlewares=tuple(middlewares), client_max_size=1024**2)
    app.on_response_prepare.append(add_headers)
    app.add_routes(routes)
    page = _Page()
    app.router.add_get("/assets/{name}", page.asset)
    app.router.add_get("/{path:(?!api/).*}", page.index)
    return app


@asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


class _Page:
    """The files that the page was built to, read once."""

    def __init__(self) -> None:
        static = files(__package__) / "static"
        self._index = (static / "index.html").read_text(encoding="utf-8")
        self._assets = {entry.name: _asset(entry) for entry in (static / "assets").iterdir()}

    async def index(self, request: web.Request) -> web.Response:
        """Return the page, at whatever address within it: what to show is decided in the browser."""
        return web.Response(text=self._index.replace("__NONCE__", request[NONCE]), content_type="text/html")

    async def asset(self, request: web.Request) -> web.Response:
        found = self._assets.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        body, content_type = found
        # its name has a hash of what is in it
        return web.Response(body=body, content_type=content_type, headers={"Cache-Control": _FOREVER})


def _asset(entry: Traversable) -> tuple[bytes, str]:
    suffix = entry.name[entry.name.rindex(".") :]
    return entry.read_bytes(), _TYPES[suffix]
