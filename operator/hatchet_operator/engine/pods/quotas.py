"""Watches the quotas of namespaces in which one had no room for a pod, to say at once when it may have some.

A namespace is watched from its first such refusal on: where no quota refuses anything, this costs nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import QUOTAS
from hatchet_operator.decisions.quotas import Quota, may_have_room
from hatchet_operator.errors import Refused
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)


class Quotas:
    """The ResourceQuotas that keep pods waiting.

    Args:
        api: Where they are.
        there_may_be_room: Called with a namespace in which a quota may have room for a pod that it had none for.
        silence_seconds: A watch that is silent for this long is cut off.
    """

    def __init__(self, api: Api, *, there_may_be_room: Callable[[str], None], silence_seconds: float) -> None:
        self._api = api
        self._there_may_be_room = there_may_be_room
        self._silence_seconds = silence_seconds
        self._watching: dict[str, asyncio.Task[None]] = {}  # by namespace
        self._quotas: dict[str, Quota] = {}  # by UID

    def watch(self, namespace: str) -> None:
        """Watch a namespace's quotas from now on: one of them has no room."""
        if namespace not in self._watching:
            task = self._watching[namespace] = asyncio.create_task(self._watch(namespace))
            task.add_done_callback(lambda task: self._ended(namespace, task))

    def _ended(self, namespace: str, task: asyncio.Task[None]) -> None:
        """Say why a watch ended: only a fault of ours ends one that was granted. The next refusal begins another."""
        if not task.cancelled() and (error := task.exception()) is not None:
            del self._watching[namespace]
            log.error("quotas are not watched any more", extra={"namespace": namespace}, exc_info=error)

    async def _watch(self, namespace: str) -> None:
        informer = Informer(
            self._api,
            QUOTAS,
            on_change=partial(self._observe, namespace),
            namespace=namespace,
            silence_seconds=self._silence_seconds,
        )
        try:
            await self._api.until_answered(informer.look_once)
        except Refused as error:  # granted to an older release, which did without
            log.info("quotas are not watched", extra={"namespace": namespace, "error": str(error)})
            return
        self._there_may_be_room(namespace)  # it may have been raised between the refusal and this list
        await informer.run()

    def _observe(self, namespace: str, kind: str, obj: Json) -> None:
        uid, now = obj["metadata"]["uid"], Quota.read(obj)
        before = self._quotas.pop(uid, None)
        if kind != "DELETED":
            self._quotas[uid] = now
        if before is not None and (kind == "DELETED" or may_have_room(before, now)):
            self._there_may_be_room(namespace)

    async def stop(self) -> None:
        for task in self._watching.values():
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)
