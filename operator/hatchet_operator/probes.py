"""What Kubernetes and Prometheus ask over HTTP: /livez, /readyz, /metrics.

Alive means that the operator makes progress, not that the process exists: a leader's watches receive something, even if
only a bookmark, and a standby keeps checking the Lease. A standby is Ready, as it can take over at once, except while
a CRD is missing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """The health of an operator.

    Attributes:
        state: What it does, in words.
        ready: Whether it can do its work.
        stuck: What makes no progress any more; restarting the process may help.
    """

    state: str
    ready: bool
    stuck: tuple[str, ...] = ()


class Probes:
    """The HTTP server of one operator.

    Args:
        scrape: Returns the metrics as text.
        health: Tells how the operator is now.
    """

    def __init__(self, scrape: Callable[[], Awaitable[bytes]], health: Callable[[], Health]) -> None:
        self._scrape = scrape
        self._health = health
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _livez(self, request: web.Request) -> web.Response:
        stuck = self._health().stuck
        return web.Response(status=503 if stuck else 200, text="\n".join(stuck) or "ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        health = self._health()
        return web.Response(status=200 if health.ready else 503, text=health.state)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._scrape(), headers={"Content-Type": CONTENT_TYPE_LATEST})
