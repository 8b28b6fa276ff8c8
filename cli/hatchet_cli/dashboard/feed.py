"""Rows of a namespace, kept up to date by one list and one watch per kind, for any number of tabs of one viewer.

A tab is sent all that is known, in messages of at most 500 rows, then each change. Changes within a tenth of a second
come in one message, an object's last one only: a fan-out writes hundreds of times in a second, and nobody sees that.

    {"kind": "runs", "rows": [row, …], "gone": [uid, …]}
    {"kind": "runs", "isSynced": true}           all that there is has been sent
    {"kind": "runs", "withheld": "you may …"}    no row of it is to be shown, and why
    {"rights": {"change": true, …}}              what may be done
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hatchet_cli.dashboard import rows
from hatchet_cli.dashboard.rights import ASK_SECONDS, KINDS, Rights, watch_rights
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer, UidOf
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.rate_limit import RateLimit
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

_GATHER_SECONDS = 0.1
_MOST_ROWS = 500
_ROWS: Mapping[str, Callable[[Json], Json]] = {
    "workflows": lambda item: rows.workflow_row(Workflow.model_validate(item)),
    "pools": lambda item: rows.pool_row(WorkerPool.model_validate(item)),
    "rateLimits": lambda item: rows.rate_limit_row(RateLimit.model_validate(item)),
    "runs": lambda item: rows.run_row(WorkflowRun.model_validate(item)),
}


@dataclass(kw_only=True)
class Room:
    """How many rows the feeds that share it may hold; None: any number."""

    most: int | None = None
    taken: int = 0

    @property
    def is_full(self) -> bool:
        return self.most is not None and self.taken >= self.most


@dataclass(eq=False)
class _Tab:
    """What one listener has not been sent yet; of each object only the last change, of each note only the last."""

    pending: dict[str, dict[str, bytes | None]]  # by kind and UID; None: it is gone
    withheld: dict[str, Json]  # by kind; sent before rows, which came later
    notes: dict[str, Json]
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class _Part:
    """One kind: its rows, as they are sent, and who reads them."""

    rows: dict[str, bytes] = field(default_factory=dict)
    reading: asyncio.Task[None] | None = None
    is_too_much: bool = False


class Feed:
    """The rows of one namespace.

    Args:
        api: Read with the viewer's rights.
        namespace: Which one.
        room: For its rows and others'.
        ask_seconds: How often to ask what the viewer may do.
    """

    def __init__(self, api: Api, namespace: str, room: Room, *, ask_seconds: float) -> None:
        self._api = api
        self._namespace = namespace
        self._room = room
        self._ask_seconds = ask_seconds
        self._parts = {kind: _Part() for kind in _ROWS}
        self._withheld: dict[str, Json] = {}
        self._notes: dict[str, Json] = {}  # the last ones, for tabs that come later
        self._tabs: set[_Tab] = set()
        self._acts: Mapping[str, bool] | None = None
        self._acts_changed = asyncio.Event()
        self._is_over = False

    async def run(self) -> None:
        """Keep the rows up to date, until cancelled or the viewer is not known any more."""
        try:
            async with asyncio.TaskGroup() as group:
                async for rights in watch_rights(self._api, self._namespace, ask_seconds=self._ask_seconds):
                    self._follow(rights, group)
                for part in self._parts.values():
                    if part.reading is not None:
                        part.reading.cancel()
        finally:
            self._end()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield all that is known, and then what changes, until the feed ends."""
        tab = _Tab(
            pending={kind: dict(part.rows) for kind, part in self._parts.items()},
            withheld=dict(self._withheld),
            notes=dict(self._notes),
        )
        tab.wake.set()
        self._tabs.add(tab)
        try:
            while not self._is_over:
                await tab.wake.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                tab.wake.clear()
                for message in _messages(tab):
                    yield message
        finally:
            self._tabs.discard(tab)

    async def until_lost(self, act: str) -> None:
        """Return once the viewer may not do something, one of `ACTS`."""
        while not self._is_over and (self._acts is None or self._acts[act]):
            await self._acts_changed.wait()

    def _follow(self, rights: Rights, group: asyncio.TaskGroup) -> None:
        for kind, part in self._parts.items():
            if not rights.kinds[kind]:
                self._withhold(kind, f"You may not list and watch {KINDS[kind].plural} in namespace {self._namespace}.")
            elif part.reading is None and not part.is_too_much:
                self._withheld.pop(kind, None)
                part.reading = group.create_task(self._informer(kind).run(), name=f"{kind} of {self._namespace}")
        self._note("rights", {"rights": dict(rights.acts)})
        self._acts = rights.acts
        self._tell_acts_changed()

    def _withhold(self, kind: str, why: str) -> None:
        part = self._parts[kind]
        if part.reading is not None:
            part.reading.cancel()
            part.reading = None
        self._room.taken -= len(part.rows)
        part.rows.clear()
        self._notes.pop(kind, None)
        self._withheld[kind] = {"kind": kind, "withheld": why}
        for tab in self._tabs:
            tab.pending[kind].clear()
            tab.notes.pop(kind, None)
            tab.withheld[kind] = self._withheld[kind]
            tab.wake.set()

    def _note(self, about: str, message: Json) -> None:
        self._notes[about] = message
        for tab in self._tabs:
            tab.notes[about] = message
            tab.wake.set()

    def _tell_acts_changed(self) -> None:
        changed, self._acts_changed = self._acts_changed, asyncio.Event()
        changed.set()

    def _end(self) -> None:
        self._is_over = True
        self._room.taken -= sum(len(part.rows) for part in self._parts.values())
        self._tell_acts_changed()
        for tab in self._tabs:
            tab.wake.set()

    def _informer(self, kind: str) -> Informer:
        part, make_row = self._parts[kind], _ROWS[kind]

        def observe(change: str, item: Json) -> None:
            if part.reading is None:
                return  # the rest of a page whose kind is withheld now
            uid = item["metadata"]["uid"]
            if change == "DELETED":
                row = None
                self._room.taken -= part.rows.pop(uid, None) is not None
            elif uid not in part.rows and self._room.is_full:
                part.is_too_much = True
                self._withhold(kind, _too_much(self._room, KINDS[kind].plural))
                return
            else:
                row = _encode(make_row(item))
                self._room.taken += uid not in part.rows
                part.rows[uid] = row
            for tab in self._tabs:
                tab.pending[kind][uid] = row
                tab.wake.set()

        async def note_synced(version: str, uid_of: UidOf) -> None:
            if part.reading is not None:
                self._note(kind, {"kind": kind, "isSynced": True})

        return Informer(self._api, KINDS[kind], on_change=observe, on_relist=note_synced, namespace=self._namespace)


def _too_much(room: Room, plural: str) -> str:
    return (
        f"There is no room for more {plural}: the server of this page holds {room.most} rows for everybody who looks. "
        "Whoever runs it can give it more; kubectl hatchet list shows them as well."
    )


def _messages(tab: _Tab) -> Iterator[bytes]:
    pending, tab.pending = tab.pending, {kind: {} for kind in tab.pending}
    withheld, tab.withheld = tab.withheld, {}
    notes, tab.notes = tab.notes, {}
    yield from map(_encode, withheld.values())
    for kind, changed in pending.items():
        changes = list(changed.items())
        for first in range(0, len(changes), _MOST_ROWS):
            some = changes[first : first + _MOST_ROWS]
            put = b",".join(row for _, row in some if row is not None)
            gone = json.dumps([uid for uid, row in some if row is None]).encode()
            yield b'{"kind":"%b","rows":[%b],"gone":%b}' % (kind.encode(), put, gone)
    yield from map(_encode, notes.values())


def _encode(message: Json) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


class Feeds:
    """The feeds of the namespaces that a viewer looks at; one that nobody does is stopped a while later.

    Args:
        api: Read with the viewer's rights.
        room: For all their rows.
        on_refused: Called when the API server does not know the viewer any more.
        linger_seconds: How much later.
        ask_seconds: How often to ask what the viewer may do.
    """

    def __init__(
        self,
        api: Api,
        *,
        room: Room | None = None,
        on_refused: Callable[[], None] = lambda: None,
        linger_seconds: float = 60,
        ask_seconds: float = ASK_SECONDS,
    ) -> None:
        self._api = api
        self._room = room or Room()
        self._on_refused = on_refused
        self._linger_seconds = linger_seconds
        self._ask_seconds = ask_seconds
        self._running: dict[str, tuple[Feed, asyncio.Task[None]]] = {}
        self._listeners: dict[str, int] = {}
        self._stopping: dict[str, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def listening(self, namespace: str) -> AsyncIterator[Feed]:
        """Lend the feed of a namespace."""
        if (stopping := self._stopping.pop(namespace, None)) is not None:
            stopping.cancel()
        if namespace not in self._running:
            feed = Feed(self._api, namespace, self._room, ask_seconds=self._ask_seconds)
            self._running[namespace] = (
                feed,
                asyncio.create_task(self._run(feed, namespace), name=f"rows of {namespace}"),
            )
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

    async def _run(self, feed: Feed, namespace: str) -> None:
        await feed.run()
        self._running.pop(namespace, None)
        self._on_refused()

    def _stop(self, namespace: str) -> None:
        self._stopping.pop(namespace, None)
        if (running := self._running.pop(namespace, None)) is not None:
            running[1].cancel()
