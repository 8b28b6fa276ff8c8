"""Sidings: attempts that need units of rate limits wait beside the queue until their limits have room.

    put ─► siding of those that need the same ─► its first in the queue ─► a slot is free: take the units ─┬─► assigned
              ▲                                                                                            │
              └──────────── parked at the limit that blocks it, until that has room ◄──────────────────────┘

Only the first attempt of each siding is in the queue, and for each limit hardly more sidings than it has room for. So
attempts that wait for units cost nothing while they wait, however many there are, and do not delay those that need
none. Units are taken when a worker takes the attempt, all of them or none.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from hatchet_operator.decisions.observed import Wait
from hatchet_operator.decisions.rate_limits import why_it_waits
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.lanes import LaneKey, Queue
from hatchet_operator.engine.limits.buckets import Bucket, BucketNeeds, Buckets

Entry = tuple[float, int, Attempt]

_SWEPT_FROM = 100


@dataclass(slots=True, eq=False)
class Siding:
    """Attempts of one queue that have the same needs, for workers and limits.

    Attributes:
        key: Its key in its queue.
        queue: The queue of these attempts.
        units: What each of them takes.
        entries: The attempts that wait here, including stale entries.
        standing: How many of these entries are not stale.
        in_queue: How many of its attempts are in the queue.
        head: The last one that entered the queue.
        unblocked_since: Since when no limit has blocked it, if none does.
        blocker: The limit that it is parked at; None: it is not parked.
        ticket: The number of its place there; 0: it has none.
    """

    key: object
    queue: Queue
    units: BucketNeeds
    entries: list[Entry] = field(default_factory=list)
    standing: int = 0
    in_queue: int = 0
    head: Attempt | None = None
    unblocked_since: datetime | None = None
    blocker: Bucket | None = None
    ticket: int = 0

    def units_of(self, bucket: Bucket) -> int:
        return next(units for one, units in self.units if one is bucket)

    def sweep(self) -> None:
        """Drop stale entries, once they are the majority."""
        if len(self.entries) > 2 * self.standing + _SWEPT_FROM:
            self.entries[:] = [entry for entry in self.entries if _stands(entry)]
            heapq.heapify(self.entries)

    def __iter__(self) -> Iterator[Attempt]:
        # without a call for each: there may be ten thousand
        return iter([one for due, number, one in self.entries if one.is_aside and one.stands_at == (due, number)])

    @property
    def unserved_since(self) -> datetime | None:
        """Since when only workers have been lacking; None: there are some, or a limit blocks it."""
        lane = self.head.lane if self.head is not None and self.blocker is None else None
        if lane is None or lane.unserved_since is None or self.unblocked_since is None:
            return None
        return max(lane.unserved_since, self.unblocked_since)

    def next_runs(self, most: int) -> list[str]:
        """Return the names of the runs whose attempts go first."""
        top = self.entries[: 2**most]  # of a heap, so the first ones are among these
        return [entry[2].ref.name for entry in heapq.nsmallest(most, filter(_stands, top))]

    def first(self) -> Entry | None:
        while self.entries and not _stands(self.entries[0]):
            heapq.heappop(self.entries)
        return self.entries[0] if self.entries else None


class Parked(NamedTuple):
    """A siding's place at the limit that blocks it: the more urgent goes first, then the older."""

    order: tuple[int, datetime]
    ticket: int
    siding: Siding

    @property
    def is_stale(self) -> bool:
        return self.siding.ticket != self.ticket


class Sidings:
    """All sidings of all queues.

    Args:
        buckets: The limits.
        enter: Puts an attempt into its queue.
        unserved: Called with attempts that no limit blocks now but no connected worker can take; or that a limit
            blocks forever.
        fill: Gives a queue's workers what they have slots for; must not call back into this object.
    """

    def __init__(
        self,
        buckets: Buckets,
        *,
        enter: Callable[[Attempt, Queue, datetime], None],
        unserved: Callable[[list[Attempt]], None],
        fill: Callable[[Queue], None],
    ) -> None:
        self._buckets = buckets
        self._enter = enter
        self._unserved = unserved
        self._fill = fill
        self._numbers = itertools.count(1)
        buckets.on_room.append(self._unpark_admissible)
        buckets.on_limit.append(self._give_up_some)

    # --- Attempts

    def put(self, attempt: Attempt, queue: Queue) -> None:
        """Add an attempt that needs units; it is in the queue afterwards if its limits have room."""
        key = siding_key((attempt.needs, attempt.priority), attempt.units)
        siding = queue.sidings.get(key)
        if siding is None:
            siding = queue.sidings[key] = Siding(key, queue, attempt.units)
            for bucket, _ in siding.units:
                bucket.sidings += 1
        attempt.siding = siding
        due = attempt.due if attempt.trial is None else attempt.trial.total_seconds()
        attempt.stands_at = due, next(self._numbers)
        self._push(siding, attempt)
        if siding.blocker is not None:
            siding.blocker.waiting += 1
            if siding.entries[0][2] is attempt:
                self._park(siding, siding.blocker)
        elif not siding.in_queue or _is_before(attempt, siding.head):
            self._feed(siding)

    def take_units(self, attempt: Attempt, siding: Siding) -> bool:
        """Take the units of an attempt that left the queue for a worker; put it aside again if a limit blocks it now.

        Returns:
            Whether it may be assigned.
        """
        siding.in_queue -= 1
        blocker = self._buckets.take(siding.units)
        if blocker is not None:
            self._push(siding, attempt)
            if siding.blocker is None:
                self._park(siding, blocker)
            else:
                siding.blocker.waiting += 1
            self._let_others(siding)
            return False
        attempt.siding = None
        self._follow(siding)
        return True

    def withdraw(self, attempt: Attempt, siding: Siding) -> None:
        """Withdraw an attempt; one that is in the queue is removed from it by the caller."""
        attempt.siding = None
        if not attempt.is_aside:
            siding.in_queue -= 1
            self._follow(siding)
            return
        attempt.is_aside = False
        siding.standing -= 1
        if siding.blocker is not None:
            siding.blocker.waiting -= 1
            self._buckets.tell_use(siding.blocker)
        if not siding.standing and not siding.in_queue:
            self._discard(siding)
        siding.sweep()

    def could_go(self, queue: Queue) -> int:
        """How many of the attempts beside a queue could go, in addition to those that are in it."""
        now = self._buckets.now()
        return sum(
            min(
                siding.standing,
                max(min(bucket.room(now) // units for bucket, units in siding.units) - siding.in_queue, 0),
            )
            for siding in queue.sidings.values()
            if siding.standing and siding.blocker is None
        )

    @staticmethod
    def blocked(queue: Queue, count: int) -> Iterator[Attempt]:
        """Yield some of the attempts beside a queue, from each siding those that go soon."""
        for siding in queue.sidings.values():
            yield from (entry[2] for entry in siding.entries[:count] if _stands(entry))

    def wait_of(self, attempt: Attempt, siding: Siding) -> Wait:
        """Say what an attempt in a siding waits for."""
        may_tell = attempt.may_tell or attempt.run_uid is not None or attempt.graph.pool is None
        bucket = siding.blocker
        if bucket is None:
            return Wait(queued_at=attempt.queued_at, unserved_since=siding.unserved_since, may_tell=may_tell)
        units = siding.units_of(bucket)
        text = why_it_waits(bucket.key[1], units, bucket.limit, bucket.window, self._buckets.now())
        impossible_since = max(bucket.since, attempt.queued_at) if bucket.can_never_grant(units) else None
        return Wait(
            queued_at=attempt.queued_at,
            unserved_since=None,
            may_tell=may_tell,
            limited=text + (f"; {bucket.trouble}" if bucket.trouble and impossible_since is None else ""),
            impossible_since=impossible_since,
        )

    # --- Into the queue and out of it

    def _push(self, siding: Siding, attempt: Attempt) -> None:
        assert attempt.stands_at is not None, "it was put here"
        attempt.is_aside = True
        heapq.heappush(siding.entries, (*attempt.stands_at, attempt))
        siding.standing += 1

    def _feed(self, siding: Siding) -> bool:
        """Put the first attempt of a siding into the queue, if it could go; otherwise park the siding."""
        first = siding.first()
        if first is None:
            if not siding.in_queue:
                self._discard(siding)
            return False
        if (blocker := self._buckets.first_blocking(siding.units)) is not None:
            self._park(siding, blocker)
            return False
        attempt = heapq.heappop(siding.entries)[2]
        siding.head = attempt
        siding.standing -= 1
        siding.in_queue += 1
        attempt.is_aside = False
        now = self._buckets.time()
        siding.unblocked_since = siding.unblocked_since or now
        attempt.unblocked_at = siding.unblocked_since
        self._enter(attempt, siding.queue, now)
        return True

    def _follow(self, siding: Siding) -> None:
        """Replace an attempt that left the queue: with the next of its siding, or one of another siding."""
        if siding.in_queue:
            return
        if siding.blocker is not None or not self._feed(siding):
            self._let_others(siding)

    def _let_others(self, siding: Siding) -> None:
        for bucket, _ in siding.units:
            now = self._buckets.now()
            if self._unpark(bucket, siding.queue, now, most=1):
                self._fill(siding.queue)
            if bucket.parked and bucket.timer is None and not bucket.wanted:
                self._wait_again(bucket, now)  # there was room when they were parked, so nothing waited for more

    def _discard(self, siding: Siding) -> None:
        siding.ticket = 0
        siding.blocker = None
        if siding.queue.sidings.get(siding.key) is siding:
            del siding.queue.sidings[siding.key]
            for bucket, _ in siding.units:
                bucket.sidings -= 1

    # --- At limits

    def _park(self, siding: Siding, bucket: Bucket) -> None:
        if siding.blocker is not bucket:
            siding.blocker, siding.unblocked_since = bucket, None
            bucket.waiting += siding.standing
        first = siding.first()
        assert first is not None, "somebody stands in a siding that is parked"
        units, attempt = siding.units_of(bucket), first[2]
        siding.ticket = next(self._numbers)
        place = Parked((-attempt.priority, attempt.queued_at), siding.ticket, siding)
        heapq.heappush(bucket.parked.setdefault(siding.queue, {}).setdefault((attempt.priority, units), []), place)
        now = self._buckets.now()
        if not self._buckets.wait(bucket, units, now) and bucket.room(now) >= units:
            self._buckets.look_soon(bucket)  # its window has ended within this call
        self._buckets.tell_use(bucket)

    def _unpark_admissible(self, bucket: Bucket) -> None:
        """Unpark as many sidings of each queue as a limit that changed or was refilled has room for, oldest first."""
        now = self._buckets.now()
        found = {queue: _tops(bucket, queue) for queue in list(bucket.parked)}
        tops = {queue: min(place for _, _, place in places) for queue, places in found.items() if places}
        for queue in sorted(tops, key=lambda queue: tops[queue].order):
            if self._unpark(bucket, queue, now):
                self._fill(queue)
        self._wait_again(bucket, now)
        self._buckets.tell_use(bucket)

    def _give_up_some(self, bucket: Bucket) -> None:
        """Report attempts that a changed limit blocks forever."""
        parked = [place for groups in bucket.parked.values() for places in groups.values() for place in places]
        for siding in (place.siding for place in parked if not place.is_stale):
            if bucket.can_never_grant(siding.units_of(bucket)):
                self._unserved(list(siding))

    def _unpark(self, bucket: Bucket, queue: Queue, now: float, *, most: int | None = None) -> int:
        """Unpark sidings of a queue that a limit has room for; return how many.

        The first of each priority goes into the queue in any case: there they take turns.
        """
        room = budget = bucket.room(now)
        count, seen = 0, set[int]()
        while room > 0 and count != most:
            able = [
                (place, units, priority)
                for priority, units, place in _tops(bucket, queue)
                if units <= budget or (units <= room and priority not in seen)
            ]
            if not able:
                break
            place, units, priority = min(able)
            heapq.heappop(bucket.parked[queue][priority, units])
            place.siding.blocker, place.siding.ticket = None, 0
            bucket.waiting -= place.siding.standing
            if self._feed(place.siding):
                if place.siding.unserved_since is not None:
                    self._unserved(list(place.siding))
                seen.add(priority)
                budget -= units
                count += 1
        return count

    def _wait_again(self, bucket: Bucket, now: float) -> None:
        """Wait again for those that are still blocked, first for the most urgent that a write could admit.

        Args:
            bucket: What blocks them.
            now: When it was found to have no room: its window may have ended since, which nobody else would notice.
        """
        tops = [(place.order, units) for queue in list(bucket.parked) for _, units, place in _tops(bucket, queue)]
        for _, units in sorted(tops):
            if self._buckets.wait(bucket, units, now):
                return


def siding_key(lane: LaneKey, units: BucketNeeds) -> object:
    """Return the key of a siding within its queue."""
    return lane, tuple((bucket.key[1], each) for bucket, each in units)


def _is_before(attempt: Attempt, head: Attempt | None) -> bool:
    return head is None or head.stands_at is None or (attempt.stands_at or head.stands_at) < head.stands_at


def _stands(entry: Entry) -> bool:
    attempt = entry[2]
    return attempt.is_aside and attempt.stands_at == entry[:2]


def _tops(bucket: Bucket, queue: Queue) -> list[tuple[int, int, Parked]]:
    """Return the first of a queue's sidings at a limit, by priority and number of units; drop stale places."""
    groups = bucket.parked.get(queue)
    if groups is None:
        return []
    for group, places in list(groups.items()):
        while places and places[0].is_stale:
            heapq.heappop(places)
        if not places:
            del groups[group]
    if not groups:
        del bucket.parked[queue]
    return [(priority, units, places[0]) for (priority, units), places in groups.items()]
