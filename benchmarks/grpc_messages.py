"""How many messages a gRPC server receives and sends: counted where they are parsed and made, at next to no cost."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import grpc


@contextmanager
def count_messages() -> Iterator[Counter[str]]:
    """Count the messages of all asyncio servers that are made in the block, by "received" or "sent" and the method."""
    counts: Counter[str] = Counter()
    make = grpc.aio.server

    def make_counting(*args: Any, **kwargs: Any) -> grpc.aio.Server:
        server = make(*args, **kwargs)
        add, add_generic = server.add_registered_method_handlers, server.add_generic_rpc_handlers

        def add_counting(service_name: str, method_handlers: Mapping[str, Any]) -> None:
            add(service_name, {name: _counting(each, name, counts) for name, each in method_handlers.items()})

        def add_generic_counting(generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
            add_generic(tuple(_CountingHandler(each, counts) for each in generic_rpc_handlers))

        server.add_registered_method_handlers = add_counting  # type: ignore[method-assign]
        server.add_generic_rpc_handlers = add_generic_counting  # type: ignore[method-assign]
        return server

    with mock.patch.object(grpc.aio, "server", make_counting):
        yield counts


class _CountingHandler(grpc.GenericRpcHandler):
    """Counts the messages of methods that are not registered."""

    def __init__(self, inner: grpc.GenericRpcHandler, counts: Counter[str]) -> None:
        self._inner = inner
        self._counts = counts

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler: Any = self._inner.service(details)
        if getattr(handler, "request_deserializer", None) is None:
            return handler
        return _counting(handler, details.method.rpartition("/")[2], self._counts)


def _counting(handler: Any, method: str, counts: Counter[str]) -> Any:
    def counted(what: str, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        key = f"{what} {method}"

        def count(value: Any) -> Any:
            counts[key] += 1
            return convert(value)

        return count

    return handler._replace(
        request_deserializer=counted("received", handler.request_deserializer),
        response_serializer=counted("sent", handler.response_serializer),
    )
