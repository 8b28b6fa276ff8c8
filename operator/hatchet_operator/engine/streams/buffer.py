"""The latest events of each run, bounded for each run and in total.

Each chunk of a step's stream has an index within its attempt. So a chunk that comes twice is recognized, and a reader
that reconnects says how far it got.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from hatchet_operator.decisions.step_events import EventKind

MAX_CHUNK_BYTES = 64 * 1024
MAX_RUN_BYTES = 256 * 1024
MAX_ALL_BYTES = 32 * 1024 * 1024
_EVENT_BYTES = 200  # an event's overhead


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEvent:
    """Something that happened in a run.

    Attributes:
        run: UID of the run.
        name: The run's name.
        kind: What happened.
        step: The step; "": the run itself.
        attempt_id: The step's.
        retry_count: The step's.
        payload: Text that the step published, or its output or error.
        index: The index of a chunk within its attempt.
        at: When, as its author said, in milliseconds since 1970.
    """

    run: str
    name: str
    kind: EventKind
    step: str = ""
    attempt_id: str = ""
    retry_count: int = 0
    payload: str = ""
    index: int = -1
    at: int = 0

    @property
    def is_end(self) -> bool:
        """Whether it is the end of the run itself."""
        return not self.step

    @property
    def weight(self) -> int:
        return len(self.payload) * (1 if self.payload.isascii() else 4) + _EVENT_BYTES


@dataclass(slots=True)
class _RunEvents:
    events: deque[StreamEvent] = field(default_factory=deque)
    weight: int = 0
    next_index: dict[str, int] = field(default_factory=dict)  # by attempt


class Buffer:
    """The last events of runs, by their UIDs."""

    def __init__(self, *, most_of_run: int = MAX_RUN_BYTES, most: int = MAX_ALL_BYTES) -> None:
        self._runs: OrderedDict[str, _RunEvents] = OrderedDict()  # the one that was last written to is last
        self._most_of_run = most_of_run
        self._most = most
        self.weight = 0

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._runs))

    def of(self, run: str) -> Iterator[StreamEvent]:
        """Iterate over what is still known of a run, in order."""
        return iter(tuple(self._runs[run].events) if run in self._runs else ())

    def attempts(self, run: str) -> Collection[str]:
        """Return the attempts of a run that published something."""
        return self._runs[run].next_index.keys() if run in self._runs else ()

    def next_index(self, run: str, attempt_id: str) -> int:
        """Return the index that the next chunk of an attempt has, if nothing was lost."""
        return self._runs[run].next_index.get(attempt_id, 0) if run in self._runs else 0

    def add(self, event: StreamEvent) -> None:
        """Keep an event; drop the oldest ones, of its run and then of the run that has been silent for longest."""
        known = self._runs.setdefault(event.run, _RunEvents())
        self._runs.move_to_end(event.run)
        if event.index >= 0:
            known.next_index[event.attempt_id] = event.index + 1
        known.events.append(event)
        known.weight += event.weight
        self.weight += event.weight
        while known.weight > self._most_of_run and len(known.events) > 1:
            self._drop_oldest(known)
        while self.weight > self._most and len(self._runs) > 1:
            quietest = next(iter(self._runs.values()))
            if quietest.events:
                self._drop_oldest(quietest)
            else:
                self._runs.popitem(last=False)

    def _drop_oldest(self, known: _RunEvents) -> None:
        weight = known.events.popleft().weight
        known.weight -= weight
        self.weight -= weight

    def rename(self, was: str, run: str) -> None:
        """Keep what is known of a run under another UID."""
        if (known := self._runs.pop(was, None)) is not None:
            known.events = deque(replace(event, run=run) for event in known.events)
            self._runs[run] = known

    def forget(self, run: str) -> None:
        if (known := self._runs.pop(run, None)) is not None:
            self.weight -= known.weight
