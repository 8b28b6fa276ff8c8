"""One call of the REST API: whose it is, what it asks for, and errors in the form that Hatchet's clients read.

The status says to these clients whether to try again: they repeat what is answered with 404 or 5xx, for a quarter of a
minute. So what this version does not serve is a 405, which they report at once.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from multidict import MultiMapping
from pydantic import ValidationError

from hatchet_operator.access.identity import Caller
from hatchet_operator.errors import ApiError, InvalidRequest, NotPermitted, RequestError
from hatchet_operator.receiver.answers import BadRequestError, fault_of_ours, headers_of, status_of, words_of
from hatchet_operator.receiver.requests import read_body
from hatchet_operator.receiver.rest.models import Error, Errors, Pagination, RestModel
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_operator.resources.names import tenant_id
from hatchet_operator.resources.reasons import Phase

log = logging.getLogger(__name__)

PAGE = 50
_MAX_SKIPPED = 1_000_000
_BOOLEANS = {"true": True, "false": False}

Model = TypeVar("Model", bound=RestModel)


class Unserved(Exception):
    """A request that this version does not serve.

    Args:
        message: What to do instead.
        allowed: The methods that are served at its path.
    """

    def __init__(self, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request whose sender is known.

    Attributes:
        request: The request.
        caller: Whose token it has.
        path: The variable parts of its path, by name.
    """

    request: web.Request
    caller: Caller
    path: Mapping[str, str]

    @property
    def namespace(self) -> str:
        return self.caller.namespace

    @property
    def query(self) -> MultiMapping[str]:
        return self.request.query

    def check_tenant(self) -> None:
        """Refuse a tenant that is not the caller's namespace.

        Raises:
            NotPermitted: It is another one.
        """
        given = self.path.get("tenant")
        if given is not None and given != tenant_id(self.namespace):
            raise NotPermitted(f'{self.caller} is of namespace "{self.namespace}", which is not tenant {given}')

    async def body(self, model: type[Model]) -> Model:
        """Read the body.

        Raises:
            BadRequestError: It is no JSON, too large, or does not come in time.
            InvalidRequest: A field is missing, or makes no sense.
        """
        text = await read_body(self.request)
        try:
            return model.model_validate_json(text or b"{}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise InvalidRequest(f"{where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    skip: int
    limit: int

    def shown(self, total: int) -> Pagination:
        """Return which page this is of a list of so many."""
        pages = max(1, -(-total // self.limit))
        current = min(self.skip // self.limit + 1, pages)
        return Pagination(current_page=current, next_page=min(current + 1, pages), num_pages=pages)


def page_of(query: MultiMapping[str]) -> Page:
    """Read which page is asked for.

    Raises:
        InvalidRequest: A number is none, or out of its bounds.
    """
    return Page(
        skip=_number(query, "offset", 0, least=0, most=_MAX_SKIPPED),
        limit=_number(query, "limit", PAGE, least=1, most=MAX_BULK_ITEMS),
    )


def flag_of(query: MultiMapping[str], name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if (value := _BOOLEANS.get(text.lower())) is None:
        raise InvalidRequest(f'{name} is "{text[:20]}"; expected true or false')
    return value


def time_of(text: str | None, name: str) -> datetime | None:
    """Read a time; a time without a zone is UTC."""
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f'{name} is "{text[:40]}"; expected a time as in 2030-01-31T12:00:00Z') from error
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def phases_of(names: list[str] | tuple[str, ...], statuses: Mapping[str, Phase]) -> tuple[Phase, ...]:
    """Read the statuses that a filter names, in one of the two vocabularies."""
    try:
        return tuple(dict.fromkeys(statuses[name.upper()] for name in names))
    except KeyError as error:
        raise InvalidRequest(f"there is no status {error}; expected {', '.join(statuses)}") from error


def metadata_of(entries: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Read what a filter wants of the metadata: ``key:value`` each."""
    read = {}
    for entry in entries:
        key, colon, value = entry.partition(":")
        if not colon:
            raise InvalidRequest(f'additional metadata "{entry[:40]}" is not key:value')
        read[key] = value
    return read


def answer(model: RestModel) -> web.Response:
    return web.Response(body=model.to_json(), content_type="application/json")


def error_answer(error: Exception, path: str) -> web.Response:
    """Return the answer to a call that failed."""
    match error:
        case BadRequestError():
            return _error(error.status, str(error))
        case Unserved():
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, str(error), {"Allow": ", ".join(error.allowed)})
        case RequestError() | ApiError():
            return _error(status_of(error), words_of(error))
        case _:
            log.error("call of the REST API failed", extra={"path": path}, exc_info=error)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, fault_of_ours(error))


def _error(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=Errors(errors=(Error(description=message),)).to_json(),
        content_type="application/json",
        headers={**headers_of(status), **(headers or {})},
    )


def _number(query: MultiMapping[str], name: str, default: int, *, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise InvalidRequest(f'{name} is "{text[:20]}"; expected {least} to {most}')
    return int(text)
