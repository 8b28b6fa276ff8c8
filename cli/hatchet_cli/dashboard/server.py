"""The server of the page: a free port on loopback, for the person whose command it is."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import web

from hatchet_cli.dashboard.feed import Feeds
from hatchet_cli.dashboard.guard import NONCE, add_headers, guard, make_key
from hatchet_cli.dashboard.handlers import Handlers, errors_as_json
from hatchet_operator.cluster.api import Api

LOOPBACK = "127.0.0.1"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_FOREVER = "public, max-age=31536000, immutable"


@asynccontextmanager
async def serving(api: Api, namespace: str, *, port: int = 0) -> AsyncIterator[str]:
    """Serve the page, and lend the address that opens it.

    Args:
        api: Its requests are made with these rights.
        namespace: What it shows first.
        port: Where; 0: a free one.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.create_server((LOOPBACK, port))
    bound = listening.getsockname()[1]
    key, hosts = make_key(), {f"{LOOPBACK}:{bound}", f"localhost:{bound}"}
    feeds = Feeds(api)
    app = web.Application(middlewares=(guard(key, hosts), errors_as_json), client_max_size=1024**2)
    app.on_response_prepare.append(add_headers)
    app.add_routes(Handlers(api, namespace, feeds).routes())
    page = _Page()
    app.router.add_get("/assets/{name}", page.asset)
    app.router.add_get("/{path:(?!api/).*}", page.index)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield f"http://{LOOPBACK}:{bound}/?key={key}"
    finally:
        await feeds.close()
        await runner.cleanup()


class _Page:
    """The files that the page was built to, read once."""

    def __init__(self) -> None:
        static = files(__package__) / "static"
        self._index = (static / "index.html").read_text(encoding="utf-8")
        self._assets = {entry.name: _asset(entry) for entry in (static / "assets").iterdir()}

    async def index(self, request: web.Request) -> web.Response:
        """Return the page, at whatever address within it: what to show is decided in the browser."""
        text = self._index.replace("__NONCE__", request[NONCE])
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

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
