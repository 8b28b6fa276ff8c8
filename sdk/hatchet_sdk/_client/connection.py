"""The gRPC channel, and which errors are retried: those that say nothing about the request itself.

Everything here runs in the I/O thread's loop.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from grpc import StatusCode

from hatchet_sdk._client.config import Endpoint
from hatchet_sdk._client.pace import Pace
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceStub
from hatchet_sdk.contracts.headers import DIRECT, MANY, NAMES, RUN_IDS
from hatchet_sdk.contracts.refusals import DEDUPE_VIOLATION
from hatchet_sdk.contracts.runs_pb2_grpc import RunsStub
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub
from hatchet_sdk.errors import (
    AccessDenied,
    DedupeViolationErr,
    HatchetError,
    InvalidRequest,
    NotConfigured,
    OperatorUnavailable,
    RequestRefused,
)

if TYPE_CHECKING:  # they exist for type checkers only
    from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherAsyncStub
    from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceAsyncStub
    from hatchet_sdk.contracts.runs_pb2_grpc import RunsAsyncStub
    from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

OpenChannel = Callable[[Endpoint, bytes | None], grpc.aio.Channel]

CALL_SECONDS = 30.0  # how long one try may take; the operator may keep a call open while the API server is down
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 0.05, 5.0
_SOON_SECONDS, _SOON_TRIES = 1.0, 25  # as long as another operator may be about to take over: about 15 s
_COMPLAINT_SECONDS = 5.0

TRANSIENT = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.ABORTED,
        StatusCode.CANCELLED,  # a server that stops; our own cancellation raises CancelledError instead
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
    }
)

_REFUSALS: Mapping[StatusCode, type[RequestRefused]] = {
    StatusCode.UNAUTHENTICATED: AccessDenied,
    StatusCode.PERMISSION_DENIED: AccessDenied,
    StatusCode.INVALID_ARGUMENT: InvalidRequest,
}

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    # An operator that is frozen or cut off must be left well within the 30 s that its successor waits for us. The
    # first of these two does it (measured with gRPC 1.85: after 17 to 19 s; without it after 69, whatever the other).
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),  # retries are decided here
    # Reconnect about as eagerly as calls are retried, or a restarted operator would be found seconds late.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

log = logging.getLogger("hatchet_sdk")


def delay_after(tries: int) -> float:
    """Return the seconds to wait after this many failures: doubling, with jitter to spread many clients out."""
    bound = _SOON_SECONDS if tries < _SOON_TRIES else _LAST_DELAY_SECONDS
    longest = min(bound, _FIRST_DELAY_SECONDS * 2.0 ** min(tries, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def delays() -> Iterator[float]:
    """Yield the waits between tries, forever."""
    return map(delay_after, itertools.count())


def refusal(
    code: StatusCode, message: str | None, kinds: Mapping[StatusCode, type[RequestRefused]] = _REFUSALS
) -> RequestRefused:
    """Turn a definite answer into an error."""
    kind = kinds.get(code) or _REFUSALS.get(code, RequestRefused)
    if code is StatusCode.ALREADY_EXISTS and (message or "").startswith(DEDUPE_VIOLATION):
        kind = DedupeViolationErr
    return kind(message or f"the operator refused the request ({code.name})")


class RenewedFile:
    """The content of a file that is renewed; it is read again when the last read is some seconds old."""

    def __init__(self, path: str, name: str, *, again_after: float, optional: bool = False) -> None:
        self._path = path
        self._again_after = again_after  # seconds
        self._content = b"" if optional and not Path(path).exists() else _read(path, name)
        self._read_again_at = time.monotonic() + self._again_after

    @property
    def content(self) -> bytes:
        if time.monotonic() >= self._read_again_at:
            self._read_again_at = time.monotonic() + self._again_after
            with contextlib.suppress(OSError):  # while it is being replaced, its previous content is still valid
                self._content = Path(self._path).read_bytes()
        return self._content


class _Channel:
    """One channel, with the stubs of the operator's services."""

    def __init__(self, channel: grpc.aio.Channel, endpoint: Endpoint, root_ca: bytes | None) -> None:
        self.address = endpoint.address
        self.root_ca = root_ca
        self.dispatcher = DispatcherStub(channel)
        self.workflows = WorkflowServiceStub(channel)
        self.events = EventsServiceStub(channel)
        self.runs = RunsStub(channel)


class Connection:
    """The connection to one operator: its services, and the bearer token of each call.

    Tokens and authorities are renewed while a worker runs, and the operator may move. A call uses the token that is in
    the file at that time; if there is a new authority to trust, or a new address, new calls go over a new
    channel, and those in flight end on the old one.

    Args:
        endpoint: Where the operator is.
        pace: For how long files that were read count.
        open_channel: Opens a channel to an endpoint, which trusts an authority; None: the system's. Default:
            `open_channel_to`.
    """

    def __init__(self, endpoint: Endpoint, pace: Pace, *, open_channel: OpenChannel | None = None) -> None:
        self._endpoint = endpoint
        self._open_channel = open_channel or open_channel_to
        renewed = partial(RenewedFile, again_after=pace.read_again)
        file = endpoint.address_file
        self._address_file = renewed(file, "host_port_file", optional=True) if file else None
        self._token_file = renewed(endpoint.token_file, "token_file") if endpoint.token_file else None
        ca_file = endpoint.tls.tls_root_ca_file if endpoint.tls_strategy != "none" else None
        self._ca_file = renewed(ca_file, "tls_root_ca_file") if ca_file else None
        self._channels = [self._open(self._address, self._root_ca)]
        self._complain_again_at = 0.0
        self._says: tuple[tuple[str, str], ...] = ((RUN_IDS, NAMES), (MANY, "1"))
        if endpoint.store is not None:
            self._says = (*self._says, (DIRECT, "1"))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._token_file.content.decode().strip() if self._token_file else self._endpoint.token
        return (("authorization", f"bearer {token}"), *self._says) if token else self._says

    @property
    def dispatcher(self) -> "DispatcherAsyncStub":
        return self._channel().dispatcher

    @property
    def workflows(self) -> "WorkflowServiceAsyncStub":
        return self._channel().workflows

    @property
    def events(self) -> "EventsServiceAsyncStub":
        return self._channel().events

    @property
    def runs(self) -> "RunsAsyncStub":
        return self._channel().runs

    def _channel(self) -> _Channel:
        newest, address, root_ca = self._channels[-1], self._address, self._root_ca
        if (address, root_ca) != (newest.address, newest.root_ca):
            newest = self._open(address, root_ca)
            self._channels.append(newest)  # the old ones stay, idle: closing one would cancel its calls
        return newest

    @property
    def address(self) -> str:
        return self._channels[-1].address

    @property
    def _address(self) -> str:
        return (self._address_file.content.decode().strip() if self._address_file else "") or self._endpoint.address

    @property
    def _root_ca(self) -> bytes | None:
        return self._ca_file.content if self._ca_file else None

    def _open(self, address: str, root_ca: bytes | None) -> _Channel:
        endpoint = self._endpoint
        if address != endpoint.address:  # elsewhere the certificate is for another name
            name = address.rpartition(":")[0].strip("[]") if endpoint.tls.tls_server_name else None
            endpoint = replace(endpoint, address=address, tls=replace(endpoint.tls, tls_server_name=name))
        return _Channel(self._open_channel(endpoint, root_ca), endpoint, root_ca)

    async def call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        patience_seconds: float | None = None,
        refusals: Mapping[StatusCode, type[RequestRefused]] = _REFUSALS,
    ) -> Response:
        """Call until answered.

        Args:
            method: A stub's method.
            request: Its request; must be safe to repeat.
            patience_seconds: When to give up; None: never.
            refusals: What a definite answer means here.

        Raises:
            RequestRefused: The operator refused.
            OperatorUnavailable: Patience ran out.
        """
        loop = asyncio.get_running_loop()
        give_up_at = None if patience_seconds is None else loop.time() + patience_seconds
        for delay in delays():
            try:
                return await self.call_once(method, request)
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    raise refusal(error.code(), error.details(), refusals) from None
                if give_up_at is not None and loop.time() + delay > give_up_at:
                    raise self.unavailable(error.details()) from None
                self.complain(error.details())
            await asyncio.sleep(delay)
        raise AssertionError("delays never end")

    async def call_once(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]", request: Request
    ) -> Response:
        """Call once; raises what gRPC raises."""
        return await method(request, metadata=self.metadata, timeout=CALL_SECONDS)

    def complain(self, reason: str | None) -> None:
        """Log that the operator does not answer, at most once every few seconds in this process."""
        now = asyncio.get_running_loop().time()
        if now >= self._complain_again_at:
            self._complain_again_at = now + _COMPLAINT_SECONDS
            log.warning("hatchet-operator at %s does not answer, trying again: %s", self.address, reason)

    def unavailable(self, reason: str | None) -> HatchetError:
        """Return the error of a caller whose patience ran out."""
        return OperatorUnavailable(f"hatchet-operator at {self.address} does not answer: {reason}")


def open_channel_to(endpoint: Endpoint, root_ca: bytes | None, *, idle_seconds: float = 30.0) -> grpc.aio.Channel:
    """Open a channel. One that is unused for some time, as its authority was replaced, does not retry forever."""
    options: list[tuple[str, int | str]] = list(_CHANNEL_OPTIONS)
    options.append(("grpc.client_idle_timeout_ms", int(idle_seconds * 1000)))
    # A machine's or a pod's http_proxy is for the web; the operator is near, and not behind a proxy unless one is
    # set by the variable that only gRPC knows.
    options.append(("grpc.enable_http_proxy", int("grpc_proxy" in os.environ)))
    if endpoint.tls_strategy == "none":
        return grpc.aio.insecure_channel(endpoint.address, options=options)
    if endpoint.tls.tls_server_name:
        options.append(("grpc.ssl_target_name_override", endpoint.tls.tls_server_name))
    mutual = endpoint.tls_strategy == "mtls"
    credentials = grpc.ssl_channel_credentials(
        root_certificates=root_ca,
        private_key=_pem(endpoint.tls.tls_key_file, "tls_key_file", needed=mutual) if mutual else None,
        certificate_chain=_pem(endpoint.tls.tls_cert_file, "tls_cert_file", needed=mutual) if mutual else None,
    )
    return grpc.aio.secure_channel(endpoint.address, credentials, options=options)


def _pem(path: str | None, name: str, *, needed: bool = False) -> bytes | None:
    if path:
        return _read(path, name)
    if needed:
        raise NotConfigured(f"TLS strategy mtls needs HATCHET_CLIENT_{name.upper()} (or ClientConfig({name}=...))")
    return None


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise NotConfigured(f"HATCHET_CLIENT_{name.upper()} names a file that cannot be read: {error}") from None
