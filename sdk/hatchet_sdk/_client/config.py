"""Where the operator is and how to speak to it: from arguments, else the environment, else the token's claims."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, get_args

from hatchet_sdk.errors import NotConfigured

TlsStrategy = Literal["tls", "mtls", "none"]

_HOW_TO_CONFIGURE = (
    "In a worker pod of hatchet-operator the environment says it; to try a program on this machine, run it with "
    '"hatchet-operator dev worker.py". Otherwise set HATCHET_CLIENT_TOKEN (its claims may name the address), '
    "HATCHET_CLIENT_HOST_PORT=host:port and, without TLS, HATCHET_CLIENT_TLS_STRATEGY=none, "
    "or pass Hatchet(config=ClientConfig(host_port=..., token=...))."
)


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """How to reach the operator. What is None is read from ``HATCHET_CLIENT_<NAME>`` at the first use.

    Args:
        host_port: Address of the operator; default: the claim ``grpc_broadcast_address`` of the token.
        host_port_file: File with the address, which is renewed when it moves, as in a worker pod; where it is missing
            or empty, ``host_port`` counts.
        token: Bearer token.
        token_file: File with a bearer token that is renewed, as in a worker pod; before ``token``.
        namespace: Prefix of all workflow and worker names, "" for none.
        tls_strategy: ``tls`` (default), ``mtls`` or ``none``.
        tls_root_ca_file: PEM file of the authority to trust instead of the system's.
        tls_server_name: Name expected in the operator's certificate, where it is not the host's.
        tls_cert_file: PEM file of the client's certificate, for ``mtls``.
        tls_key_file: PEM file of the client's key, for ``mtls``.
    """

    host_port: str | None = None
    host_port_file: str | None = None
    token: str | None = None
    token_file: str | None = None
    namespace: str | None = None
    tls_strategy: TlsStrategy | None = None
    tls_root_ca_file: str | None = None
    tls_server_name: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A complete configuration."""

    address: str
    address_file: str | None
    token: str | None
    token_file: str | None
    prefix: str
    tls_strategy: TlsStrategy
    tls: ClientConfig

    def prefixed(self, name: str) -> str:
        """Put the namespace before a name, once."""
        return prefixed(name, self.prefix)


def prefixed(name: str, prefix: str) -> str:
    """Put a namespace before the name of a workflow, once: calls and registrations mean the same workflow by it."""
    return name if name.startswith(prefix) else prefix + name


def endpoint_of(config: ClientConfig, environ: Mapping[str, str]) -> Endpoint:
    """Complete a configuration from the environment.

    Raises:
        NotConfigured: There is no address, or a value makes no sense.
    """
    if config.token and not config.token_file:  # what a program says counts more than its environment
        environ = {name: value for name, value in environ.items() if name != "HATCHET_CLIENT_TOKEN_FILE"}
    if config.host_port and not config.host_port_file:
        environ = {name: value for name, value in environ.items() if name != "HATCHET_CLIENT_HOST_PORT_FILE"}
    found = {field.name: environ.get(f"HATCHET_CLIENT_{field.name.upper()}") for field in fields(config)}
    missing: dict[str, Any] = {name: value for name, value in found.items() if value and not getattr(config, name)}
    config = replace(config, **missing)
    strategy = config.tls_strategy or "tls"
    if strategy not in get_args(TlsStrategy):
        raise NotConfigured(f'TLS strategy "{strategy}" is not known (expected tls, mtls or none)')
    token = _checked_token(config.token)
    address = config.host_port or _broadcast_address(token)
    if not address:
        raise NotConfigured(f"The address of hatchet-operator is not configured. {_HOW_TO_CONFIGURE}")
    return Endpoint(
        address=address,
        address_file=config.host_port_file,
        token=token,
        token_file=config.token_file,
        prefix=prefix_of(config, environ),
        tls_strategy=strategy,
        tls=config,
    )


def _checked_token(token: str | None) -> str | None:
    """Return a token without the line break that its file had; gRPC takes no other strange character."""
    token = token.strip() if token else None
    if token and not (token.isascii() and token.isprintable()):
        raise NotConfigured("the token (HATCHET_CLIENT_TOKEN, or ClientConfig.token) has characters that no token has")
    return token


def prefix_of(config: ClientConfig, environ: Mapping[str, str]) -> str:
    """Return what all names of workflows and workers begin with."""
    namespace = (config.namespace or environ.get("HATCHET_CLIENT_NAMESPACE") or "").lower()
    return namespace if not namespace or namespace.endswith("_") else f"{namespace}_"


def _broadcast_address(token: str | None) -> str | None:
    """Read the address out of a token; the signature is the operator's business."""
    try:
        claims = (token or "").split(".")[1]
        read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return None
    return cast("str | None", read.get("grpc_broadcast_address")) if isinstance(read, dict) else None
