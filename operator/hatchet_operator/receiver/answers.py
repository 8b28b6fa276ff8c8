"""Answers to clients: JSON, and errors with the HTTP status that tells them whether to try again."""

import logging
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from hatchet_operator.engine.triggers.events import EventRun, PushedEvent
from hatchet_operator.errors import (
    ApiError,
    DedupeViolation,
    IdempotencyCollision,
    InvalidRequest,
    NotFound,
    NotPermitted,
    NotReady,
    Refused,
    RequestError,
    SpawnConflict,
    Unauthenticated,
    UnknownObject,
    Unsupported,
)

log = logging.getLogger(__name__)

_STATUS: dict[type[RequestError | ApiError], HTTPStatus] = {
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    Unsupported: HTTPStatus.NOT_IMPLEMENTED,
    UnknownObject: HTTPStatus.NOT_FOUND,
    NotPermitted: HTTPStatus.FORBIDDEN,
    SpawnConflict: HTTPStatus.CONFLICT,
    DedupeViolation: HTTPStatus.CONFLICT,
    IdempotencyCollision: HTTPStatus.CONFLICT,
    NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    NotFound: HTTPStatus.NOT_FOUND,  # the namespace
    Refused: HTTPStatus.CONFLICT,  # a namespace that is being deleted, a quota, a missing right of ours
}
_AGAIN_SECONDS = "1"
_PATHS = (
    "there is no such path; expected POST /v1/namespaces/NAMESPACE/events/KEY, or "
    "/v1/namespaces/NAMESPACE/webhooks/WEBHOOKSOURCE"
)


class BadRequestError(Exception):
    """A request that is not an event; the message goes to its sender."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def started(event: PushedEvent, runs: list[EventRun]) -> web.Response:
    """Tell what an event started."""
    told = [{"workflow": run.workflow, "name": run.name, "created": run.created} for run in runs]
    return _json(HTTPStatus.OK, {"id": event.id, "key": event.key, "runs": told})


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer any error with a message."""
    try:
        return await handler(request)
    except BadRequestError as error:
        return _error(error.status, str(error))
    except (RequestError, ApiError) as error:
        return _error(status_of(error), words_of(error))
    except web.HTTPMethodNotAllowed as error:
        return _error(HTTPStatus.METHOD_NOT_ALLOWED, "events come by POST", {"Allow": error.headers["Allow"]})
    except web.HTTPNotFound:
        return _error(HTTPStatus.NOT_FOUND, _PATHS)
    except Exception as error:  # the boundary to clients; the error is reported and logged
        log.error("event not taken", extra={"path": request.path}, exc_info=error)
        return _error(HTTPStatus.INTERNAL_SERVER_ERROR, fault_of_ours(error))


def status_of(error: RequestError | ApiError) -> HTTPStatus:
    """Return the HTTP status of an error; any other answer of the API server may be temporary."""
    return _STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)


def words_of(error: RequestError | ApiError) -> str:
    return f"the API server says: {error}" if isinstance(error, ApiError) else str(error)


def fault_of_ours(error: Exception) -> str:
    return f"a fault of hatchet-operator ({type(error).__name__}); its log has the traceback: please report it"


def headers_of(status: HTTPStatus) -> dict[str, str]:
    """Return what clients need to know besides a status that is an error."""
    more = {}
    if status == HTTPStatus.UNAUTHORIZED:
        more["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        more["Retry-After"] = _AGAIN_SECONDS
    return more


def _error(status: HTTPStatus, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json(status, {"error": message}, {**headers_of(status), **(headers or {})})


def _json(status: HTTPStatus, body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body) + b"\n", content_type="application/json", headers=headers
    )
