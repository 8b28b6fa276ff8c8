"""What every call goes through: who calls, and errors as gRPC statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.engine.callers import WHO_ARE_YOU, Callers
from hatchet_operator.errors import (
    InvalidRequest,
    NotPermitted,
    NotReady,
    RequestError,
    SpawnConflict,
    StaleAttempt,
    Unauthenticated,
    UnknownObject,
    Unsupported,
)
from hatchet_operator.identity import Caller

T = TypeVar("T")

_BEARER = "bearer "

_STATUS: dict[type[RequestError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    UnknownObject: grpc.StatusCode.NOT_FOUND,
    StaleAttempt: grpc.StatusCode.FAILED_PRECONDITION,
    SpawnConflict: grpc.StatusCode.ALREADY_EXISTS,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
}


class Context(Protocol):
    """The part of a gRPC call's context that is used."""

    def invocation_metadata(self) -> Any: ...
    async def abort(self, code: grpc.StatusCode, details: str = "") -> None: ...


class Servicer(Protocol):
    """A servicer that knows who calls."""

    @property
    def callers(self) -> Callers: ...


def status_of(error: RequestError) -> grpc.StatusCode:
    return _STATUS[type(error)]


async def find_caller(callers: Callers, context: Context) -> Caller:
    """Find who calls by ``authorization: bearer <token>``; raises what `Callers.find` raises."""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            token = value[len(_BEARER) :]
            return callers.known(token) or await callers.find(token)
    raise Unauthenticated(WHO_ARE_YOU)


async def _caller(servicer: Servicer, context: Context) -> Caller:
    try:
        return await find_caller(servicer.callers, context)
    except RequestError as error:
        await context.abort(status_of(error), str(error))
        raise AssertionError("abort raises") from error


S = TypeVar("S", bound=Servicer)
Request = TypeVar("Request")


def unary(
    method: Callable[[S, Request, Caller], Awaitable[T]],
) -> Callable[[S, Request, Any], Awaitable[T]]:
    """Make a gRPC handler of a method that takes a request and its caller."""

    @wraps(method)
    async def handler(servicer: S, request: Request, context: Any) -> T:
        caller = await _caller(servicer, context)
        try:
            return await method(servicer, request, caller)
        except RequestError as error:
            await context.abort(status_of(error), str(error))
            raise AssertionError("abort raises") from error

    return handler


def streaming(
    method: Callable[[S, Request, Caller], AsyncIterator[T]],
) -> Callable[[S, Request, Any], AsyncIterator[T]]:
    """Make a gRPC handler of an async generator that takes a request (or a stream of them) and its caller."""

    @wraps(method)
    async def handler(servicer: S, request: Request, context: Any) -> AsyncIterator[T]:
        caller = await _caller(servicer, context)
        try:
            async for item in method(servicer, request, caller):
                yield item
        except RequestError as error:
            await context.abort(status_of(error), str(error))

    return handler


def unserved(what: str) -> Any:
    """Make a gRPC handler of any kind that says what this version does not have."""

    async def handler(servicer: Servicer, request: Any, context: Context) -> None:
        await _caller(servicer, context)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"this version of hatchet-operator has no {what}")

    return handler


def now_stamp() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
