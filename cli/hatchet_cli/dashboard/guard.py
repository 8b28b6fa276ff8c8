"""Who may ask, and what a browser may do with the answers.

Every page that a browser shows can reach this server, and may try to have it do something as the person who looks. So:

    Host      has to be that of an address of ours: another name that points here (DNS rebinding) is refused
    Origin    of what changes something has to be one of our addresses
    CSP       the page loads nothing from elsewhere and runs no script that is not a file of ours

On a person's own machine the server acts with the rights of that person's kubeconfig, and all users of the machine can
reach it:

    a key     in the address that is opened; it becomes a cookie that no script can read and no other site sends

In a cluster it has no rights: `signing_in.py` says who asks.
"""

import hmac
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

COOKIE = "hatchet-dashboard"
NONCE: web.RequestKey[str] = web.RequestKey("nonce", str)
_SAFE = ("GET", "HEAD")


def make_key() -> str:
    return secrets.token_urlsafe(32)


def guard(origins: Collection[str]) -> Middleware:
    """Return what stands before every request.

    Args:
        origins: Of the addresses of this page, such as "http://127.0.0.1:8080".
    """
    hosts = {urlsplit(origin).netloc for origin in origins}

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in hosts:
            raise web.HTTPMisdirectedRequest(
                text=f"this is not an address of this page: {', '.join(sorted(origins))}\n"
            )
        if request.method not in _SAFE and request.headers.get("Origin") not in origins:
            raise web.HTTPForbidden(text="only the page itself may change something\n")
        request[NONCE] = secrets.token_urlsafe(16)
        return await handler(request)

    return guarded


def key_needed(key: str) -> Middleware:
    """Return what lets in only those with a key, which the address carries once, and a cookie from then on."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (offered := request.query.get("key")) is not None and request.path == "/":
            return _let_in(key, offered)
        if not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
            raise web.HTTPForbidden(text='open the address that "kubectl hatchet dashboard" printed\n')
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
    response.headers.setdefault("Cache-Control", "no-store")  # what is not a file of the page belongs to who asked
    response.headers.update(
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
    )
