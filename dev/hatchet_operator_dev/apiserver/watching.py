"""One watch: the changes of a collection as a stream of JSON lines.

The store calls ``notice`` for each change, synchronously; the watch turns it into bytes at once (shared with other
watches of the same form) and the HTTP handler drains them. An object that comes to match the selectors is ADDED, one
that ceases to match is DELETED.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from hatchet_operator_dev.apiserver.forms import Form
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import ApiError
from hatchet_operator_dev.apiserver.store import Change, Collection, Stored

Selects = Callable[[Object], bool]

_MAX_PENDING_BYTES = 64 * 1024 * 1024


def event_line(kind: str, obj: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), obj)


def error_line(error: ApiError) -> bytes:
    return event_line("ERROR", orjson.dumps(error.body()))


class Watch:
    """The pending lines of one client."""

    def __init__(
        self,
        collection: Collection,
        *,
        resource: str,
        namespace: str | None,
        selects: Selects | None,
        form: Form,
        after: int,
    ) -> None:
        self.resource = resource
        self._collection = collection
        self._namespace = namespace
        self._selects = selects
        self._form = form
        self._after = after
        self._lines: list[bytes] = []
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self.closed = False
        """No more lines will come; those pending are still to be sent."""
        self.silent = False
        """Faults: the connection stays, and nothing is sent any more, bookmarks included."""
        self.repeat_last = False
        self.repeat_stale = False

    def open(self) -> None:
        self._collection.listeners.add(self)

    def close(self) -> None:
        self._collection.listeners.discard(self)
        self.closed = True
        self._wake.set()

    def fail(self, error: ApiError) -> None:
        """End the stream with an ERROR event."""
        self.send(error_line(error))
        self.close()

    def notice(self, change: Change) -> None:
        if change.version <= self._after:
            return
        self._after = change.version
        if self._namespace is not None and change.new.obj["metadata"].get("namespace", "") != self._namespace:
            return
        kind = self._kind_of(change)
        if kind is None:
            return
        self.send(event_line(kind, self._form.event_object(change.new)))
        if self.repeat_last:
            self.send(event_line(kind, self._form.event_object(change.new)))
        if self.repeat_stale and change.old is not None:
            self.send(event_line("MODIFIED", self._form.event_object(change.old)))

    def _kind_of(self, change: Change) -> str | None:
        if self._selects is None:
            return "DELETED" if change.deleted else "ADDED" if change.old is None else "MODIFIED"
        before = change.old is not None and self._selects(change.old.obj)
        after = not change.deleted and self._selects(change.new.obj)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None

    def replay(self, items: list[Stored]) -> None:
        """Send the present state as ADDED events."""
        for stored in items:
            self.send(event_line("ADDED", self._form.event_object(stored)))

    def bookmark(self, version: int, *, ends_initial_events: bool = False) -> None:
        metadata: Object = {"resourceVersion": str(version)}
        if ends_initial_events:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        self.send(event_line("BOOKMARK", self._form.bookmark(metadata)))

    def send(self, line: bytes) -> None:
        if self.closed or self.silent:
            return
        self._lines.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes > _MAX_PENDING_BYTES:
            self.close()  # a client that does not read is cut, as by the real server; it resumes by its resourceVersion
        self._wake.set()

    async def lines(self, timeout_seconds: float) -> bytes:
        """Wait for pending lines; empty after ``timeout_seconds`` without any, or when the watch is closed."""
        if not self._lines and not self.closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._wake.wait()
            except TimeoutError:
                return b""
        pending = b"".join(self._lines)
        self._lines.clear()
        self._pending_bytes = 0
        return pending
