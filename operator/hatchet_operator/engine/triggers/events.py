"""Events: one that was pushed becomes a run of each workflow that wants it, once for each id.

A run's name is derived from the event's id and the workflow, so the same event pushed again finds the existing runs, as
long as they are kept. Nothing is written about an event itself.
"""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.decisions.event_matching import EventFacts, match_event
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.spawning.cause import Cause, Origin
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.spawning.trigger import Trigger, check_dedupe
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import IdempotencyCollision, InvalidRequest
from hatchet_operator.resources import labels
from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.names import ObjectRef, dedupe_run_name, event_label, event_run_name
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.triggers import EventFilter
from hatchet_operator.resources.workflow import Workflow


@dataclass(frozen=True, kw_only=True, slots=True)
class PushedEvent:
    """An event, as its sender describes it."""

    caller: Caller
    id: str
    key: str
    payload_json: str
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    scope: str | None = None
    source: str | None = None  # the WebhookSource that delivered it


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRun:
    """A run that an event started, now or when it was pushed earlier."""

    workflow: str
    name: str
    created: bool


def read_event(
    caller: Caller,
    key: str,
    payload: str,
    *,
    event_id: str = "",
    metadata: str = "",
    priority: int | None = None,
    scope: str | None = None,
    source: str | None = None,
) -> PushedEvent:
    """Parse an event, whatever its source.

    Args:
        caller: It belongs to the caller's namespace.
        key: What kind of event it is.
        payload: The text of a JSON object; empty: {}.
        event_id: Which event it is; empty: a new id is generated.
        metadata: Also the text of a JSON object, for its runs.
        priority: The priority of its runs; the nearest valid one is used.
        scope: Which filters are evaluated; None: none.
        source: The WebhookSource that delivered it.

    Raises:
        InvalidRequest: A part of it makes no sense.
    """
    if not 1 <= len(key) <= _LONGEST_KEY or len(event_id) > _LONGEST_KEY:
        raise InvalidRequest(f"an event's key and id have 1 to {_LONGEST_KEY} characters")
    if scope is not None and not 1 <= len(scope) <= _LONGEST_KEY:
        raise InvalidRequest(f"an event's scope has 1 to {_LONGEST_KEY} characters")
    of_payload, of_metadata = f'payload of event "{key}"', f'metadata of event "{key}"'
    for text, name in ((payload, of_payload), (metadata, of_metadata)):
        if (problem := size_problem(len(text.encode()), name)) is not None:
            raise InvalidRequest(problem)
    parse_object(payload, what=of_payload)
    entries = parse_object(metadata, what=of_metadata)
    check_dedupe(entries, what=of_metadata)
    lowest, highest = _PRIORITIES
    return PushedEvent(
        caller=caller,
        id=event_id or str(uuid.uuid4()),
        key=key,
        payload_json=payload or "{}",
        metadata=entries,
        priority=None if priority is None else min(max(priority, lowest), highest),
        scope=scope,
        source=source,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run that an event is to start."""

    ref: ObjectRef  # the workflow
    name: str
    trigger: Trigger


def plan_runs(event: PushedEvent, ref: ObjectRef, workflow: Workflow) -> tuple[list[PlannedRun], tuple[str, ...]]:
    """Return the runs of one workflow that an event starts, and which filters can't be evaluated for it."""
    facts = EventFacts(
        id=event.id, key=event.key, payload_json=event.payload_json, metadata=event.metadata, scope=event.scope
    )
    match = match_event(workflow.spec, workflow.status.definition, facts)
    return [_planned(event, ref, workflow, let_in_by) for let_in_by in match.starts], match.problems


def _planned(event: PushedEvent, ref: ObjectRef, workflow: Workflow, let_in_by: EventFilter | None) -> PlannedRun:
    of_source = {labels.EVENT_SOURCE: event.source} if event.source else {}
    trigger = Trigger(
        caller=event.caller,
        workflow=workflow.exact_name,
        input_json=event.payload_json,
        metadata=event.metadata,
        priority=event.priority,
        filter_payload=let_in_by.payload if let_in_by is not None else None,
        origin=Origin(
            cause=Cause.EVENT,
            labels={labels.EVENT: event_label(event.id), **of_source},
            annotations={labels.EVENT_ID: event.id, labels.EVENT_KEY: event.key},
        ),
    )
    # A run of another event may have the value: then this one silently starts nothing, as in Hatchet.
    value = dedupe_value(event.metadata)
    if value is not None:
        return PlannedRun(ref=ref, name=dedupe_run_name(ref.name, value), trigger=trigger)
    which = None if let_in_by is None else orjson.dumps(let_in_by.to_wire(), option=orjson.OPT_SORT_KEYS).decode()
    return PlannedRun(ref=ref, name=event_run_name(ref.name, event.id, let_in_by=which), trigger=trigger)


_LONGEST_KEY = 1024
_PRIORITIES = (1, 3)


class Events:
    """Starts the runs of events.

    Args:
        workflows: The workflows that want events.
        spawning: Creates the runs.
        events: Records on a workflow that one of its filters can't be evaluated.
        metrics: Counts what was pushed.
    """

    def __init__(self, *, workflows: Workflows, spawning: Spawning, events: EventRecorder, metrics: Metrics) -> None:
        self._workflows = workflows
        self._spawning = spawning
        self._events = events
        self._metrics = metrics

    async def push(self, event: PushedEvent) -> list[EventRun]:
        """Start the runs of an event, and return them once all of them exist.

        Raises:
            InvalidRequest: The API server refused one; the others exist.
            SpawnConflict: A run with a different purpose has the name of one; the others exist.
            UnknownObject: A workflow was deleted meanwhile; the others exist.
        """
        wanted = list(self._wanted(event))
        self._metrics.events.inc()
        if not wanted:
            self._metrics.events_unmatched.inc()
        answers = await asyncio.gather(*map(self._start, wanted), return_exceptions=True)
        started = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            started.append(answer)
        return started

    def _wanted(self, event: PushedEvent) -> Iterator[PlannedRun]:
        for ref, workflow in self._workflows.in_effect(event.caller.namespace):
            runs, problems = plan_runs(event, ref, workflow)
            yield from runs
            for problem in problems:
                self._events.warn(workflow, Reason.FILTER_FAILED, problem)

    async def _start(self, run: PlannedRun) -> EventRun:
        try:
            created = await self._spawning.trigger_as(run.name, run.trigger)
        except IdempotencyCollision as collision:
            return EventRun(workflow=run.trigger.workflow, name=collision.run, created=False)
        return EventRun(workflow=run.trigger.workflow, name=run.name, created=created)
