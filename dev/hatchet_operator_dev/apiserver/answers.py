"""Answers over HTTP: bodies, warnings, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from aiohttp import web

from hatchet_operator_dev.apiserver.forms import Form, choose_form
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.routing import Query
from hatchet_operator_dev.apiserver.status import ApiError

JSON = "application/json"


def raw(body: bytes, code: int = 200, warnings: Iterable[str] = (), *, content_type: str = JSON) -> web.Response:
    response = web.Response(body=body, status=code, headers={"Content-Type": content_type})
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def json_answer(body: Object, code: int = 200) -> web.Response:
    return raw(orjson.dumps(body), code)


def failure(error: ApiError) -> web.Response:
    response = json_answer(error.body(), error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def no_such_path() -> web.Response:
    return web.Response(text="404 page not found\n", status=404)


def form_for(request: web.BaseRequest, kind: Kind, query: Query) -> Form:
    """Choose the form in which objects of a kind are shown to a client."""
    return choose_form(kind, request.headers.get("Accept", ""), query.get("includeObject", ""))
