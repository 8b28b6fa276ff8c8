"""Where the operator is and how to reach it: by arguments, otherwise the environment, otherwise the token's claims."""

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from hatchet_sdk._client.json_text import MAX_BYTES
from hatchet_sdk._lacking import words_on_arguments
from hatchet_sdk.errors import NotConfigured

TlsStrategy = Literal["tls", "mtls", "none"]

log = logging.getLogger("hatchet_sdk")

THROUGH_OPERATOR = "operator"
"""Value in place of a store's URL: the operator has a store, and reads and writes it for this process."""

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
        host_port_file: File with the address, which is renewed when it moves, as in a worker pod; if it is missing
            or empty, ``host_port`` applies.
        token: Bearer token.
        token_file: File with a bearer token that is renewed, as in a worker pod; takes precedence over ``token``.
        namespace: Prefix of all workflow and worker names, "" for none.
        tls_strategy: ``tls`` (default), ``mtls`` or ``none``.
        tls_root_ca_file: PEM file of the authority to trust instead of the system's.
        tls_server_name: Name expected in the operator's certificate, if it is not the host's.
        tls_cert_file: PEM file of the client's certificate, for ``mtls``.
        tls_key_file: PEM file of the client's key, for ``mtls``.
        payloads: URL of this namespace's folder in the payload store, as in a worker pod; this process reads and writes
            it itself, for which it needs this package's extra ``payloads``. ``operator``: the operator does it
            instead, with up to 3 MiB each.
        payloads_above: Inputs and outputs larger than this, in bytes, go there; default: 262144.
        payloads_key: Key that they are encrypted with.
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
    payloads: str | None = None
    payloads_above: int | None = None
    payloads_key: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            taken = (str, PathLike) if field.name.endswith("_file") else str
            if field.name != "payloads_above" and value is not None and not isinstance(value, taken):
                raise TypeError(f"ClientConfig: {field.name} is {value!r} (expected a str)")

    if not TYPE_CHECKING:

        def __new__(cls, **given: object) -> Self:
            known = {field.name for field in fields(cls)}
            if lacking := {name: value for name, value in given.items() if name not in known}:
                raise TypeError(words_on_arguments("ClientConfig()", lacking))
            return super().__new__(cls)


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
    payloads: str | None = None
    payloads_above: int = MAX_BYTES
    payloads_key: str | None = None

    @property
    def store(self) -> str | None:
        """Return the payload store that this process reads and writes itself; None: there is none."""
        return None if self.payloads == THROUGH_OPERATOR else self.payloads

    def prefixed(self, name: str) -> str:
        """Prefix a name with the namespace, once."""
        return prefixed(name, self.prefix)


def prefixed(name: str, prefix: str) -> str:
    """Prefix a workflow's name with a namespace, once: calls and registrations refer to the same workflow by it."""
    return name if name.startswith(prefix) else prefix + name


def endpoint_of(config: ClientConfig, environ: Mapping[str, str]) -> Endpoint:
    """Complete a configuration from the environment.

    Raises:
        NotConfigured: There is no address, or a value makes no sense.
    """
    if config.token and not config.token_file:  # a program takes precedence over its environment
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
        payloads=_usable_store(config.payloads, is_asked_for="payloads" not in missing),
        payloads_above=_inline_bytes(config.payloads_above),
        payloads_key=config.payloads_key,
    )


def _usable_store(url: str | None, *, is_asked_for: bool) -> str | None:
    """Return the store that this process uses itself: the one that its pod was given, if it can.

    An image without the extra is no reason to stop: the operator serves it as it serves Hatchet's clients.
    """
    if url in (None, THROUGH_OPERATOR) or is_asked_for or find_spec("obstore") is not None:
        return url
    log.warning(
        "large inputs and outputs go through the operator, and may have 3 MiB: for more, and to spare it, install "
        '"hatchet-operator-sdk[payloads]"'
    )
    return THROUGH_OPERATOR


def _inline_bytes(value: object) -> int:
    """Read a number that may come from the environment."""
    text = str(MAX_BYTES if value is None else value)
    if not text.isdecimal() or not 0 < int(text) <= MAX_BYTES:
        raise NotConfigured(
            f"HATCHET_CLIENT_PAYLOADS_ABOVE (or ClientConfig.payloads_above) is {text!r}; expected 1 to {MAX_BYTES}"
        )
    return int(text)


def _checked_token(token: str | None) -> str | None:
    """Return a token without its file's trailing line break; gRPC accepts no other control characters."""
    token = token.strip() if token else None
    if token and not (token.isascii() and token.isprintable()):
        raise NotConfigured("the token (HATCHET_CLIENT_TOKEN, or ClientConfig.token) has characters that no token has")
    return token


def prefix_of(config: ClientConfig, environ: Mapping[str, str]) -> str:
    """Return the prefix of all names of workflows and workers."""
    namespace = (config.namespace or environ.get("HATCHET_CLIENT_NAMESPACE") or "").lower()
    return namespace if not namespace or namespace.endswith("_") else f"{namespace}_"


def _broadcast_address(token: str | None) -> str | None:
    """Read the address from a token; the operator checks its signature."""
    try:
        claims = (token or "").split(".")[1]
        read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return None
    return cast("str | None", read.get("grpc_broadcast_address")) if isinstance(read, dict) else None
