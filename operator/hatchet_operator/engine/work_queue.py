"""A queue of keys to process: each key once, never twice concurrently, and again if it is added again.

    add ────────► soon ─┐
    add_all ────► rest ─┼─► handle(key) ─┬─► nothing: done
    add_after ──► due ──┘                ├─► a coroutine: the key is busy until it ends; added meanwhile, it comes again
                                         └─► an error: failed(key, error)

The caller that adds a key continues first: the queue is drained when the event loop next gets to it, without waiting
for anything, so that no caller is reentered from within its own call. It occupies the loop for short turns only.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any, Generic, TypeVar

from hatchet_operator.cluster.turns import Turns
from hatchet_operator.pace import TURN_SECONDS

K = TypeVar("K", bound=Hashable)

Handle = Callable[[K], Coroutine[Any, Any, None] | None]

_STALE_FROM = 1_000


class WorkQueue(Generic[K]):
    """A work queue.

    Args:
        handle: Processes a key, at once or (a coroutine) over some time.
        failed: Shows an error of ``handle`` where people look. The key is left alone until it is added again.
        gather_seconds: How long to wait for more changes of a key before it is processed.
        at_a_time: No more keys than this are busy; the others wait.
        turn_seconds: How long it occupies the loop at once.
    """

    def __init__(
        self,
        handle: Handle[K],
        *,
        failed: Callable[[K, Exception], None],
        gather_seconds: float = 0.0,
        at_a_time: int | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._handle = handle
        self._failed = failed
        self._gather_seconds = gather_seconds
        self._at_a_time = at_a_time
        self._turn_seconds = turn_seconds
        self._soon: dict[K, None] = {}
        self._rest: deque[Iterator[K]] = deque()
        self._due: dict[K, float] = {}  # loop time
        self._times: list[tuple[float, int, K]] = []  # stale where `_due` says another time
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._busy: dict[K, asyncio.Task[None]] = {}
        self._again: set[K] = set()
        self._stopped = False

    def __contains__(self, key: K) -> bool:
        """Whether a key will be processed, sooner or later; keys of `add_all` are not considered."""
        return key in self._soon or key in self._due or key in self._again

    @property
    def has_next(self) -> bool:
        """Whether a key is processed when the event loop next gets to it."""
        return bool(self._soon or self._rest)

    @property
    def is_at_rest(self) -> bool:
        """Whether no key is being processed or next; some may be due later."""
        return not (self.has_next or self._busy or self._again)

    def is_busy(self, key: K) -> bool:
        """Whether a key is being processed."""
        return key in self._busy

    def add(self, key: K) -> None:
        """Have a key processed; if it is added many times before that, it is processed once."""
        if self._gather_seconds:
            self.add_after(key, self._gather_seconds)
        elif not self._stopped:
            self._soon[key] = None
            self._wake()

    def add_all(self, keys: Iterable[K]) -> None:
        """Have many keys processed, after those that were added individually; the iterable is consumed lazily."""
        if not self._stopped:
            self._rest.append(iter(keys))
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key processed after some time; an earlier time that is already set stays."""
        if self._stopped:
            return
        at = self._loop.time() + max(seconds, 0.0)
        if (due := self._due.get(key)) is not None and due <= at:
            return
        self._due[key] = at
        heapq.heappush(self._times, entry := (at, next(self._numbers), key))
        if self._times[0] is entry:
            self._set_timer()

    def forget(self, key: K) -> None:
        """Stop processing a key, unless it is added again; a coroutine that is running for it is left to finish."""
        self._soon.pop(key, None)
        self._due.pop(key, None)
        self._again.discard(key)

    async def stop(self) -> None:
        """Process nothing more, and cancel what is running."""
        self._stopped = True
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        self._soon.clear()
        self._rest.clear()
        self._due.clear()
        self._times.clear()
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which the queue is first used, and then always; to ask for it takes a system call."""
        return asyncio.get_running_loop()

    # --- Turns

    def _wake(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        turns = Turns(self._turn_seconds)
        for key in self._waiting():
            if key in self._busy:
                self._again.add(key)
            else:
                self._look_at(key)
            if turns.is_over:
                self._wake()
                return

    def _waiting(self) -> Iterator[K]:
        while not self._stopped and (self._at_a_time is None or len(self._busy) < self._at_a_time):
            if self._soon:
                key = next(iter(self._soon))
                del self._soon[key]
                yield key
            elif self._rest:
                for key in self._rest[0]:
                    yield key
                    break
                else:
                    self._rest.popleft()
            else:
                return

    def _look_at(self, key: K) -> None:
        try:
            work = self._handle(key)
        except Exception as error:  # noqa: BLE001  # the boundary between keys; the error is shown, not hidden
            self._failed(key, error)
            return
        if work is not None:
            task = self._busy[key] = self._loop.create_task(work)
            task.add_done_callback(lambda task: self._ended(key, task))

    def _ended(self, key: K, task: asyncio.Task[None]) -> None:
        del self._busy[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            self._failed(key, error)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if self._at_a_time is not None and (self._soon or self._rest):
            self._wake()

    # --- Time

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._times and self._due.get(self._times[0][2]) != self._times[0][0]:
            heapq.heappop(self._times)
        if len(self._times) > 2 * len(self._due) + _STALE_FROM:
            self._times = [entry for entry in self._times if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._times)
        if self._times:
            self._timer = self._loop.call_at(self._times[0][0], self._take_due)

    def _take_due(self) -> None:
        self._timer = None
        now, turns = self._loop.time(), Turns(self._turn_seconds)
        while self._times and self._times[0][0] <= now:
            at, _, key = heapq.heappop(self._times)
            if self._due.get(key) == at:
                del self._due[key]
                self._soon[key] = None
            if turns.is_over:
                break
        if self._soon:
            self._wake()
        self._set_timer()  # for now, if more are due
