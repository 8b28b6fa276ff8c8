"""Events from clients with a token: a pool's, or that of any service account that may create runs."""

from http import HTTPStatus

from aiohttp import web

from hatchet_operator.access.identity import Caller
from hatchet_operator.access.senders import Senders
from hatchet_operator.engine.triggers.events import Events, read_event
from hatchet_operator.receiver.answers import BadRequestError, started
from hatchet_operator.receiver.requests import read_body, text_of, token_of

PATH = "/v1/namespaces/{namespace}/events/{key}"
_ID = "Idempotency-Key"
_METADATA = "Hatchet-Metadata"
_PRIORITY = "Hatchet-Priority"
_SCOPE = "Hatchet-Scope"


class PushedEvents:
    """Accepts events.

    Args:
        senders: Find the caller.
        events: Start the runs.
    """

    def __init__(self, senders: Senders, events: Events) -> None:
        self._senders = senders
        self._events = events

    async def take(self, request: web.Request) -> web.Response:
        caller = await self._caller(request)  # before its body is read
        body = await read_body(request)
        event = read_event(
            caller,
            request.match_info["key"],
            text_of(body),
            event_id=request.headers.get(_ID, ""),
            metadata=request.headers.get(_METADATA, ""),
            priority=_priority(request),
            scope=request.headers.get(_SCOPE),
        )
        return started(event, await self._events.push(event))

    async def _caller(self, request: web.Request) -> Caller:
        return await self._senders.find(token_of(request), request.match_info["namespace"])


def _priority(request: web.Request) -> int | None:
    text = request.headers.get(_PRIORITY)
    if text is None:
        return None
    if text not in ("1", "2", "3"):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, f'{_PRIORITY} is "{text[:20]}"; expected 1, 2 or 3')
    return int(text)
