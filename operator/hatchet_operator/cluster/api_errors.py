"""Answers of the API server that are no success, as errors of our own."""

from http import HTTPStatus

import orjson

from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, Gone, NotFound, Refused, Transient

_TOO_LARGE = ("request is too large", "message larger than max")  # etcd's own words, above 1.5 MiB and above 2 MiB


def error_of(status: int, answer: bytes, after: str = "", *, message: str = "") -> ApiError:
    """Turn a Status answer into the error that says how to react to it."""
    reason, causes = "", frozenset[str]()
    if not message:
        try:
            body = orjson.loads(answer)
            message, reason = body.get("message", ""), body.get("reason", "")
            causes = frozenset(cause.get("reason", "") for cause in (body.get("details") or {}).get("causes") or [])
        except orjson.JSONDecodeError:
            message = answer[:500].decode("utf-8", "replace")
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
            return Transient(message, status=status, retry_after=float(after) if after.isdigit() else None)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # etcd's limits come as 500s; retrying these would never end
            kind = Refused if any(text in message for text in _TOO_LARGE) else Transient
            return kind(message, status=status)
        case _:
            return Refused(message, status=status, causes=causes)
