"""The namespaces of a shard, and the objects of a kind in them: a watch for each namespace, which look like one.

A watch of the whole cluster would bring what other shards' leaders act on, too, and to receive and parse an event is
much of what a child costs. The API server sends an event to those who watch its namespace, and to nobody else. And who
has Roles in some namespaces only may watch nothing else.

    a namespace comes ─► its objects are listed and watched
    it is gone ─► listed once more, which finds nothing and says so of each object ─► no longer watched
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer, until_synced
from hatchet_operator.cluster.kinds import NAMESPACES
from hatchet_operator.errors import ApiError
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

_FIRST_LISTS_AT_ONCE = 8


class Namespaces:
    """The namespaces that exist, of those that are ours.

    Args:
        api: The API server.
        covers: Tells which are ours.
        silence_seconds: A watch that is silent for this long is cut off.
    """

    def __init__(self, api: Api, *, covers: Callable[[str], bool], silence_seconds: float) -> None:
        self._covers = covers
        self._there: dict[str, None] = {}
        self._followers: list[Callable[[str, bool], None]] = []
        self.informer = Informer(api, NAMESPACES, on_change=self._observe, silence_seconds=silence_seconds)

    def follow(self, follower: Callable[[str, bool], None]) -> None:
        """Call with (namespace, whether it exists) for all that exist, and from now on whenever that changes."""
        self._followers.append(follower)
        for namespace in self._there:
            follower(namespace, True)

    def _observe(self, kind: str, obj: Json) -> None:
        name, exists = obj["metadata"]["name"], kind != "DELETED"
        if not self._covers(name) or exists == (name in self._there):
            return
        if exists:
            self._there[name] = None
        else:
            del self._there[name]
        for follower in self._followers:
            follower(name, exists)


class NamedNamespaces:
    """Namespaces that were named to the operator: it has no right to see whether they exist."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def follow(self, follower: Callable[[str, bool], None]) -> None:
        for name in self._names:
            follower(name, True)


class NamespacedInformer:
    """An informer for each of our namespaces; it has the attributes of a single `Informer`.

    Args:
        namespaces: Ours, as far as they were listed.
        make: Makes the informer of one.
    """

    def __init__(self, namespaces: Namespaces | NamedNamespaces, make: Callable[[str], Informer]) -> None:
        self._namespaces = namespaces
        self._make = make
        self._informers: dict[str, Informer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(_FIRST_LISTS_AT_ONCE)
        self._failed: asyncio.Future[None] | None = None
        self._left_to_sync: set[str] = set()
        self.synced = asyncio.Event()

    @property
    def last_event_at(self) -> float:
        """When the watch that has been silent for longest received something, in loop time."""
        now = asyncio.get_running_loop().time()
        return min((each.last_event_at for each in self._informers.values() if each.synced.is_set()), default=now)

    def watched(self) -> list[str]:
        """Return the namespaces that are watched."""
        return list(self._tasks)

    async def run(self) -> None:
        """Run forever."""
        self._failed = asyncio.get_running_loop().create_future()
        self._namespaces.follow(self._changed)
        self._left_to_sync = set(self._tasks)
        self._note_synced()
        try:
            await self._failed
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self, namespace: str, exists: bool) -> None:
        before = self._tasks.get(namespace)
        change = self._inform(namespace, before) if exists else self._end(namespace, before)
        task = self._tasks[namespace] = asyncio.create_task(change)
        task.add_done_callback(lambda done: self._done(namespace, done))

    async def _inform(self, namespace: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # it is back: what was in the last one of this name goes first
            await asyncio.wait([before])
        informer = self._informers[namespace] = self._make(namespace)
        async with self._turn:
            running = asyncio.create_task(informer.run())
            try:
                await until_synced(running, informer.synced)
            except BaseException:
                await _cancelled(running)
                raise
        self._left_to_sync.discard(namespace)
        self._note_synced()
        try:
            await running
        finally:
            await _cancelled(running)

    async def _end(self, namespace: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await _cancelled(before)
        informer = self._informers.pop(namespace, None)
        self._left_to_sync.discard(namespace)
        self._note_synced()
        if informer is None:
            return
        try:
            await informer.look_once()
        except ApiError as error:  # the namespace's objects are gone anyway; at worst they are shown for longer
            log.warning("namespace not looked at when it was gone", extra={"where": namespace, "error": str(error)})

    def _done(self, namespace: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(namespace) is task and namespace not in self._informers:
            del self._tasks[namespace]
        if task.cancelled() or (error := task.exception()) is None or self._failed is None or self._failed.done():
            return
        self._failed.set_exception(error)

    def _note_synced(self) -> None:
        if self._failed is not None and not self._left_to_sync:
            self.synced.set()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
