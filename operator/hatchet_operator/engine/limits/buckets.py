"""Buckets: for each limit, by namespace and key, its window and what waits for its units.

    siding of attempts ─► take ─┬─► units are taken, the attempt is assigned
                                └─► the bucket that blocks it ─► wait ─┬─► a timer to the end of the window ─┐
                                                                       └─► the ledger writes a reservation ──┼─► on_room
                                                   a person makes or changes the RateLimit ──────────────────┘

The decision is `decisions.rate_limits.ask`; this module only keeps the state that it decides on.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hatchet_operator.decisions.rate_limits import Limit, Window, after_start, ask, available, current, taken_over
from hatchet_operator.decisions.step_limits import Need
from hatchet_operator.engine.clock import Clock

BucketKey = tuple[str, str]
"""Namespace and key."""

_SOONEST_SECONDS = 0.01  # a window may be shorter; no siding needs to be woken more often
_SWEPT_FROM = 1_000


Told = Callable[["Bucket"], None]


@dataclass(slots=True, eq=False)
class Bucket:
    """One limit.

    Attributes:
        key: Namespace and key.
        limit: As it is now; None: nobody set one.
        stated: The limit as the last run stated it.
        seconds: How long its windows are, or were while it had a limit.
        since: When the limit was last changed.
        window: The latest one.
        has_object: Its limit comes from a RateLimit, and not from runs.
        sidings: How many sidings of attempts need it.
        parked: By queue, priority and units: sidings that it blocks, which `engine.dispatch.sidings` keeps in order.
        waiting: How many attempts are in these.
        wanted: The units that the ledger is asked for; 0: none.
        used_at: When units of it were last granted.
        taken: How many units of it this leader has granted in all.
        trouble: Why nothing more of it can be reserved; None: it can.
        timer: Fires at the end of the window.
    """

    key: BucketKey
    since: datetime
    limit: Limit | None = None
    stated: Limit | None = None
    seconds: float = 0.0
    window: Window | None = None
    has_object: bool = False
    sidings: int = 0
    parked: dict[Any, dict[tuple[int, int], list[Any]]] = field(default_factory=dict)
    waiting: int = 0
    wanted: int = 0
    used_at: float = 0.0
    taken: int = 0
    trouble: str | None = None
    timer: asyncio.TimerHandle | None = None

    def room(self, now: float) -> int:
        """How many units may be granted now."""
        return available(self.window, self.limit, now) if self.limit is not None else 0

    def can_never_grant(self, units: int) -> bool:
        """Whether no window will ever have that many units."""
        return self.limit is None or units > self.limit.units

    def next_runs(self, most: int) -> tuple[str, ...]:
        """Return the names of the runs whose attempts go first, of those that it blocks."""
        places = [place for of_queue in self.parked.values() for group in of_queue.values() for place in group]
        first = heapq.nsmallest(most, (place for place in places if not place.is_stale))
        names = dict.fromkeys(name for place in first for name in place.siding.next_runs(most))
        return tuple(names)[:most]

    def used(self, now: float) -> int:
        window = current(self.window, self.limit, now) if self.limit is not None else None
        return window.used if window is not None else 0


BucketNeeds = tuple[tuple[Bucket, int], ...]
"""What an attempt takes: a number of units from each bucket."""


class Buckets:
    """All buckets.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[BucketKey, Bucket] = {}
        self._started_at = clock.now().timestamp()
        self._inherited: dict[BucketKey, Window] = {}
        self._sweep_at = _SWEPT_FROM
        self.on_room: list[Told] = []  # units may be granted
        self.on_limit: list[Told] = []  # it has changed, and attempts wait for its units
        self.on_use: list[Told] = []  # its status has something new to show
        self.on_reserve: list[Told] = []  # it wants units reserved

    def time(self) -> datetime:
        return self._clock.now()

    def now(self) -> float:
        return self._clock.now().timestamp()

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self._buckets.values())

    def get(self, key: BucketKey) -> Bucket | None:
        return self._buckets.get(key)

    def inherit(self, key: BucketKey, window: Window) -> None:
        """Take over what another leader had reserved: all of it may have been used."""
        window = taken_over(window)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._inherited[key] = window
        elif bucket.window is None or bucket.window.started_at < window.started_at:
            bucket.window = window
        else:
            bucket.window = replace(bucket.window, used=max(bucket.window.used, window.used))

    def of_needs(self, namespace: str, needs: Iterable[Need]) -> BucketNeeds:
        """Return the buckets for what an attempt needs, with the limits that its run states."""
        found = []
        for need in needs:
            bucket = self.bucket((namespace, need.key))
            bucket.stated = need.limit or bucket.stated
            if need.limit is not None and not bucket.has_object and need.limit != bucket.limit:
                self.set_limit(bucket, need.limit, has_object=False)
            found.append((bucket, need.units))
        return tuple(found)

    def bucket(self, key: BucketKey) -> Bucket:
        if (known := self._buckets.get(key)) is not None:
            return known
        if len(self._buckets) >= self._sweep_at:
            self._sweep()
        bucket = self._buckets[key] = Bucket(key, since=self._clock.now(), window=self._inherited.pop(key, None))
        return bucket

    def set_limit(self, bucket: Bucket, limit: Limit | None, *, has_object: bool) -> None:
        """Change a bucket's limit; None: nobody sets one."""
        bucket.limit, bucket.has_object, bucket.since = limit, has_object, self._clock.now()
        bucket.seconds = limit.seconds if limit is not None else bucket.seconds
        if bucket.timer is not None:
            bucket.timer.cancel()  # to the end of a window that may be shorter now
            bucket.timer = None
        if limit is not None and not limit.is_written and bucket.window is None:
            bucket.window = after_start(limit, self._started_at)
        if bucket.parked:
            _tell(self.on_limit, bucket)
            _tell(self.on_room, bucket)

    # --- Units

    def first_blocking(self, needs: BucketNeeds) -> Bucket | None:
        """Return the bucket that blocks an attempt at this moment; None: it may go."""
        now = self.now()
        return next((bucket for bucket, units in needs if bucket.room(now) < units), None)

    def take(self, needs: BucketNeeds) -> Bucket | None:
        """Take all units of an attempt; or none of them, and return the bucket that blocks it."""
        if (bucket := self.first_blocking(needs)) is not None:
            return bucket
        now = self.now()
        for bucket, units in needs:
            assert bucket.limit is not None, "nobody takes units of a limit that is not there"
            answer = ask(bucket.window, units, bucket.limit, now)
            assert answer.window is not None, "there was room a moment ago"
            bucket.window = answer.window
            bucket.used_at = now
            bucket.taken += units
            self.tell_use(bucket)
        return None

    def wait(self, bucket: Bucket, units: int, now: float) -> bool:
        """Arrange for `on_room` to be called when that many units are free; return whether a write makes them free.

        Args:
            bucket: What has no room.
            units: How many are wanted.
            now: When it was seen to have no room, in loop time: its window may have ended since, unnoticed.
        """
        if bucket.limit is None:
            return False
        answer = ask(bucket.window, units, bucket.limit, now)
        if answer.reserve is not None:
            bucket.wanted = max(bucket.wanted, units)
            _tell(self.on_reserve, bucket)
            return True
        if answer.again_at is not None and bucket.timer is None:
            self._look_after(bucket, answer.again_at - self.now())
        return False

    def look_soon(self, bucket: Bucket) -> None:
        """Have `on_room` called, though not from within this call."""
        if bucket.timer is None:
            self._look_after(bucket, 0.0)

    def _look_after(self, bucket: Bucket, seconds: float) -> None:
        delay = max(seconds, _SOONEST_SECONDS)
        bucket.timer = asyncio.get_running_loop().call_later(delay, self._window_ended, bucket)

    def _window_ended(self, bucket: Bucket) -> None:
        bucket.timer = None
        _tell(self.on_room, bucket)

    def reserved(self, bucket: Bucket, window: Window) -> None:
        """Note that the units that were wanted are reserved."""
        known = bucket.window
        used = known.used if known is not None and known.started_at == window.started_at else window.used
        bucket.window = Window(started_at=window.started_at, used=used, reserved=window.reserved)
        _tell(self.on_room, bucket)

    def tell_use(self, bucket: Bucket) -> None:
        """Note that more of a limit is used, or that other attempts wait for it."""
        _tell(self.on_use, bucket)

    # --- Ends

    def _sweep(self) -> None:
        """Forget limits that nothing needs and whose window is over; runs state them again."""
        now = self.now()
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not _is_forgotten(bucket, now)}
        self._sweep_at = max(2 * len(self._buckets), _SWEPT_FROM)

    def stop(self) -> None:
        for bucket in self._buckets.values():
            if bucket.timer is not None:
                bucket.timer.cancel()
                bucket.timer = None


def _tell(told: list[Told], bucket: Bucket) -> None:
    for tell in told:
        tell(bucket)


def _is_forgotten(bucket: Bucket, now: float) -> bool:
    if bucket.sidings or bucket.has_object or bucket.parked or bucket.wanted or bucket.timer is not None:
        return False
    return bucket.window is None or now >= bucket.window.started_at + bucket.seconds


def time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
