"""The service for what happens outside of runs, and for logs and streams of steps: a few lines per call."""

import asyncio
import logging

from hatchet_operator.access.identity import Caller
from hatchet_operator.dispatcher.calls import unary, unserved
from hatchet_operator.dispatcher.stamps import milliseconds_of
from hatchet_operator.dispatcher.v0.translation import streams, triggers
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_sdk.contracts import events_pb2 as events_wire
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceServicer

step_log = logging.getLogger("hatchet_operator.steps")


class Events(EventsServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def PutLog(self, request: events_wire.PutLogRequest, caller: Caller) -> events_wire.PutLogResponse:
        """Log a line of a step: it goes where the operator's own log goes, with the run's name."""
        attempt = self._engine.may_log(caller, request.task_run_external_id)
        step_log.info(request.message, extra={"run": str(attempt.ref), "step": attempt.step.name})
        return events_wire.PutLogResponse()

    @unary
    async def Push(self, request: events_wire.PushEventRequest, caller: Caller) -> events_wire.Event:
        event = triggers.pushed_event(request, caller)
        await self._engine.triggering.push(event)
        return triggers.event_answer(request, event)

    @unary
    async def BulkPush(self, request: events_wire.BulkPushEventRequest, caller: Caller) -> events_wire.Events:
        """Push several events; all are tried, and repeating a failed call with the same ids starts none twice."""
        if not 1 <= len(request.events) <= MAX_BULK_ITEMS:
            raise InvalidRequest(f"{len(request.events)} events in one call; expected 1 to {MAX_BULK_ITEMS}")
        events = [triggers.pushed_event(item, caller) for item in request.events]
        await asyncio.gather(*map(self._engine.triggering.push, events))
        answers = map(triggers.event_answer, request.events, events)
        return events_wire.Events(events=answers)

    ReplaySingleEvent = unserved("replay of events; push it again")

    @unary
    async def PutStreamEvent(
        self, request: events_wire.PutStreamEventRequest, caller: Caller
    ) -> events_wire.PutStreamEventResponse:
        """Publish what a step says to anyone listening; it is only kept in memory."""
        attempt = self._engine.may_log(caller, request.task_run_external_id)
        first_index = request.event_index if request.HasField("event_index") else None
        chunks = streams.stream_chunks(request, step=attempt.step.name)
        self._engine.streams.put(attempt, chunks, first_index=first_index, at=milliseconds_of(request.created_at))
        return events_wire.PutStreamEventResponse()
