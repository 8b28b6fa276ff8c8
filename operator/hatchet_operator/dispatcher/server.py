"""The gRPC server: its port, its certificate, and the services of each version."""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import grpc

from hatchet_operator.access.certificates import KeyPair
from hatchet_operator.dispatcher import runs
from hatchet_operator.dispatcher.calls import UnservedServices
from hatchet_operator.dispatcher.v0 import services as v0
from hatchet_operator.dispatcher.v1 import services as v1
from hatchet_operator.engine.engine import Engine

RpcMethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_FREQUENT = frozenset({"TriggerWorkflow", "BulkTriggerWorkflow", "SendStepActionEvent", "SendBatchActionEvent"})


class Services(grpc.GenericRpcHandler):
    """The methods of all services; in place of the server, which generated code would register each of them with.

    The server awaits the next call of each registered method apart, and of all others together. With each call it goes
    through all that it awaits, so there should be few; but of those that it awaits together, it takes one call after
    the other. So the methods that are called for every child are registered, and no others.

    Args:
        server: Not started yet.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self._methods: dict[str, RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Called by generated code, with the methods that the next call has by name."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, RpcMethodHandler]) -> None:
        """Called by generated code, with all methods of a service."""
        self._methods |= {f"/{service}/{name}": method for name, method in methods.items()}
        frequent = {name: method for name, method in methods.items() if name in _FREQUENT}
        if frequent:
            self._server.add_registered_method_handlers(service, frequent)

    def service(self, details: grpc.HandlerCallDetails) -> "RpcMethodHandler | None":
        return self._methods.get(details.method)


class GrpcServer:
    """The gRPC server of one operator."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._server: grpc.aio.Server | None = None
        self._newer: grpc.ServerCertificateConfiguration | None = None

    async def start(self, host: str, port: int, certificate: KeyPair | None = None) -> int:
        """Listen, and return the port; without a certificate, in plain text.

        Keepalive: Hatchet's clients ping every 10 s, with and without calls; a server with gRPC's defaults would
        answer GOAWAY too_many_pings after about 35 s (protocol 0). SO_REUSEPORT would let two operators share a port.
        """
        server = self._server = grpc.aio.server(
            options=[
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.so_reuseport", 0),
            ]
        )
        services = Services(server)
        for add in (v0.add_services, v1.add_services, runs.add_service):
            add(self._engine, cast("grpc.aio.Server", services))
        server.add_generic_rpc_handlers((services, UnservedServices(self._engine.callers)))
        address = f"{host}:{port}"
        if certificate is None:
            bound = server.add_insecure_port(address)
        else:
            credentials = grpc.dynamic_ssl_server_credentials(
                _configuration(certificate),
                self._take_newer,  # type: ignore[arg-type]  # the stubs do not know that it may return None
            )
            bound = server.add_secure_port(address, credentials)
        await server.start()
        return bound

    def show(self, certificate: KeyPair) -> None:
        """Use another certificate for new connections; those that are open stay as they are."""
        self._newer = _configuration(certificate)

    def _take_newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a newer certificate; gRPC calls this before each handshake in its own thread; None: no change."""
        newer, self._newer = self._newer, None
        return newer

    async def stop(self, grace_seconds: float) -> None:
        if self._server is not None:
            await self._server.stop(grace_seconds)


def _configuration(certificate: KeyPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.certificate)])
