"""What every request has: a token, and a body, read whole: JSON, not too large, and in time."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from hatchet_operator.access.callers import WHO_ARE_YOU
from hatchet_operator.errors import Unauthenticated
from hatchet_operator.receiver.answers import BadRequestError
from hatchet_operator.resources.limits import MAX_INPUT_BYTES

BODY_SECONDS = web.AppKey("BODY_SECONDS", float)
"""How long a body may take after its headers."""
_BEARER = "bearer "


def token_of(request: web.Request) -> str:
    """Return the token that a request has.

    Raises:
        Unauthenticated: It has none.
    """
    said = request.headers.get("Authorization", "")
    if said[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated(WHO_ARE_YOU)
    return said[len(_BEARER) :]


async def read_body(request: web.Request) -> bytes:
    """Return the body of a request whose type is JSON.

    Raises:
        BadRequestError: It is of another type, too large, or does not come in time.
    """
    if not request.can_read_body:
        return b""
    kind = request.content_type
    if kind != "application/json" and not kind.endswith("+json"):
        said = f'is of type "{kind}"' if "Content-Type" in request.headers else "has no Content-Type"
        message = f"the body {said}; expected application/json (where a sender lets you choose, choose JSON)"
        raise BadRequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    if (request.content_length or 0) > MAX_INPUT_BYTES:
        raise _too_large()
    patience_seconds = request.config_dict[BODY_SECONDS]
    try:
        async with asyncio.timeout(patience_seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except TimeoutError as error:
        message = f"the body did not come within {patience_seconds:.0f} s"
        raise BadRequestError(HTTPStatus.REQUEST_TIMEOUT, message) from error


def text_of(body: bytes) -> str:
    """Return a body's text.

    Raises:
        BadRequestError: It is not UTF-8, as JSON is.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8 ({error}), as JSON is") from error


def _too_large() -> BadRequestError:
    message = (
        f"the body is larger than {MAX_INPUT_BYTES // 1024} KiB, as much as a run's input may have: store large data "
        "elsewhere, and send where it is"
    )
    return BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
