"""When finished runs go: all their times in one heap, and their deletions a few at a time.

A timer per run would cost as much memory as all the rest that is kept of it. And a thousand that expire together must
not stand in line before the statuses of those that go on: the API server's writes are shared by all.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.turns import Turns
from hatchet_operator.engine.attempts import Clock
from hatchet_operator.engine.records import RunRecord, RunStore
from hatchet_operator.errors import Conflict, NotFound, Refused

log = logging.getLogger(__name__)

_DELETED_AT_A_TIME = 4
_LONGEST_SLEEP_SECONDS = 60.0  # by the loop's clock; the time of day may be set meanwhile
_STALE_FROM = 1_000


class Expiry:
    """The ends of finished runs.

    Args:
        api: Where they are.
        store: All runs.
        clock: The time of day.
        expired: Called with a run whose time has come; it asks for its deletion, or for another time.
    """

    def __init__(self, api: Api, store: RunStore, *, clock: Clock, expired: Callable[[RunRecord], None]) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._expired = expired
        self._times: list[tuple[float, str]] = []  # and the run's UID; stale if its record has another time
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = float("inf")
        self._to_delete: deque[RunRecord] = deque()
        self._deleting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def look_at(self, record: RunRecord, at: float) -> None:
        """Have `expired` called with a run at a time of day, in seconds since 1970."""
        if record.expires_at == at:
            return
        record.expires_at = at
        heapq.heappush(self._times, (at, record.uid))
        if len(self._times) > 2 * len(self._store) + _STALE_FROM:
            self._times = [entry for entry in self._times if self._is_current(entry) is not None]
            heapq.heapify(self._times)
        if at < self._timer_for:
            self._sleep()

    def delete(self, record: RunRecord) -> None:
        """Delete a run, when it is its turn."""
        if record.uid in self._deleting:
            return
        self._deleting.add(record.uid)
        self._to_delete.append(record)
        if len(self._tasks) < _DELETED_AT_A_TIME:
            task = asyncio.get_running_loop().create_task(self._delete_all())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_current(self, entry: tuple[float, str]) -> RunRecord | None:
        at, uid = entry
        record = self._store.by_uid(uid)
        return record if record is not None and record.expires_at == at else None

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_for = self._times[0][0] if self._times else float("inf")
        if self._times:
            seconds = min(max(self._timer_for - self._clock().timestamp(), 0.0), _LONGEST_SLEEP_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        turns = Turns()
        now = self._clock().timestamp()
        while self._times and self._times[0][0] <= now and not turns.is_over:
            if (record := self._is_current(heapq.heappop(self._times))) is not None:
                record.expires_at = None
                self._expired(record)
        self._sleep()  # for no time at all, if there are more

    async def _delete_all(self) -> None:
        while self._to_delete:
            record = self._to_delete.popleft()
            try:
                if not record.gone:
                    await self._delete(record)
            finally:
                self._deleting.discard(record.uid)

    async def _delete(self, record: RunRecord) -> None:
        ref, version = record.ref, str(record.version)
        try:
            await self._api.until_answered(
                self._api.delete, RUNS, ref.namespace, ref.name, uid=record.uid, resource_version=version
            )
        except (NotFound, Conflict):
            return  # somebody deleted it, or it is to be run again
        except Refused as error:
            log.error("finished run not deleted", extra={"run": str(ref), "error": error.message[:1000]})
            return
        log.info("finished run deleted after its ttl", extra={"run": str(ref)})
