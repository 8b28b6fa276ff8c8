"""How the status of a run is written: whole, and only over the object that it was decided for.

    PUT ─► 200            the object as it is now
        ├─ 409            somebody wrote before us and is right: the object as they left it
        ├─ 403            a right is missing, which can be given back: say so, pause, the object as it is
        ├─ other refusal  never repeated; a small Failed status takes its place, and Refused if not even that is taken
        ├─ 404            None: there is no such run any more
        └─ no answer      the same again, for as long as it takes

Uid and resourceVersion are the fence, against whoever wrote meanwhile and against a leader that was deposed. Whatever
comes back, the run is decided about anew from there.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from hatchet_operator.cluster.api import Api, Json, back_off
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.records import RunRecord
from hatchet_operator.errors import ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus

log = logging.getLogger(__name__)

_FORBIDDEN_PAUSE_SECONDS = 5.0
_LONGEST_CONFLICT_PAUSE_SECONDS = 5.0


class StatusWriter:
    """Writes statuses of runs; whoever calls it has one write of a run under way at a time."""

    def __init__(self, api: Api, *, events: EventRecorder, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._clock = clock

    async def write(self, record: RunRecord, status: RunStatus, *, over: str) -> Json | None:
        """Write a status over the object that it was decided for.

        Args:
            record: The run.
            status: All of it.
            over: The object's resourceVersion.

        Returns:
            The newest object, written by us or by somebody else; None: the run is gone.

        Raises:
            Refused: The server takes no status of this run, be it as small as it may.
        """
        try:
            return await self._put_or_read(record, status, over)
        except Refused as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return await self._after_missing_right(record, error)
            log.error("status refused", extra={"run": str(record.ref), "error": error.message[:1000]})
            return await self._put_or_read(record, self._refusal(record, error), over)

    async def _put_or_read(self, record: RunRecord, status: RunStatus, over: str) -> Json | None:
        try:
            answer = await self._put(record, status, over)
        except Conflict:
            return await self._after_conflict(record)
        except NotFound:
            return None
        record.conflicts = 0
        return answer

    async def _put(self, record: RunRecord, status: RunStatus, over: str) -> Json:
        namespace, name = record.ref.namespace, record.ref.name
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": RUNS.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": record.uid, "resourceVersion": over},
            "status": status.to_wire(),
        }
        answer = await self._api.until_answered(self._api.replace, RUNS, namespace, name, body, subresource="status")
        if answer["metadata"]["resourceVersion"] == over:
            # The same decision would be made again at once, and for ever.
            raise RuntimeError("the API server kept nothing of a changed status; are the CRDs of another version?")
        return answer

    def _refusal(self, record: RunRecord, error: ApiError) -> RunStatus:
        return RunStatus(
            phase=Phase.FAILED,
            reason=Reason.STATUS_REFUSED,
            message=f"the API server refused the run's status: {error.message[:1000]}",
            reruns=record.run.status.reruns,
            finished_at=self._clock(),
        )

    async def _after_conflict(self, record: RunRecord) -> Json | None:
        self._metrics.conflicts.inc()
        if record.conflicts:
            await asyncio.sleep(back_off(record.conflicts, longest_seconds=_LONGEST_CONFLICT_PAUSE_SECONDS))
        record.conflicts += 1
        return await self._read(record)

    async def _after_missing_right(self, record: RunRecord, error: ApiError) -> Json | None:
        log.error("status not written", extra={"run": str(record.ref), "error": error.message[:1000]})
        self._events.warn(record.run, Reason.STATUS_REFUSED, error.message)
        await asyncio.sleep(_FORBIDDEN_PAUSE_SECONDS)
        return await self._read(record)

    async def _read(self, record: RunRecord) -> Json | None:
        while True:
            try:
                fresh = await self._api.until_answered(self._api.get, RUNS, record.ref.namespace, record.ref.name)
            except NotFound:
                return None
            except Refused as error:
                log.error("run not read", extra={"run": str(record.ref), "error": error.message[:1000]})
                await asyncio.sleep(_FORBIDDEN_PAUSE_SECONDS)
            else:
                return fresh if fresh["metadata"]["uid"] == record.uid else None
