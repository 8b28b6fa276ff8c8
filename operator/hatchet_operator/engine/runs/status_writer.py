"""How the status of a run is written: whole, and only over the object that it was decided for.

    PUT ─► 200            the object as it is now
        ├─ 409            somebody wrote before us, and takes precedence: the object as they left it
        ├─ 403            a right is missing, which can be restored: say so, pause, the object as it is
        ├─ other refusal  never retried; a small Failed status takes its place, and Refused if even that is rejected
        ├─ 404            None: the run no longer exists
        └─ no answer      retried for as long as it takes

A light run has no object yet. Its first status is written with it, by one create:

    POST ─► 201            the object
        ├─ 409            an operator that led before has made it: the object as it is, whatever it says
        └─ refusal        without a status then, which is written as any other

UID and resourceVersion fence the write off against concurrent writers and against a deposed leader. Whatever comes
back, the run is decided about again from there.
"""

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus

from hatchet_operator.backoff import CONFLICT, FORBIDDEN_SECONDS
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RECORDED_RUNS, RUNS
from hatchet_operator.cluster.statuses import put_status
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus

log = logging.getLogger(__name__)


class StatusWriter:
    """Writes statuses of runs; the caller has only one write per run in flight at a time."""

    def __init__(self, api: Api, *, events: EventRecorder, metrics: Metrics, clock: Clock) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._has_version = True  # in which an object is made with its status, as far as is known

    async def write(self, record: RunRecord, status: RunStatus, *, over: str) -> Json | None:
        """Write a status over the object that it was decided for.

        Args:
            record: The run.
            status: All of it.
            over: The object's resourceVersion.

        Returns:
            The newest object, written by us or by somebody else; None: the run is gone.

        Raises:
            Refused: The server accepts no status for this run, however small.
        """
        if record.light is not None:
            return await self._make(record, status, record.light.body)
        try:
            return await self._put_or_read(record, status, over)
        except Refused as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return await self._after_missing_right(record, error)
            log.error("status refused", extra={"run": str(record.ref), "error": error.message[:1000]})
            return await self._put_or_read(record, self._refusal(record, error), over)

    async def _make(self, record: RunRecord, status: RunStatus, body: Json) -> Json | None:
        """Make the object of a light run together with its status, or without it: then that is written afterwards."""
        while True:
            try:
                return await self._create(record.ref.namespace, body, status)
            except AlreadyExists:  # this request before, or an operator's that led before
                with suppress(NotFound):
                    return await self._api.until_answered(self._api.get, RUNS, record.ref.namespace, record.ref.name)
            except NotFound:
                return None
            except Refused as error:
                if error.status != HTTPStatus.FORBIDDEN:
                    raise
                log.error("run not recorded", extra={"run": str(record.ref), "error": error.message[:1000]})
                await asyncio.sleep(FORBIDDEN_SECONDS)

    async def _create(self, namespace: str, body: Json, status: RunStatus) -> Json:
        refusal: ApiError | None = None
        if status != RunStatus() and self._has_version:
            made = {**body, "apiVersion": RECORDED_RUNS.api_version, "status": status.to_wire()}
            try:
                return await self._api.until_answered(self._api.create, RECORDED_RUNS, namespace, made)
            except (NotFound, Refused) as error:
                refusal = error
        answer = await self._api.until_answered(self._api.create, RUNS, namespace, body)
        unusable = (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN)
        if refusal is not None and refusal.status in unusable and self._has_version:
            self._has_version = False  # no other run has to try it, and those that have say it no more
            log.error(
                "light runs cost two writes: the API server does not take their version of the CRD; "
                "install the CRDs, too, with runs.light=true",
                extra={"error": refusal.message[:1000]},
            )
        return answer

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
        answer = await put_status(self._api, RUNS, record.ref, status, uid=record.uid, over=over)
        if answer["metadata"]["resourceVersion"] == over:
            # The same decision would be made again at once, and forever.
            raise RuntimeError("the API server kept nothing of a changed status; are the CRDs of another version?")
        return answer

    def _refusal(self, record: RunRecord, error: ApiError) -> RunStatus:
        return RunStatus(
            phase=Phase.FAILED,
            reason=Reason.STATUS_REFUSED,
            message=f"the API server refused the run's status: {error.message[:1000]}",
            reruns=record.run.status.reruns,
            finished_at=self._clock.now(),
        )

    async def _after_conflict(self, record: RunRecord) -> Json | None:
        self._metrics.conflicts.inc()
        if record.conflicts:
            await asyncio.sleep(CONFLICT.jittered_after(record.conflicts))
        record.conflicts += 1
        return await self._read(record)

    async def _after_missing_right(self, record: RunRecord, error: ApiError) -> Json | None:
        log.error("status not written", extra={"run": str(record.ref), "error": error.message[:1000]})
        self._events.warn(record.run, Reason.STATUS_REFUSED, error.message)
        await asyncio.sleep(FORBIDDEN_SECONDS)
        return await self._read(record)

    async def _read(self, record: RunRecord) -> Json | None:
        while True:
            try:
                fresh = await self._api.until_answered(self._api.get, RUNS, record.ref.namespace, record.ref.name)
            except NotFound:
                return None
            except Refused as error:
                log.error("run not read", extra={"run": str(record.ref), "error": error.message[:1000]})
                await asyncio.sleep(FORBIDDEN_SECONDS)
            else:
                return fresh if fresh["metadata"]["uid"] == record.uid else None
