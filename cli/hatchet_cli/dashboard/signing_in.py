"""Who asks a page that a cluster serves: whoever the bearer token belongs to that comes with the request.

    Authorization: Bearer …     set by a proxy in front that people have signed in to (OIDC), with each request
    a cookie                    of who has pasted a token into the form: a random id, which `sessions.py` knows

The cookie goes over TLS only (or to localhost), to this host alone, to no script, and with no request of another site.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from hatchet_cli.dashboard.sessions import Sessions
from hatchet_cli.dashboard.viewers import REFUSED, VIEWER, SignInNeeded, Viewers

SESSION_COOKIE = "__Host-hatchet"  # browsers take this prefix from the host itself only, with Secure and for all paths
_SWEEP_SECONDS = 10.0
_SIGN_IN = "/api/session"


class Offered(BaseModel):
    """What the form sends."""

    token: str


class SigningIn:
    """Finds the viewer of each request.

    Args:
        viewers: Who they are.
        sessions: What cookies stand for.
        clock: Seconds that only grow.
    """

    def __init__(self, viewers: Viewers, sessions: Sessions, clock: Callable[[], float]) -> None:
        self._viewers = viewers
        self._sessions = sessions
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [web.post(_SIGN_IN, self.sign_in), web.post(f"{_SIGN_IN}/end", self.sign_out)]

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what is asked for with the viewer's rights. The page's own files, and the form, are for everybody."""
        if not request.path.startswith("/api/") or (request.method, request.path) == ("POST", _SIGN_IN):
            return await handler(request)
        if (token := self._token_of(request)) is None:
            refused = self._sessions.is_refused(request.cookies.get(SESSION_COOKIE, ""))
            raise SignInNeeded(REFUSED if refused else "Sign in to see what runs, waits and failed.")
        async with self._viewers.viewing(token) as viewer:
            request[VIEWER] = viewer
            return await handler(request)

    async def sign_in(self, request: web.Request) -> web.Response:
        token = Offered.model_validate_json(await request.read()).token.strip()
        async with self._viewers.viewing(token) as viewer:
            session_id = self._sessions.open(token, self._clock())
            answer = web.json_response({"user": viewer.user})
        answer.set_cookie(
            SESSION_COOKIE,
            session_id,
            max_age=int(self._sessions.seconds),
            path="/",
            secure=True,
            httponly=True,
            samesite="Strict",
        )
        return answer

    async def sign_out(self, request: web.Request) -> web.Response:
        token = self._token_of(request)
        self._sessions.close(request.cookies.get(SESSION_COOKIE, ""))
        if token is not None and token not in self._sessions.tokens():
            self._viewers.drop(token)
        answer = web.json_response({})
        answer.del_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return answer

    async def sweep(self) -> None:
        """End what has lasted for long enough, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            before = self._sessions.tokens()
            self._sessions.drop_expired(self._clock())
            for token in before - self._sessions.tokens():
                self._viewers.drop(token)
            self._viewers.drop_idle()

    def _token_of(self, request: web.Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
        return self._sessions.token_of(request.cookies.get(SESSION_COOKIE, ""), self._clock())
