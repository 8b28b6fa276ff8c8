"""An API session that somebody else gets ahead of: what it is given to do happens right before a write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.resources.base import Json


class BusyApi(Api):
    """Runs one of ``ahead`` before each write, as long as there are some, and counts writes in ``tried``."""

    def __init__(self, url: str) -> None:
        super().__init__(Endpoint(server=url), may_write=always)
        self.ahead: list[Callable[[], Awaitable[object]]] = []
        self.tried = 0

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        await self._let_others_pass()
        return await super().create(resource, namespace, body, strict=strict)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Json, *, subresource: str | None = None
    ) -> Json:
        await self._let_others_pass()
        return await super().replace(resource, namespace, name, body, subresource=subresource)

    async def _let_others_pass(self) -> None:
        self.tried += 1
        if self.ahead:
            await self.ahead.pop(0)()
