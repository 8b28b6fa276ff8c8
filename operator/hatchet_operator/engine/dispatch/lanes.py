"""Attempts of one action that wait: in lanes of equal needs and priority, each with its own order.

The first attempt of a lane represents all of it: if a worker can't take it, it can take none of them. So choosing what
goes next costs time proportional to the number of lanes in use, however many attempts wait in them.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from hatchet_operator.decisions.placing import Needs, fits
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import Worker

if TYPE_CHECKING:
    from hatchet_operator.engine.dispatch.sidings import Siding

LaneKey = tuple[Needs, int]
Entry = tuple[float, int, Attempt]
"""When the attempt is due, and its number: of two that are due at the same time the older goes first."""
Urgency = tuple[bool, int, float, int]

_SWEPT_FROM = 100


@dataclass(slots=True, eq=False)
class Lane:
    """Attempts of equal needs and priority; those that no longer wait are left in the heap and skipped."""

    needs: Needs
    priority: int
    unserved_since: datetime | None  # since when no connected worker fits
    heap: list[Entry] = field(default_factory=list)
    waiting: int = 0

    @property
    def key(self) -> LaneKey:
        return self.needs, self.priority

    @property
    def is_of_suspects(self) -> bool:
        return self.needs.suspicion is not None

    def push(self, attempt: Attempt, number: int) -> None:
        """Add an attempt; among suspects, those that began last before their worker died go first."""
        due = attempt.due if attempt.trial is None else attempt.trial.total_seconds()
        attempt.lane, attempt.place = self, number
        heapq.heappush(self.heap, (due, number, attempt))
        self.waiting += 1

    def head(self) -> Entry:
        """Return the first entry that waits; there must be one."""
        while not _waits(self.heap[0]):
            heapq.heappop(self.heap)
        return self.heap[0]

    def remove(self, attempt: Attempt) -> None:
        """Note that an attempt no longer waits here."""
        attempt.lane = attempt.place = None
        self.waiting -= 1
        if len(self.heap) > 2 * self.waiting + _SWEPT_FROM:
            self.heap = [entry for entry in self.heap if entry[2].place == entry[1]]
            heapq.heapify(self.heap)

    def urgency(self, entry: Entry) -> Urgency:
        """Return the sort key of an entry: suspects first, then by priority, then by order."""
        return not self.is_of_suspects, -self.priority, entry[0], entry[1]

    def __iter__(self) -> Iterator[Attempt]:
        # without a call for each: there may be ten thousand
        return iter([attempt for _, number, attempt in self.heap if attempt.place == number])


@dataclass(slots=True, eq=False)
class Queue:
    """The waiting attempts of one action, and the connected workers that offer it."""

    lanes: dict[LaneKey, Lane] = field(default_factory=dict)  # only those in which something waits
    bound: dict[str, dict[LaneKey, Lane]] = field(default_factory=dict)  # those bound to a single worker, by its id
    workers: set[Worker] = field(default_factory=set)
    sidings: "dict[object, Siding]" = field(default_factory=dict)  # of attempts that need units of rate limits

    @property
    def waiting(self) -> int:
        return sum(lane.waiting for lane in self.all_lanes())

    @property
    def is_empty(self) -> bool:
        return not (self.lanes or self.bound or self.sidings)

    def all_lanes(self) -> Iterator[Lane]:
        yield from self.lanes.values()
        for lanes in self.bound.values():
            yield from lanes.values()

    def lanes_for(self, worker: Worker) -> Iterator[Lane]:
        """Yield the lanes that a worker may serve, if it fits; lanes bound to other workers cost nothing."""
        yield from self.lanes.values()
        if self.bound:
            yield from self.bound.get(worker.id, {}).values()

    def has_lane(self, needs: Needs, priority: int) -> bool:
        lanes = self.lanes if needs.worker is None else self.bound.get(needs.worker, {})
        return (needs, priority) in lanes

    def lane_of(self, attempt: Attempt, now: datetime) -> Lane:
        """Return the lane in which an attempt waits, creating it if necessary."""
        needs, key = attempt.needs, (attempt.needs, attempt.priority)
        lanes = self.lanes if needs.worker is None else self.bound.setdefault(needs.worker, {})
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = Lane(*key, unserved_since=None if self.is_served(needs) else now)
        return lane

    def is_served(self, needs: Needs) -> bool:
        return any(fits(worker, needs) for worker in self.workers)

    def remove(self, attempt: Attempt) -> None:
        """Remove an attempt that no longer waits."""
        if (lane := attempt.lane) is not None:
            lane.remove(attempt)
            if not lane.waiting:
                self._drop(lane)

    def _drop(self, lane: Lane) -> None:
        only = lane.needs.worker
        if only is None:
            del self.lanes[lane.key]
            return
        del self.bound[only][lane.key]
        if not self.bound[only]:
            del self.bound[only]

    def __iter__(self) -> Iterator[Attempt]:
        return chain.from_iterable(self.all_lanes())


def first_of(lanes: list[Lane], count: int) -> list[Attempt]:
    """Return the attempts of lanes that would go first, in that order; those behind them cost nothing."""
    # In each heap, only the children of entries that were already taken can be next. Those that left in their order are
    # dropped from its top once, and not looked through each time.
    frontier = [(lane.urgency(lane.head()), number, 0) for number, lane in enumerate(lanes)]
    heapq.heapify(frontier)
    found: list[Attempt] = []
    while frontier and len(found) < count:
        _, number, index = heapq.heappop(frontier)
        lane = lanes[number]
        if _waits(lane.heap[index]):
            found.append(lane.heap[index][2])
        for below in (2 * index + 1, 2 * index + 2):
            if below < len(lane.heap):
                heapq.heappush(frontier, (lane.urgency(lane.heap[below]), number, below))
    return found


def _waits(entry: Entry) -> bool:
    return entry[2].place == entry[1]
