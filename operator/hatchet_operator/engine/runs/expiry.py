"""When finished runs are deleted: all their times are in one heap, and a few are deleted at a time.

A timer per run would cost as much memory as everything else that is kept about it. And a thousand that expire together
must not delay the status writes of those still running: all of them share the API server's capacity.
"""

import heapq
import logging
from collections.abc import Callable

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.turns import Turns
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import Conflict, NotFound, Refused
from hatchet_operator.pace import TURN_SECONDS

log = logging.getLogger(__name__)

_DELETED_AT_A_TIME = 4
_LONGEST_SLEEP_SECONDS = 60.0  # in loop time; the time of day may be adjusted meanwhile
_STALE_FROM = 1_000
_TIMES = "times"  # the only key of the queue that processes them


class Expiry:
    """Expires finished runs.

    Args:
        api: Where they are.
        store: All runs.
        clock: Tells the time.
        expired: Called with a run that has expired; it requests its deletion, or another time.
        turn_seconds: How long it occupies the event loop at once.
    """

    def __init__(
        self,
        api: Api,
        store: RunStore,
        *,
        clock: Clock,
        expired: Callable[[RunRecord], None],
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._api = api
        self._store = store
        self._clock = clock
        self._expired = expired
        self._turn_seconds = turn_seconds
        self._times: list[tuple[float, str]] = []  # with the run's UID; stale if its record has another time
        self._looks: WorkQueue[str] = WorkQueue(self._look, failed=_not_looked_at, turn_seconds=turn_seconds)
        self._deletions: WorkQueue[RunRecord] = WorkQueue(
            self._delete, failed=_not_deleted, at_a_time=_DELETED_AT_A_TIME, turn_seconds=turn_seconds
        )

    def look_at(self, record: RunRecord, at: float) -> None:
        """Have `expired` called with a run at a time of day, given in seconds since 1970."""
        if record.expires_at == at:
            return
        record.expires_at = at
        heapq.heappush(self._times, entry := (at, record.uid))
        if len(self._times) > 2 * len(self._store) + _STALE_FROM:
            self._times = [entry for entry in self._times if self._is_current(entry) is not None]
            heapq.heapify(self._times)
        if self._times[0] == entry:
            self._sleep()

    def delete(self, record: RunRecord) -> None:
        """Delete a run, when its turn comes."""
        if not self._deletions.is_busy(record):
            self._deletions.add(record)

    async def stop(self) -> None:
        await self._looks.stop()
        await self._deletions.stop()

    def _is_current(self, entry: tuple[float, str]) -> RunRecord | None:
        at, uid = entry
        record = self._store.by_uid(uid)
        return record if record is not None and record.expires_at == at else None

    def _sleep(self) -> None:
        """Look at the times again when the first of them comes, or after the longest sleep."""
        if self._times:
            left = self._times[0][0] - self._clock.now().timestamp()
            self._looks.add_after(_TIMES, min(left, _LONGEST_SLEEP_SECONDS))

    def _look(self, _: str) -> None:
        turns = Turns(self._turn_seconds)
        now = self._clock.now().timestamp()
        while self._times and self._times[0][0] <= now:
            if (record := self._is_current(heapq.heappop(self._times))) is not None:
                record.expires_at = None
                self._expired(record)
            if turns.is_over:
                break
        self._sleep()  # not at all, if more are due

    async def _delete(self, record: RunRecord) -> None:
        if record.gone:
            return
        ref, version = record.ref, str(record.version)
        try:
            await self._api.until_answered(
                self._api.delete, RUNS, ref.namespace, ref.name, uid=record.uid, resource_version=version
            )
        except (NotFound, Conflict):
            return  # somebody deleted it, or it will be replayed
        except Refused as error:
            log.error("finished run not deleted", extra={"run": str(ref), "error": error.message[:1000]})
            return
        log.info("finished run deleted after its ttl", extra={"run": str(ref)})


def _not_looked_at(_: str, error: Exception) -> None:
    log.error("expired runs not looked at", exc_info=error)


def _not_deleted(record: RunRecord, error: Exception) -> None:
    log.error("finished run not deleted", extra={"run": str(record.ref)}, exc_info=error)
