"""Rows of a namespace, kept up to date by one list and one watch per kind, for any number of tabs.

A tab is sent all that is known, in messages of at most 500 rows, then each change. Changes within a tenth of a second
come in one message, an object's last one only: a fan-out writes hundreds of times in a second, and nobody sees that.

    {"kind": "runs", "rows": [row, …], "gone": [uid, …]}
    {"kind": "runs", "isSynced": true}           all that there is has been sent
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hatchet_cli.dashboard import rows
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer, UidOf
from hatchet_operator.cluster.kinds import POOLS, RATE_LIMITS, RUNS, WORKFLOWS, Resource
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.rate_limit import RateLimit
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

_GATHER_SECONDS = 0.1
_MOST_ROWS = 500
_ROWS: Mapping[str, tuple[Resource, Callable[[Json], Json]]] = {
    "workflows": (WORKFLOWS, lambda item: rows.workflow_row(Workflow.model_validate(item))),
    "pools": (POOLS, lambda item: rows.pool_row(WorkerPool.model_validate(item))),
    "rateLimits": (RATE_LIMITS, lambda item: rows.rate_limit_row(RateLimit.model_validate(item))),
    "runs": (RUNS, lambda item: rows.run_row(WorkflowRun.model_validate(item))),
}


@dataclass(eq=False)
class _Tab:
    """What one listener has not been sent yet; of each object only the last change."""

    pending: dict[tuple[str, str], Json | None] = field(default_factory=dict)  # None: it is gone
    synced: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Feed:
    """The rows of one namespace.

    Args:
        api: Read with the user's rights.
        namespace: Which one.
    """

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._rows: dict[str, dict[str, Json]] = {kind: {} for kind in _ROWS}
        self._synced: set[str] = set()
        self._tabs: set[_Tab] = set()

    async def run(self) -> None:
        """Keep the rows up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in _ROWS:
                group.create_task(self._informer(kind).run())

    async def messages(self) -> AsyncIterator[Json]:
        """Yield all that is known, and then what changes."""
        tab = _Tab(synced=set(self._synced), wake=asyncio.Event())
        tab.pending = {(kind, uid): row for kind, known in self._rows.items() for uid, row in known.items()}
        tab.wake.set()
        self._tabs.add(tab)
        try:
            while True:
                await tab.wake.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                tab.wake.clear()
                for message in _messages(tab):
                    yield message
        finally:
            self._tabs.discard(tab)

    def _informer(self, kind: str) -> Informer:
        resource, make_row = _ROWS[kind]

        def observe(change: str, item: Json) -> None:
            uid = item["metadata"]["uid"]
            row = None if change == "DELETED" else make_row(item)
            if row is None:
                self._rows[kind].pop(uid, None)
            else:
                self._rows[kind][uid] = row
            for tab in self._tabs:
                tab.pending[kind, uid] = row
                tab.wake.set()

        async def note_synced(version: str, uid_of: UidOf) -> None:
            self._synced.add(kind)
            for tab in self._tabs:
                tab.synced.add(kind)
                tab.wake.set()

        return Informer(self._api, resource, on_change=observe, on_relist=note_synced, namespace=self._namespace)


def _messages(tab: _Tab) -> Iterator[Json]:
    pending, tab.pending = tab.pending, {}
    synced, tab.synced = tab.synced, set()
    for kind in _ROWS:
        changes = [(uid, row) for (of, uid), row in pending.items() if of == kind]
        for first in range(0, len(changes), _MOST_ROWS):
            some = changes[first : first + _MOST_ROWS]
            yield {
                "kind": kind,
                "rows": [row for _, row in some if row is not None],
                "gone": [uid for uid, row in some if row is None],
            }
        if kind in synced:
            yield {"kind": kind, "isSynced": True}


class Feeds:
    """The feeds of the namespaces that somebody looks at; one that nobody does is stopped a while later."""

    def __init__(self, api: Api, *, linger_seconds: float = 60) -> None:
        self._api = api
        self._linger_seconds = linger_seconds
        self._running: dict[str, tuple[Feed, asyncio.Task[None]]] = {}
        self._listeners: dict[str, int] = {}
        self._stopping: dict[str, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def listening(self, namespace: str) -> AsyncIterator[Feed]:
        """Lend the feed of a namespace."""
        if (stopping := self._stopping.pop(namespace, None)) is not None:
            stopping.cancel()
        if namespace not in self._running:
            feed = Feed(self._api, namespace)
            self._running[namespace] = feed, asyncio.create_task(feed.run(), name=f"rows of {namespace}")
        self._listeners[namespace] = self._listeners.get(namespace, 0) + 1
        try:
            yield self._running[namespace][0]
        finally:
            self._listeners[namespace] -= 1
            if not self._listeners[namespace]:
                loop = asyncio.get_running_loop()
                self._stopping[namespace] = loop.call_later(self._linger_seconds, self._stop, namespace)

    async def close(self) -> None:
        for stopping in self._stopping.values():
            stopping.cancel()
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, namespace: str) -> None:
        self._stopping.pop(namespace, None)
        _, task = self._running.pop(namespace)
        task.cancel()
