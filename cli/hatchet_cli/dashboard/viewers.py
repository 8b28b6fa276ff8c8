"""Everybody who looks at a page that a cluster serves: each with a token of their own, and nothing shared among them.

    a token ─ the API server knows it ─► a viewer, with connections and feeds ─┬─ nobody asks for ten minutes ─► closed
                                                                              ├─ the token is refused ────────► closed
                                                                              └─ its last session ends ───────► closed

What a viewer sees and does goes to the API server with the viewer's token. The server of the page has no rights.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from aiohttp import web

from hatchet_cli.dashboard.feed import Feeds, Room
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import OWN_REVIEWS
from hatchet_operator.errors import ApiError, NotFound, OperatorError, Refused

REFUSED = "The API server does not accept this token: it has expired, was withdrawn, or is not one of this cluster."
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")  # RFC 6750; what else there may be could not stand in a header
_IDLE_SECONDS = 600.0
_MOST_REQUESTS = 64  # of one viewer at a time; a tab has two or three
_MOST_UNKNOWN, _UNKNOWN_SECONDS = 60, 10.0


class SignInNeeded(OperatorError):
    """Nobody can be looked up for a request; the message says why, to whoever looks."""


class TooMany(OperatorError):
    """There is no room for one more at the moment."""


@dataclass(eq=False, kw_only=True)
class Viewer:
    """One person, and what is read for them.

    Attributes:
        api: The API server, as this person.
        feeds: What this person's tabs show.
        user: Their name; None: it is the person whose command serves the page.
        requests: How many are being answered.
        last_seen: When the last of them was.
    """

    api: Api
    feeds: Feeds
    user: str | None = None
    requests: int = 0
    last_seen: float = 0.0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self) -> None:
        await self.feeds.close()  # streams end with them
        await self.quiet.wait()
        await self.api.close()


VIEWER: web.RequestKey[Viewer] = web.RequestKey("viewer", Viewer)


class Viewers:
    """Viewers by their tokens.

    Args:
        endpoint: The API server, without credentials.
        most: How many there may be at a time.
        most_rows: How many rows are held for all of them.
        on_refused: Called with a token that the API server does not accept any more.
        clock: Seconds that only grow.
        ask_seconds: How often to ask what each may do.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        most: int,
        most_rows: int,
        on_refused: Callable[[str], None],
        clock: Callable[[], float],
        ask_seconds: float,
    ) -> None:
        self._endpoint = endpoint
        self._most = most
        self._room = Room(most=most_rows)
        self._on_refused = on_refused
        self._clock = clock
        self._ask_seconds = ask_seconds
        self._known: dict[str, Viewer] = {}
        self._opening: dict[str, asyncio.Task[Viewer]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._unknown: deque[float] = deque(maxlen=_MOST_UNKNOWN)

    @asynccontextmanager
    async def viewing(self, token: str) -> AsyncIterator[Viewer]:
        """Lend the viewer of a token for one request.

        Raises:
            SignInNeeded: The API server does not accept the token, or no longer does.
            TooMany: Too many look, or ask.
            ApiError: It can't be found out who this is.
        """
        viewer = self._known.get(token) or await self._open(token)
        if viewer.requests >= _MOST_REQUESTS:
            raise TooMany("You have too many tabs of this page open, or too many of your requests go on.")
        viewer.requests += 1
        viewer.quiet.clear()
        try:
            yield viewer
        except ApiError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            self._refuse(token)
            raise SignInNeeded(REFUSED) from error
        finally:
            viewer.requests -= 1
            viewer.last_seen = self._clock()
            if not viewer.requests:
                viewer.quiet.set()

    def drop(self, token: str) -> None:
        """Show a viewer nothing any more: streams end, and the next request is asked about again."""
        if (viewer := self._known.pop(token, None)) is not None:
            closing = asyncio.create_task(viewer.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def drop_idle(self) -> None:
        """Drop those who have not asked for anything for ten minutes."""
        for token, viewer in list(self._known.items()):
            if not viewer.requests and self._clock() - viewer.last_seen > _IDLE_SECONDS:
                self.drop(token)

    def drop_all(self) -> None:
        for token in list(self._known):
            self.drop(token)

    async def until_closed(self) -> None:
        """Wait until nothing is left of those who were dropped; their requests have to be over."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        self.drop_all()
        await asyncio.gather(*self._closing)

    async def _open(self, token: str) -> Viewer:
        if not _TOKEN.fullmatch(token):
            raise SignInNeeded(REFUSED)
        if (opening := self._opening.get(token)) is None:
            self._bound_unknown()
            opening = self._opening[token] = asyncio.create_task(self._look_up(token), name="sign-in")
            opening.add_done_callback(lambda _: self._opening.pop(token, None))
        return await asyncio.shield(opening)

    async def _look_up(self, token: str) -> Viewer:
        api = Api(replace(self._endpoint, token=token), user_agent="hatchet-dashboard", may_write=always)
        await api.start()
        try:
            user = await _name_of(api)
            self._make_room()
        except OperatorError:
            await api.close()
            raise
        feeds = Feeds(api, room=self._room, on_refused=lambda: self._refuse(token), ask_seconds=self._ask_seconds)
        viewer = self._known[token] = Viewer(api=api, feeds=feeds, user=user, last_seen=self._clock())
        viewer.quiet.set()
        return viewer

    def _refuse(self, token: str) -> None:
        self._on_refused(token)
        self.drop(token)

    def _make_room(self) -> None:
        if len(self._known) < self._most:
            return
        idle = {token: viewer.last_seen for token, viewer in self._known.items() if not viewer.requests}
        if not idle:
            raise TooMany(f"This page takes {self._most} people at a time, and as many look at it; try again later.")
        self.drop(min(idle, key=idle.__getitem__))

    def _bound_unknown(self) -> None:
        """Keep those who guess from keeping the API server busy; people that are known already don't notice."""
        now = self._clock()
        if len(self._unknown) == _MOST_UNKNOWN and now - self._unknown[0] < _UNKNOWN_SECONDS:
            raise TooMany("Too many tokens were tried here in the last seconds; try again in a moment.")
        self._unknown.append(now)


async def _name_of(api: Api) -> str:
    """Ask the API server who has the token.

    Raises:
        SignInNeeded: Nobody.
    """
    try:
        review = await api.create(OWN_REVIEWS, None, {"apiVersion": OWN_REVIEWS.api_version, "kind": OWN_REVIEWS.kind})
    except ApiError as error:
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise SignInNeeded(REFUSED) from error
        if isinstance(error, NotFound | Refused):  # who may not ask is known nevertheless
            return ""
        raise
    name: str = review["status"]["userInfo"].get("username", "")
    return name
