"""The HTTP server: its port, its certificate, and what clients may not do: be slow, be many, send much.

Anybody may connect, so all waits are bounded: headers must come within seconds of connecting, the body within seconds
of the headers, and beyond a number of connections new ones are closed unread. An idle connection between two requests
of a client is closed after a while, or if a request begins and does not continue.
"""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from hatchet_operator.access.certificates import KeyPair
from hatchet_operator.access.server_tls import ServerTls
from hatchet_operator.engine.engine import Engine
from hatchet_operator.receiver import pushed_events, webhooks
from hatchet_operator.receiver.answers import errors_as_json
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.requests import BODY_SECONDS
from hatchet_operator.receiver.rest import routes
from hatchet_operator.resources.limits import MAX_INPUT_BYTES

_IDLE_SECONDS = 30.0


class Receiver:
    """The HTTP server of one term.

    Args:
        engine: What it asks.
        bounds: What clients may do; None: the usual.
    """

    def __init__(self, engine: Engine, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        app = web.Application(client_max_size=MAX_INPUT_BYTES, middlewares=(self._heard, errors_as_json))
        app[BODY_SECONDS] = self._bounds.body_seconds
        app.router.add_post(pushed_events.PATH, pushed_events.PushedEvents(engine.senders, engine.triggering).take)
        app.router.add_post(webhooks.PATH, webhooks.Deliveries(engine.webhooks, engine.triggering).take)
        app.router.add_route("*", routes.PATH, routes.RestApi(engine, self._bounds).take)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=self._bounds.body_seconds,
            handle_signals=False,
        )
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._server: asyncio.Server | None = None
        self._tls: ServerTls | None = None

    async def bind(self, host: str, port: int, certificate: KeyPair | None = None) -> int:
        """Occupy a port, and return it; without a certificate, for plain text. No request is served before `listen`."""
        if certificate is not None:
            self._tls = ServerTls(certificate)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        context = self._tls.context if self._tls is not None else None
        handshake = self._bounds.headers_seconds if context is not None else None
        self._server = await loop.create_server(
            self._connected, host, port, ssl=context, ssl_handshake_timeout=handshake, start_serving=False
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def listen(self) -> None:
        assert self._server is not None, "it was bound"
        await self._server.start_serving()

    def show(self, certificate: KeyPair) -> None:
        """Use another certificate for new connections; those that are open stay as they are."""
        assert self._tls is not None, "a certificate can only be renewed, not added"
        self._tls.show(certificate)

    async def stop(self, grace_seconds: float) -> None:
        """Accept nothing new, and let requests in flight be answered."""
        if self._server is not None:
            self._server.close()
        for waiting in self._silent.values():
            waiting.cancel()
        if self._runner.server is not None:
            await self._runner.server.shutdown(grace_seconds)
        await self._runner.cleanup()

    def _connected(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "it was set up"
        if len(server.connections) >= self._bounds.connections:
            return _Closed()
        connection: RequestHandler = server()
        loop = asyncio.get_running_loop()
        self._silent[connection] = loop.call_later(self._bounds.headers_seconds, self._give_up, connection)
        return connection

    def _give_up(self, connection: RequestHandler) -> None:
        del self._silent[connection]
        connection.force_close()

    @web.middleware
    async def _heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection's first headers have come; aiohttp bounds the wait for the next ones."""
        waiting = self._silent.pop(request.protocol, None)
        if waiting is not None:
            waiting.cancel()
        return await handler(request)


class _Closed(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
