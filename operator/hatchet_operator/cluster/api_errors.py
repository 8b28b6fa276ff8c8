"""Turns unsuccessful answers of the API server into our own errors."""

from http import HTTPStatus
from typing import Any

import orjson

from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, Gone, NotFound, Refused, Transient

_LONGEST_TEXT = 500
_TOO_LARGE = ("request is too large", "message larger than max")  # etcd's own words, above 1.5 MiB and above 2 MiB


def error_of(status: int, answer: bytes, after: str = "", *, message: str = "") -> ApiError:
    """Return the error whose class says how to react to an answer.

    Args:
        status: HTTP status.
        answer: The body: a ``Status`` object, or whatever a proxy in between sent instead.
        after: The header Retry-After, in seconds; anything else, such as a date, is ignored.
        message: What to say instead of the body's message.
    """
    reason, causes = "", frozenset[str]()
    if not message:
        message, reason, causes = _read_status(answer)
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(message, status=status)
        case HTTPStatus.CONFLICT if reason == "AlreadyExists":
            return AlreadyExists(message, status=status)
        case HTTPStatus.CONFLICT:
            return Conflict(message, status=status)
        case HTTPStatus.GONE:
            return Gone(message, status=status)
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.UNAUTHORIZED | HTTPStatus.REQUEST_TIMEOUT:
            # 401: a token that was rotated this minute; the next try reads it again
            return Transient(message, status=status, retry_after=float(after) if after.isdecimal() else None)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # etcd's limits come as 500s; retrying these would never end
            kind = Refused if any(text in message for text in _TOO_LARGE) else Transient
            return kind(message, status=status)
        case _:
            return Refused(message, status=status, causes=causes)


def _read_status(answer: bytes) -> tuple[str, str, frozenset[str]]:
    """Return message, reason and the reasons of the causes; of anything but a ``Status`` its text as the message."""
    try:
        body = orjson.loads(answer)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        return answer[:_LONGEST_TEXT].decode("utf-8", "replace"), "", frozenset()
    causes = _fields(body.get("details")).get("causes")
    reasons = (_fields(cause).get("reason") for cause in (causes if isinstance(causes, list) else ()))
    return str(body.get("message") or ""), str(body.get("reason") or ""), frozenset(str(each or "") for each in reasons)


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
