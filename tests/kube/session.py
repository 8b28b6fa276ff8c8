"""The operator's way to the API server, on which a test can put detours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.resources.base import Json

Call = Callable[..., Awaitable[Any]]
Detour = Callable[..., Awaitable[Any]]
"""Called instead of a method of the session: with that method, and with what that was called with."""


class Session(Api):
    """A session with detours, each for as long as a test wants."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.detours: dict[str, Detour] = {}

    async def create(self, *args: Any, **options: Any) -> Json:
        answer: Json = await self._go("create", super().create, *args, **options)
        return answer

    async def replace(self, *args: Any, **options: Any) -> Json:
        answer: Json = await self._go("replace", super().replace, *args, **options)
        return answer

    async def delete(self, *args: Any, **options: Any) -> None:
        await self._go("delete", super().delete, *args, **options)

    async def list_all(self, *args: Any, **options: Any) -> tuple[list[Json], str]:
        items, version = await self._go("list_all", super().list_all, *args, **options)
        return items, version

    async def _go(self, name: str, call: Call, *args: Any, **options: Any) -> Any:
        detour = self.detours.get(name)
        return await (call(*args, **options) if detour is None else detour(call, *args, **options))
