"""Readers of streams, each at its own pace: a slow one loses the oldest events, and delays nobody else."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

from hatchet_operator.decisions.run_filter import metadata_text
from hatchet_operator.engine.streams.buffer import MAX_RUN_BYTES, StreamEvent
from hatchet_operator.errors import NotReady


@dataclass(frozen=True, slots=True)
class Metadata:
    """Selects runs: those whose metadata have this entry."""

    key: str
    value: str

    def matches(self, entries: Mapping[str, object] | None) -> bool:
        """Whether a run's additional metadata has the entry."""
        value = (entries or {}).get(self.key)
        return value is not None and metadata_text(value) == self.value


class Reader:
    """A client that listens.

    Args:
        namespace: Where the caller may read.
        seen: By attempt, the index of the last chunk that it has.
        metadata: Which runs it wants to follow in addition to those that it names.
    """

    def __init__(self, namespace: str, *, seen: Mapping[str, int], metadata: Metadata | None = None) -> None:
        self.namespace = namespace
        self.metadata = metadata
        self.runs: set[str] = set()  # those that are not over, by UID
        self._seen = seen
        self._waiting: deque[StreamEvent] = deque()
        self._weight = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._broken = False

    def has_part_of(self, attempts: Collection[str]) -> bool:
        """Whether the reader, before it came back, was told something of one of these attempts."""
        return any(attempt in self._seen for attempt in attempts)

    def offer(self, event: StreamEvent) -> None:
        if event.index >= 0 and event.index <= self._seen.get(event.attempt_id, -1):
            return
        self._waiting.append(event)
        self._weight += event.weight
        while self._weight > MAX_RUN_BYTES and len(self._waiting) > 1:
            self._weight -= self._waiting.popleft().weight
        self._changed.set()

    def close(self) -> None:
        """End the stream once everything is read."""
        self._closed = True
        self._changed.set()

    def break_off(self) -> None:
        """End the stream although there is more to come: the reader reconnects to the next operator."""
        self._broken = True
        self._changed.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing follows what was read."""
        return self._closed and not self._waiting

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Yield events as they come, to the end.

        Raises:
            NotReady: This operator ends before.
        """
        while True:
            if self._broken:
                raise NotReady("this operator stops; ask again")
            while self._waiting:
                event = self._waiting.popleft()
                self._weight -= event.weight
                yield event
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()
