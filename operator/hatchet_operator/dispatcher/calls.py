"""What every call goes through: who calls, and errors as gRPC statuses.

RequestError     the status of its class, and its words
ApiError         the API server's words, and the status that tells a client whether to repeat the call
anything else    INTERNAL: a fault of ours, logged with its traceback
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.engine.callers import WHO_ARE_YOU, Callers
from hatchet_operator.errors import (
    ApiError,
    InvalidRequest,
    NotFound,
    NotPermitted,
    NotReady,
    Refused,
    RequestError,
    SpawnConflict,
    StaleAttempt,
    Unauthenticated,
    UnknownObject,
    Unsupported,
)
from hatchet_operator.identity import Caller
from hatchet_sdk.contracts.headers import NAMES, RUN_IDS

log = logging.getLogger(__name__)

T = TypeVar("T")

_BEARER = "bearer "

_STATUS: dict[type[RequestError | ApiError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    UnknownObject: grpc.StatusCode.NOT_FOUND,
    StaleAttempt: grpc.StatusCode.FAILED_PRECONDITION,
    SpawnConflict: grpc.StatusCode.ALREADY_EXISTS,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    NotFound: grpc.StatusCode.NOT_FOUND,  # the namespace, most of the time
    Refused: grpc.StatusCode.FAILED_PRECONDITION,  # a namespace that is being deleted, a quota, a right of ours
}


class Context(Protocol):
    """The part of a gRPC call's context that is used."""

    def invocation_metadata(self) -> Any: ...
    async def abort(self, code: grpc.StatusCode, details: str = "") -> None: ...


class Servicer(Protocol):
    """A servicer that knows who calls."""

    @property
    def callers(self) -> Callers: ...


def status_of(error: RequestError | ApiError) -> grpc.StatusCode:
    """Return the gRPC status of an error; whatever else the API server answers may be over in a moment."""
    return _STATUS.get(type(error), grpc.StatusCode.UNAVAILABLE)


def words_of(error: RequestError | ApiError) -> str:
    return f"the API server says: {error}" if isinstance(error, ApiError) else str(error)


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    """End a call with what its client may know of an error."""
    if isinstance(error, RequestError | ApiError):
        await context.abort(status_of(error), words_of(error))
    else:
        log.error("call failed", extra={"method": method}, exc_info=error)
        words = f"{method} failed by a fault of hatchet-operator ({type(error).__name__}); its log has the traceback"
        await context.abort(grpc.StatusCode.INTERNAL, f"{words}: please report it, and repeat the call")
    raise AssertionError("abort raises") from error


async def find_caller(callers: Callers, context: Context) -> Caller:
    """Find who calls by ``authorization: bearer <token>``; raises what `Callers.find` raises."""
    said = dict(context.invocation_metadata() or ())
    value = said.get("authorization")
    if not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated(WHO_ARE_YOU)
    token = value[len(_BEARER) :]
    caller = callers.known(token) or await callers.find(token)
    return replace(caller, takes_names=True) if said.get(RUN_IDS) == NAMES else caller


S = TypeVar("S", bound=Servicer)
Request = TypeVar("Request")


def unary(
    method: Callable[[S, Request, Caller], Awaitable[T]],
) -> Callable[[S, Request, Any], Awaitable[T]]:
    """Make a gRPC handler of a method that takes a request and its caller."""

    @wraps(method)
    async def handler(servicer: S, request: Request, context: Any) -> T:
        try:
            return await method(servicer, request, await find_caller(servicer.callers, context))
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is told and logged
            await _abort(context, method.__name__, error)

    return handler


def streaming(
    method: Callable[[S, Request, Caller], AsyncIterator[T]],
) -> Callable[[S, Request, Any], AsyncIterator[T]]:
    """Make a gRPC handler of an async generator that takes a request (or a stream of them) and its caller."""

    @wraps(method)
    async def handler(servicer: S, request: Request, context: Any) -> AsyncIterator[T]:
        try:
            async for item in method(servicer, request, await find_caller(servicer.callers, context)):
                yield item
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is told and logged
            await _abort(context, method.__name__, error)

    return handler


def unserved(what: str) -> Any:
    """Make a gRPC handler of any kind that says what this version does not have."""

    async def handler(servicer: Servicer, request: Any, context: Context) -> None:
        try:
            await find_caller(servicer.callers, context)
            raise Unsupported(f"this version of hatchet-operator has no {what}")
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is told and logged
            await _abort(context, what, error)

    return handler


class UnservedServices(grpc.GenericRpcHandler):
    """Answers calls of services that are not there, so that clients tell their users more than a method's name."""

    def __init__(self, callers: Callers) -> None:
        self.callers = callers

    def service(self, details: Any) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return a handler for any method: seen from the wire, a call with one message is a stream of one."""
        method: str = details.method.removeprefix("/")

        async def handler(requests: AsyncIterator[bytes], context: Context) -> None:
            try:
                await find_caller(self.callers, context)
                if method in _REOPENED:
                    await context.abort(grpc.StatusCode.CANCELLED, _words_on(method))
                raise Unsupported(_words_on(method))
            except (RequestError, ApiError) as error:
                await _abort(context, method, error)

        return grpc.stream_stream_rpc_method_handler(handler)


_REOPENED = {"v1.V1Dispatcher/DurableTask", "v1.V1Dispatcher/ListenForDurableEvent"}
"""Streams that clients open again after any error, every three seconds for ever, but for CANCELLED."""

_USED_FOR = {
    "v1.AdminService/PutWorkflow": "workers of Hatchet's SDKs from 1.0 on register with it",
    "v1.AdminService": "Hatchet's SDKs from 1.0 on ask for the details of runs with it",
    "v1.V1Dispatcher": "durable tasks of Hatchet's SDKs from 1.0 on need it",
    "opentelemetry.proto.collector.trace.v1.TraceService": "Hatchet's SDKs from 1.0 on send traces to it: name a "
    "collector of yours, or don't instrument",
}


def _words_on(method: str) -> str:
    use = _USED_FOR.get(method) or _USED_FOR.get(method.partition("/")[0])
    if use is None:
        return f"this version of hatchet-operator has no {method}; docs/published-sdk.md says what it has"
    return (
        f"this version of hatchet-operator has no {method} ({use}); workers are written as classes, with "
        "hatchet-operator-sdk or hatchet-sdk 0.47.1: see docs/published-sdk.md"
    )


def now_stamp() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
