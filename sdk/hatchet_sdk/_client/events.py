"""Pushing events, which start the workflows that want them."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from hatchet_sdk._client import tracing
from hatchet_sdk._client.arguments import LONGEST_KEY, checked_priority, checked_text
from hatchet_sdk._client.json_text import JsonObject, encode_object
from hatchet_sdk._client.options import checked_options

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk.contracts.events_pb2 import PushEventRequest


class PushEventOptions(TypedDict, total=False):
    """Options of an event.

    ``event_id``: pushing an event again with the same id starts nothing again; by default each call has its own.
    ``scope``: only filters of this scope are evaluated.
    """

    additional_metadata: Mapping[str, object]
    priority: int
    event_id: str
    scope: str


class BulkPushEventWithMetadata(TypedDict):
    """One of many events."""

    key: str
    payload: NotRequired[JsonObject]
    additional_metadata: NotRequired[Mapping[str, object]]
    event_id: NotRequired[str]
    scope: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event that was pushed."""

    event_id: str
    key: str


class EventClient:
    """Pushes events; a lost answer starts nothing twice."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client

    def push(self, event_key: str, payload: JsonObject, options: PushEventOptions | None = None) -> Event:
        """Push an event and block until each workflow that wants it has its run.

        Args:
            event_key: Its key, which triggers name; it is prefixed with the namespace.
            payload: Input of the runs.
            options: See `PushEventOptions`.

        Raises:
            TypeError, ValueError: The payload has no JSON form or is too large.
            RequestRefused: The operator refused.
            OperatorUnavailable: It did not answer for a minute.
        """
        return self._push([self._request(event_key, payload, options)]).result()[0]

    async def aio_push(self, event_key: str, payload: JsonObject, options: PushEventOptions | None = None) -> Event:
        """Push an event; see `push`."""
        return (await asyncio.wrap_future(self._push([self._request(event_key, payload, options)])))[0]

    async_push = aio_push

    def bulk_push(self, events: Sequence[BulkPushEventWithMetadata]) -> list[Event]:
        """Push many events in one call; see `push`."""
        return self._push(self._requests(events)).result()

    async def aio_bulk_push(self, events: Sequence[BulkPushEventWithMetadata]) -> list[Event]:
        """Push many events in one call; see `push`."""
        return await asyncio.wrap_future(self._push(self._requests(events)))

    async_bulk_push = aio_bulk_push

    def _push(self, requests: "list[PushEventRequest]") -> "Future[list[Event]]":
        return self._client().push_events(requests)

    def _requests(self, events: Sequence[BulkPushEventWithMetadata]) -> "list[PushEventRequest]":
        if isinstance(events, str | Mapping) or not isinstance(events, Sequence):
            raise TypeError(f"bulk_push: events is {events!r} (expected a list of mappings with a key)")
        requests = []
        for number, event in enumerate(events):
            if not isinstance(event, Mapping) or "key" not in event:
                raise ValueError(f"bulk_push: event {number} is {event!r} (expected a mapping with a key)")
            options: Any = {name: value for name, value in event.items() if name not in ("key", "payload")}
            requests.append(self._request(event["key"], event.get("payload", {}), options))
        return requests

    def _request(self, key: str, payload: JsonObject, options: PushEventOptions | None) -> "PushEventRequest":
        from hatchet_sdk.contracts.events_pb2 import PushEventRequest  # here, as protobuf is slow to import

        what = f'push("{key}")'
        if not isinstance(key, str) or not key:
            raise ValueError(f"{what}: the key is {key!r} (expected a text)")
        checked_text(key, what="push(): the key", longest=LONGEST_KEY)
        chosen: Mapping[str, Any] = checked_options(options, PushEventOptions, what=what)
        request = PushEventRequest(
            key=self._client().endpoint.prefixed(key),
            payload=encode_object(payload, what=f"{what}: payload"),
            event_id=checked_text(
                chosen.get("event_id", str(uuid.uuid4())), what=f"{what}: event_id", longest=LONGEST_KEY
            ),
            priority=checked_priority(chosen["priority"], what=f"{what}: priority") if "priority" in chosen else None,
            scope=checked_text(chosen["scope"], what=f"{what}: scope") if "scope" in chosen else None,
        )
        own = chosen.get("additional_metadata", {})
        metadata = {**tracing.current(), **own} if isinstance(own, Mapping) else own
        if metadata != {}:
            request.additional_metadata = encode_object(metadata, what=f"{what}: additional_metadata")
        request.event_timestamp.GetCurrentTime()
        return request
