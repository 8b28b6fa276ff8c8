"""Objects of finished runs: kept for a moment, then forgotten, and read when they are requested.

There are many finished runs, and few are requested again. A client that awaits one asks soon after its end.
"""

import asyncio

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.run import WorkflowRun

_READS_AT_A_TIME = 16

_WHOLE_SECONDS = 1.0  # by then, most clients that wait for the end of a run have asked
_WHOLE_IF_AWAITED_SECONDS = 30.0  # a parent, or a client, may start a thousand before it asks for the first


class RunReader:
    """Reads objects of finished runs, and forgets them again.

    Args:
        api: Where they are.
        store: What is known of them.
        observer: Observes what was read, as it may be newer than what is known.
        clock: Tells the time.
        keeps: No more objects than this are kept.
    """

    def __init__(self, api: Api, store: RunStore, observer: RunObserver, *, clock: Clock, keeps: int) -> None:
        self._api = api
        self._store = store
        self._observer = observer
        self._clock = clock
        self._keeps = keeps
        self._reading = asyncio.Semaphore(_READS_AT_A_TIME)
        self._reads: dict[RunRecord, asyncio.Task[WorkflowRun | None]] = {}
        self._whole: dict[RunRecord, float] = {}  # finished runs whose object is kept, and since when, oldest first
        self._forgetting: asyncio.TimerHandle | None = None

    async def read(self, record: RunRecord) -> WorkflowRun | None:
        """Return a run's object, from the API server if it is no longer in memory; None: the run was deleted.

        Raises:
            Refused: The API server refuses.
        """
        if record.whole is None and not record.gone:
            if (reading := self._reads.get(record)) is None:  # concurrent callers share one read
                reading = self._reads[record] = asyncio.get_running_loop().create_task(self._read(record))
                reading.add_done_callback(lambda read: self._have_read(record, read))
            return await asyncio.shield(reading)
        return None if record.gone else record.whole

    def _have_read(self, record: RunRecord, read: asyncio.Task[WorkflowRun | None]) -> None:
        del self._reads[record]
        if not read.cancelled():
            read.exception()  # the callers that wait get it, if any are left

    async def _read(self, record: RunRecord) -> WorkflowRun | None:
        ref = record.ref
        try:
            async with self._reading:
                obj = await self._api.until_answered(self._api.get, RUNS, ref.namespace, ref.name)
        except NotFound:
            self._observer.forget(record)
            return None
        self._observer.observe("MODIFIED", obj)  # newer than what we know; perhaps another run of that name
        if record.whole is None and not record.gone:
            try:
                record.remember_object(WorkflowRun.model_validate(obj))
            except ValueError as error:
                raise Refused(f"run {ref} is not understood: {error}") from error
            self.forget_later(record)
        return None if record.gone else record.whole

    # --- Memory

    def changed(self, change: RunChange) -> None:
        """React to a change: a newer object is not forgotten at the time set for the earlier one."""
        self._whole.pop(change.record, None)

    def forget_later(self, record: RunRecord) -> None:
        """Keep a finished run's object for clients that ask how it ended, for a moment, and only for a few runs."""
        self._whole.setdefault(record, self._clock.loop_time())
        if len(self._whole) > self._keeps:
            oldest = next(iter(self._whole))
            del self._whole[oldest]
            oldest.forget_object()
        if self._forgetting is None:
            self._forget_soon()

    def _forget_objects(self) -> None:
        for record, since in list(self._whole.items()):
            if self._clock.loop_time() - since >= self._kept_for(record):
                del self._whole[record]
                record.forget_object()
        self._forgetting = None
        if self._whole:
            self._forget_soon()

    def _forget_soon(self) -> None:
        self._forgetting = asyncio.get_running_loop().call_later(_WHOLE_SECONDS, self._forget_objects)

    def _kept_for(self, record: RunRecord) -> float:
        """Return for how many seconds the object of a run that just finished, or was just read, is likely requested."""
        may_ask = not record.is_told and (_is_of_a_client(record) or self._has_parent_at_work(record))
        return _WHOLE_IF_AWAITED_SECONDS if may_ask else _WHOLE_SECONDS

    def _has_parent_at_work(self, record: RunRecord) -> bool:
        parent = self._store.parent_of(record)
        return parent is not None and not parent.is_final

    async def stop(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


def _is_of_a_client(record: RunRecord) -> bool:
    """Whether a client started this root through us, as the label tells: one made by others gets it when it spawns."""
    run = record.whole
    return run is not None and run.spec.parent is None and labels.ROOT in run.metadata.labels
