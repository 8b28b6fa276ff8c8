"""Which runs of a workflow an event starts.

    a person's trigger   key, scope and filter fit: a run
    registered keys      without filters: a run; with filters: a run for each that has the event's scope and is true

As in Hatchet, an event without a scope starts no runs of a workflow that registered filters. A filter that can't be
evaluated for an event counts as false.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from hatchet_operator.decisions.expressions import EVENT_FILTER, UnusableKeyError, is_true
from hatchet_operator.resources.triggers import EventFilter, EventTrigger
from hatchet_operator.resources.workflow import WorkflowDefinition, WorkflowSpec


@dataclass(frozen=True, kw_only=True)
class EventFacts:
    """What triggers and filters look at."""

    id: str
    key: str
    payload_json: str = "{}"
    metadata: dict[str, Any] = field(default_factory=dict)
    scope: str | None = None

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The payload, parsed only if there is a filter."""
        payload: dict[str, Any] = orjson.loads(self.payload_json)
        return payload


@dataclass(frozen=True, kw_only=True, slots=True)
class EventMatch:
    """What an event means to a workflow.

    Attributes:
        plain: Whether it starts a run without a filter.
        filters: The registered filters that match: a run for each.
        problems: What can't be evaluated for it.
    """

    plain: bool
    filters: tuple[EventFilter, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def starts(self) -> tuple[EventFilter | None, ...]:
        """Return one entry for each run; a person's trigger adds none to those of registered filters."""
        return self.filters or ((None,) if self.plain else ())


def match_event(spec: WorkflowSpec, definition: WorkflowDefinition | None, event: EventFacts) -> EventMatch:
    """Return what an event starts: a person's triggers apply in addition to those that were registered."""
    problems: list[str] = []
    plain = any(_fits(trigger, event, problems) for trigger in spec.events)
    registered = (definition.events if definition else None) or ()
    if definition is None or not any(key_matches(pattern, event.key) for pattern in registered):
        return EventMatch(plain=plain, problems=tuple(problems))
    if not definition.event_filters:
        return EventMatch(plain=True, problems=tuple(problems))
    filters = tuple(_let_in(definition.event_filters, event, problems))
    return EventMatch(plain=plain, filters=filters, problems=tuple(problems))


def _fits(trigger: EventTrigger, event: EventFacts, problems: list[str]) -> bool:
    if not key_matches(trigger.key, event.key) or trigger.scope not in (None, event.scope):
        return False
    return trigger.filter is None or _is_true_for(trigger.filter, event, {}, problems)


def _let_in(filters: tuple[EventFilter, ...], event: EventFacts, problems: list[str]) -> Iterator[EventFilter]:
    for each in filters:
        if event.scope == each.scope:
            try:
                payload = orjson.loads(each.payload) if each.payload else {}
            except ValueError:  # registration refuses it, so somebody wrote it into the status
                problems.append(f"the payload of the filter {each.expression!r} is not JSON")
                continue
            if not each.expression or _is_true_for(each.expression, event, payload, problems):
                yield each


def _is_true_for(text: str, event: EventFacts, payload: dict[str, Any], problems: list[str]) -> bool:
    variables = {
        "input": event.payload,
        "additional_metadata": event.metadata,
        "payload": payload,
        "event_id": event.id,
        "event_key": event.key,
    }
    try:
        return is_true(text, EVENT_FILTER, variables)
    except UnusableKeyError as error:
        problems.append(str(error))
        return False


def key_matches(pattern: str, key: str) -> bool:
    """Whether a key matches a pattern; in time that grows with their lengths, however many stars there are."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == key
    *middle, last = rest
    if not key.startswith(first) or not key.endswith(last) or len(key) < len(first) + len(last):
        return False
    at, end = len(first), len(key) - len(last)
    for part in middle:  # the leftmost place of each leaves the most for the others
        found = key.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
