"""``hatchet-operator run``: the operator as a process, until SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ConfigurationError, OperatorError
from hatchet_operator.operator import Operator
from hatchet_operator.settings import NOWHERE, SHARD, Settings
from hatchet_sdk.payloads.sealing import Keys
from hatchet_sdk.payloads.store import NotConfigured, PayloadStore

DEFAULT_PORT = 7070
WORKER_AUDIENCE = "hatchet-operator"


def serve(options: Mapping[str, Any], kubeconfig: Path | None) -> int:
    """Run the operator and return the exit code of the process.

    Args:
        options: Fields of `Settings`; None: the value that fits where this process runs.
        kubeconfig: None: this Pod's account, or $KUBECONFIG.
    """
    try:
        endpoint = find_endpoint(kubeconfig)
        settings = make_settings(options, endpoint)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, endpoint))
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def make_settings(options: Mapping[str, Any], endpoint: Endpoint) -> Settings:
    """Complete what was given with what follows from where this process runs.

    Raises:
        ConfigurationError: The options do not fit together.
    """
    # A token in a file that is rotated means a Pod's account: other Pods of the same Deployment may run beside us.
    fitting: dict[str, Any] = {
        "grpc_port": DEFAULT_PORT,
        "operator_namespace": endpoint.namespace,
        "leader_election": endpoint.token_file is not None,
        "token_audience": WORKER_AUDIENCE if endpoint.token_file is not None else None,
    }
    settings = Settings(**fitting | {name: value for name, value in options.items() if value is not None})
    settings = replace(settings, token_audience=settings.token_audience or None, tls_names=tuple(settings.tls_names))
    settings = replace(
        settings,
        namespaces=tuple(dict.fromkeys(settings.namespaces)),
        payload_variables=tuple(settings.payload_variables),
    )
    _check_payloads(settings)
    settings = replace(settings, rest_url=_checked_url(settings))
    _check_shards(settings)
    if settings.operator_namespace == endpoint.namespace:  # or they would be deleted: owners must be here
        settings = replace(settings, owner=endpoint.account)
    if settings.grpc_service is not None and (settings.pod_ip or settings.grpc_host) in NOWHERE:
        raise ConfigurationError(
            "--grpc-service needs the address that it should point to: set --advertise-ip, or POD_IP to status.podIP"
        )
    return settings


def _check_shards(settings: Settings) -> None:
    """Refuse settings under which shards could not be dealt, or found."""
    if settings.shards == 1:
        return
    if len(settings.namespaces) == 1:
        raise ConfigurationError("--shards deals namespaces, and --namespace names the only one: leave one of them out")
    if not settings.leader_election:
        raise ConfigurationError("--shards needs --leader-elect: each shard is led by the one that has its Lease")
    for option, given in (("--grpc-advertise", settings.grpc_advertise), ("--rest-url", settings.rest_url)):
        if given is not None and SHARD not in given:
            raise ConfigurationError(
                f"{option} {given} would be the address of all shards, and each has its own: put {SHARD} into it where "
                "the shard's number is to be, or leave it out with --grpc-service"
            )


def _check_payloads(settings: Settings) -> None:
    """Refuse an invalid store or key of payloads, before a run needs it."""
    try:
        keys = Keys(settings.payload_key) if settings.payload_key is not None else None
        if settings.payload_store is not None:
            PayloadStore(settings.payload_store, keys)
    except NotConfigured as error:
        raise ConfigurationError(str(error)) from error
    if keys is not None and settings.payload_store is None:
        raise ConfigurationError("--payload-key encrypts what is in --payload-store, which is not given")


def _checked_url(settings: Settings) -> str | None:
    """Return the URL of the REST API, without a slash at its end; refuse what is none."""
    if settings.rest_url is None:
        return None
    if settings.events_port is None:
        raise ConfigurationError("--rest-url says where the port of --events-port is found, which is not given")
    parts = urlsplit(settings.rest_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f'--rest-url is "{settings.rest_url}"; expected a URL as in https://hatchet.example.com/path'
        )
    return settings.rest_url.rstrip("/")


async def _serve(settings: Settings, endpoint: Endpoint) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def install_signal_handlers() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

    install_signal_handlers()
    await Operator(settings, endpoint, install_signal_handlers=install_signal_handlers).run(stop)
