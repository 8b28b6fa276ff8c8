"""Common to all calls: finding the caller, and errors as gRPC statuses.

RequestError     the status of its class, and its message
ApiError         the API server's words, and the status that tells a client whether to retry the call
anything else    INTERNAL: a fault of ours, logged with its traceback
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from hatchet_operator.access.callers import WHO_ARE_YOU, Callers
from hatchet_operator.access.identity import Caller
from hatchet_operator.errors import (
    ApiError,
    DedupeViolation,
    IdempotencyCollision,
    IdempotencyCollisions,
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
from hatchet_sdk.contracts import admin_v1_pb2 as v1
from hatchet_sdk.contracts.headers import DIRECT, MANY, NAMES, RUN_IDS
from hatchet_sdk.contracts.refusals import DEDUPE_VIOLATION, IDEMPOTENCY_COLLISION

log = logging.getLogger(__name__)

T = TypeVar("T")

_BEARER = "bearer "
_READ_OUT_SECONDS = 0.5
_STATUS_DETAILS = "grpc-status-details-bin"

_STATUS: dict[type[RequestError | ApiError], grpc.StatusCode] = {
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    UnknownObject: grpc.StatusCode.NOT_FOUND,
    StaleAttempt: grpc.StatusCode.FAILED_PRECONDITION,
    SpawnConflict: grpc.StatusCode.ALREADY_EXISTS,
    DedupeViolation: grpc.StatusCode.ALREADY_EXISTS,
    IdempotencyCollision: grpc.StatusCode.ALREADY_EXISTS,
    IdempotencyCollisions: grpc.StatusCode.ALREADY_EXISTS,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    NotFound: grpc.StatusCode.NOT_FOUND,  # the namespace, most of the time
    Refused: grpc.StatusCode.FAILED_PRECONDITION,  # a namespace that is being deleted, a quota, a missing right of ours
}


class Context(Protocol):
    """The part of a gRPC call's context that is used."""

    def invocation_metadata(self) -> Any: ...
    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[tuple[str, bytes], ...] = ()
    ) -> None: ...


class Servicer(Protocol):
    """A servicer that can find its caller."""

    @property
    def callers(self) -> Callers: ...


def status_of(error: RequestError | ApiError) -> grpc.StatusCode:
    """Return the gRPC status of an error; any other answer of the API server may be temporary."""
    return _STATUS.get(type(error), grpc.StatusCode.UNAVAILABLE)


def words_of(error: RequestError | ApiError) -> str:
    if isinstance(error, IdempotencyCollision | IdempotencyCollisions):
        return IDEMPOTENCY_COLLISION
    if isinstance(error, DedupeViolation):
        return f"{DEDUPE_VIOLATION} {error.value} already exists: {error.taken_by}"
    return f"the API server says: {error}" if isinstance(error, ApiError) else str(error)


def _details_of(error: RequestError | ApiError) -> tuple[tuple[str, bytes], ...]:
    """Return what clients read of an error beside its words: google.rpc.Status, as Hatchet sends it."""
    detail: Message
    if isinstance(error, IdempotencyCollision):
        detail = _collision(error.run)
    elif isinstance(error, IdempotencyCollisions):
        detail = v1.BulkTriggerIdempotencyCollisionError(
            successful_workflow_run_external_ids=error.created, collisions=map(_collision, error.collisions)
        )
    else:
        return ()
    status = v1.RpcStatus(code=status_of(error).value[0], message=words_of(error))
    status.details.add().Pack(detail)
    return ((_STATUS_DETAILS, status.SerializeToString()),)


def _collision(run: str) -> v1.IdempotencyCollisionError:
    return v1.IdempotencyCollisionError(existing_run_external_id=run)


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    """Abort a call with what its client may know about an error."""
    if isinstance(error, RequestError | ApiError):
        if details := _details_of(error):
            await context.abort(status_of(error), words_of(error), details)
        await context.abort(status_of(error), words_of(error))
    else:
        log.error("call failed", extra={"method": method}, exc_info=error)
        words = (
            f"{method} failed because of a bug in hatchet-operator ({type(error).__name__}); its log has the traceback"
        )
        await context.abort(grpc.StatusCode.INTERNAL, f"{words}: please report it, and try again")
    raise AssertionError("abort raises") from error


async def find_caller(callers: Callers, context: Context) -> Caller:
    """Find the caller by ``authorization: bearer <token>``; raises what `Callers.find` raises."""
    said = dict(context.invocation_metadata() or ())
    value = said.get("authorization")
    if not isinstance(value, str) or value[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated(WHO_ARE_YOU)
    token = value[len(_BEARER) :]
    caller = callers.known(token) or await callers.find(token)
    names, references, many = said.get(RUN_IDS) == NAMES, DIRECT in said, MANY in said
    if not (names or references or many):
        return caller
    return replace(caller, takes_names=names, takes_references=references, takes_many=many)


async def _read_out(requests: object) -> None:
    """Read what a client still sends, for a moment, before its call is refused at the door.

    A server that ends a call whose client has not ended its half resets the stream, and a client that comes to the
    reset first is told INTERNAL instead of why. A call with one message ends its half at once; streams are not waited
    for.
    """
    if isinstance(requests, AsyncIterator):
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_OUT_SECONDS):
                async for _ in requests:
                    continue


S = TypeVar("S", bound=Servicer)
Request = TypeVar("Request")


def unary(
    method: Callable[[S, Request, Caller], Awaitable[T]],
) -> Callable[[S, Request, Any], Awaitable[T]]:
    """Make a gRPC handler from a method that takes a request and its caller."""

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
    """Make a gRPC handler from an async generator that takes a request (or a stream of them) and its caller."""

    @wraps(method)
    async def handler(servicer: S, request: Request, context: Any) -> AsyncIterator[T]:
        caller: Caller | None = None
        try:
            caller = await find_caller(servicer.callers, context)
            async for item in method(servicer, request, caller):
                yield item
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is told and logged
            if caller is None:
                await _read_out(request)
            await _abort(context, method.__name__, error)

    return handler


def unserved(what: str) -> Any:
    """Make a gRPC handler for calls of any kind that says what this version does not support."""

    async def handler(servicer: Servicer, request: Any, context: Context) -> None:
        try:
            await find_caller(servicer.callers, context)
            raise Unsupported(f"this version of hatchet-operator has no {what}")
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is told and logged
            await _abort(context, what, error)

    return handler


class UnservedServices(grpc.GenericRpcHandler):
    """Answers calls of missing services, so that clients tell their users more than a method's name."""

    def __init__(self, callers: Callers) -> None:
        self.callers = callers

    def service(self, details: Any) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return a handler for any method: seen from the wire, a call with one message is a stream of one."""
        method: str = details.method.removeprefix("/")

        async def handler(requests: AsyncIterator[bytes], context: Context) -> None:
            try:
                await _read_out(requests)
                await find_caller(self.callers, context)
                if method in _REOPENED:
                    await context.abort(grpc.StatusCode.CANCELLED, _words_on(method))
                raise Unsupported(_words_on(method))
            except (RequestError, ApiError) as error:
                await _abort(context, method, error)

        return grpc.stream_stream_rpc_method_handler(handler)


_REOPENED = {"v1.V1Dispatcher/DurableTask", "v1.V1Dispatcher/ListenForDurableEvent"}
"""Streams that clients reopen after any error except CANCELLED, every three seconds, forever."""

_USED_FOR = {
    "v1.AdminService": "Hatchet's SDKs from 1.0 on cancel and replay runs with it; kubectl patches them",
    "v1.V1Dispatcher": "durable tasks of Hatchet's SDKs from 1.0 on need it",
    "opentelemetry.proto.collector.trace.v1.TraceService": "Hatchet's SDKs from 1.0 on send traces to it: name a "
    "collector of yours, or don't instrument",
}


def _words_on(method: str) -> str:
    use = _USED_FOR.get(method) or _USED_FOR.get(method.partition("/")[0])
    if use is None:
        return f"this version of hatchet-operator has no {method}; docs/published-sdk.md says what it has"
    return f"this version of hatchet-operator has no {method} ({use}): docs/published-sdk.md says what it has"
