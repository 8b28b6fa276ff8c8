"""Deliveries of webhook senders, which are authenticated by their signatures."""

from aiohttp import web

from hatchet_operator.decisions.webhooks import Delivery
from hatchet_operator.engine.triggers.events import Events
from hatchet_operator.engine.triggers.webhooks import Webhooks
from hatchet_operator.receiver.answers import started
from hatchet_operator.receiver.requests import read_body

PATH = "/v1/namespaces/{namespace}/webhooks/{source}"


class Deliveries:
    """Accepts deliveries.

    Args:
        webhooks: Know the senders.
        events: Start the runs.
    """

    def __init__(self, webhooks: Webhooks, events: Events) -> None:
        self._webhooks = webhooks
        self._events = events

    async def take(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        names = {name.lower() for name in request.headers}
        headers = {name: ", ".join(request.headers.getall(name)) for name in names}
        delivery = Delivery(body=body, headers=headers)
        event = await self._webhooks.read(request.match_info["namespace"], request.match_info["source"], delivery)
        return started(event, await self._events.push(event))
