"""What a client and the operator's log are told when a call can't be answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from hatchet_operator.access.callers import WHO_ARE_YOU
from hatchet_operator.access.identity import Caller
from hatchet_operator.dispatcher.calls import UnservedServices, streaming, unary, unserved
from hatchet_operator.errors import Conflict, NotFound, NotReady, Refused, StaleAttempt, Transient
from tests.kube.virtual_time import VirtualTimeLoop

CALLER = Caller(namespace="default", pool="main")


class Aborted(Exception):
    pass


class Context:
    def __init__(self, token: str | None = "token") -> None:  # of a test
        self.told: tuple[grpc.StatusCode, str] | None = None
        self._metadata = [("authorization", f"bearer {token}")] if token else []

    def invocation_metadata(self) -> Any:
        return self._metadata

    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        assert self.told is None
        self.told = (code, details)
        raise Aborted


class Callers:
    def known(self, token: str) -> Caller:
        return CALLER


class Servicer:
    callers: Any = Callers()

    def __init__(self, error: Exception) -> None:
        self.error = error

    @unary
    async def Call(self, request: object, caller: Caller) -> None:  # noqa: N802  # named by a protocol
        raise self.error

    @streaming
    async def Stream(self, request: object, caller: Caller) -> AsyncIterator[int]:  # noqa: N802
        yield 1
        raise self.error

    Nothing = unserved("such thing")


async def told(servicer: Servicer, method: str, context: Context) -> tuple[grpc.StatusCode, str]:
    async def call() -> None:
        if method == "Stream":
            async for item in servicer.Stream(None, context):
                assert item == 1
        else:
            await getattr(servicer, method)(None, context)

    with pytest.raises(Aborted):
        await call()
    assert context.told is not None
    return context.told


@pytest.mark.parametrize("method", ["Call", "Stream"])
@pytest.mark.parametrize(
    ("error", "want_code", "want_words"),
    [
        pytest.param(StaleAttempt("it is over"), grpc.StatusCode.FAILED_PRECONDITION, "it is over", id="our own no"),
        pytest.param(NotReady("soon"), grpc.StatusCode.UNAVAILABLE, "soon", id="not yet"),
        pytest.param(
            NotFound('namespaces "a" not found', status=404),
            grpc.StatusCode.NOT_FOUND,
            'the API server says: namespaces "a" not found',
            id="a namespace that is gone",
        ),
        pytest.param(
            Refused("it is being terminated", status=403),
            grpc.StatusCode.FAILED_PRECONDITION,
            "the API server says: it is being terminated",
            id="a namespace that is being deleted",
        ),
        pytest.param(
            Conflict("changed", status=409),
            grpc.StatusCode.UNAVAILABLE,
            "the API server says: changed",
            id="a conflict",
        ),
        pytest.param(
            Transient("not sent"), grpc.StatusCode.UNAVAILABLE, "the API server says: not sent", id="a deposed leader"
        ),
    ],
)
async def test_errors_that_clients_understand(
    method: str, error: Exception, want_code: grpc.StatusCode, want_words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await told(Servicer(error), method, Context()) == (want_code, want_words)
    assert not caplog.records


@pytest.mark.parametrize("method", ["Call", "Stream"])
async def test_a_fault_of_ours_is_said_to_be_one_and_logged_once(method: str, caplog: pytest.LogCaptureFixture) -> None:
    code, words = await told(Servicer(KeyError("secret")), method, Context())
    assert code is grpc.StatusCode.INTERNAL
    assert words == (
        f"{method} failed because of a bug in hatchet-operator (KeyError); its log has the traceback: "
        "please report it, and try again"
    )
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "call failed")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_what_is_not_served_is_named_to_those_who_may_know() -> None:
    want = (grpc.StatusCode.UNIMPLEMENTED, "this version of hatchet-operator has no such thing")
    assert await told(Servicer(KeyError()), "Nothing", Context()) == want
    want = (grpc.StatusCode.UNAUTHENTICATED, WHO_ARE_YOU)
    for method in ("Call", "Nothing"):
        assert await told(Servicer(KeyError()), method, Context(token=None)) == want


class Requests:
    """What a client sends: a message, and then perhaps the end of its half."""

    def __init__(self, *, ends: bool = True) -> None:
        self.ends = ends
        self.is_read_out = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b""
        if not self.ends:
            await asyncio.Event().wait()
        self.is_read_out = True


async def refuse(kind: str, requests: AsyncIterator[bytes], context: Context) -> None:
    if kind == "a stream":
        async for _ in Servicer(KeyError()).Stream(requests, context):
            raise AssertionError("a stranger is told something")
    else:
        handler: Any = UnservedServices(Callers()).service(Details)  # type: ignore[arg-type]  # a part of it
        await handler.stream_stream(requests, context)


class Details:
    method = "/some.Thing/Else"


@pytest.mark.parametrize("kind", ["a stream", "a service that is not there"])
async def test_a_call_is_refused_when_its_client_has_said_everything(kind: str) -> None:
    requests, context = Requests(), Context(token=None)
    with pytest.raises(Aborted):
        await refuse(kind, aiter(requests), context)
    assert requests.is_read_out, "else the stream is reset, of which a client may hear before it hears why"
    assert context.told is not None


@pytest.mark.parametrize("kind", ["a stream", "a service that is not there"])
def test_a_client_that_goes_on_is_not_waited_for(kind: str) -> None:
    async def main() -> None:
        requests, context = Requests(ends=False), Context(token=None)
        with pytest.raises(Aborted):
            await asyncio.wait_for(refuse(kind, aiter(requests), context), 2)
        assert context.told is not None

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
