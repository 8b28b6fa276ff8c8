"""What Kubernetes and Prometheus ask over HTTP: /livez, /readyz, /metrics.

Alive means that the watches make progress, not that the process is there: a watch that says nothing for two minutes,
not even a bookmark, is a dead one, whatever else still runs.
"""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hatchet_operator.engine.engine import Engine

_SILENT_SECONDS = 120.0


class Probes:
    """The HTTP server of one operator."""

    def __init__(self, engine: Engine, ready: asyncio.Event) -> None:
        self._engine = engine
        self._ready = ready
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
        now = asyncio.get_running_loop().time()
        silent = [
            f"watch of {name} silent for {now - informer.last_event_at:.0f}s"
            for name, informer in (("runs", self._engine.run_informer), ("pods", self._engine.pod_informer))
            if informer.synced.is_set() and now - informer.last_event_at > _SILENT_SECONDS
        ]
        return web.Response(status=503 if silent else 200, text="\n".join(silent) or "ok")

    async def _readyz(self, request: web.Request) -> web.Response:
        ready = self._ready.is_set()
        return web.Response(status=200 if ready else 503, text="ok" if ready else "reading what is there")

    async def _metrics(self, request: web.Request) -> web.Response:
        text = generate_latest(self._engine.metrics.registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
