"""Who may ask, and what a browser may do with the answers.

The server acts with the rights of the user's kubeconfig, so whoever can ask it has them. It listens on loopback alone,
but every user of the machine, and every page that the browser shows, can reach that. So:

    a key     in the address that the user opens; it becomes a cookie that no script can read and no other site sends
    Host      has to be the one of that address: another name that points here (DNS rebinding) is refused
    Origin    of what changes something has to be ours
    CSP       the page loads nothing from elsewhere and runs no script that is not a file of ours
"""

import hmac
import secrets
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

COOKIE = "hatchet-dashboard"
NONCE: web.RequestKey[str] = web.RequestKey("nonce", str)
_SAFE = ("GET", "HEAD")


def make_key() -> str:
    return secrets.token_urlsafe(32)


def guard(key: str, hosts: Collection[str]) -> Middleware:
    """Return what stands before every request.

    Args:
        key: What the address carries once, and the cookie from then on.
        hosts: Values of the Host header that are ours, such as "127.0.0.1:8080".
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in hosts:
            raise web.HTTPMisdirectedRequest(text="this is not the address that the command printed\n")
        if (offered := request.query.get("key")) is not None and request.path == "/":
            return _let_in(key, offered)
        if not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
            raise web.HTTPForbidden(text='open the address that "kubectl hatchet dashboard" printed\n')
        if request.method not in _SAFE and request.headers.get("Origin") not in {f"http://{host}" for host in hosts}:
            raise web.HTTPForbidden(text="only the page itself may change something\n")
        request[NONCE] = secrets.token_urlsafe(16)
        return await handler(request)

    return guarded


def _let_in(key: str, offered: str) -> web.Response:
    """Trade the key for a cookie, and take it out of the address: that ends up in histories and screenshots."""
    if not hmac.compare_digest(offered.encode(), key.encode()):
        raise web.HTTPForbidden(
            text="the key in this address is not the one of this server; it makes one at each start\n"
        )
    answer = web.Response(status=303, headers={"Location": "/"})
    answer.set_cookie(COOKIE, key, httponly=True, samesite="Strict", path="/")
    return answer


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser what this page may do. A signal handler: an answer in a stream has gone out before its end."""
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"style-src 'self' 'nonce-{request.get(NONCE, '')}'; style-src-attr 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    response.headers.update(
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
    )
