"""``hatchet-operator run``: the operator as a process, until SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from hatchet_operator.cluster.api import Endpoint
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ConfigurationError, OperatorError
from hatchet_operator.operator import Operator
from hatchet_operator.settings import NOWHERE, Settings

DEFAULT_PORT = 7070
WORKER_AUDIENCE = "hatchet-operator"


def serve(options: Mapping[str, Any], kubeconfig: Path | None) -> int:
    """Run the operator and return the exit code of the process.

    Args:
        options: Fields of `Settings`; None: what fits where this process runs.
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
    # A token that is rotated in a file: the account of a Pod. There, others of the same Deployment may run beside us.
    fitting: dict[str, Any] = {
        "grpc_port": DEFAULT_PORT,
        "operator_namespace": endpoint.namespace,
        "leader_election": endpoint.token_file is not None,
        "token_audience": WORKER_AUDIENCE if endpoint.token_file is not None else None,
    }
    settings = Settings(**fitting | {name: value for name, value in options.items() if value is not None})
    settings = replace(settings, token_audience=settings.token_audience or None, tls_names=tuple(settings.tls_names))
    if settings.operator_namespace == endpoint.namespace:  # else they would be deleted at once: owners are next door
        settings = replace(settings, owner=endpoint.account)
    if settings.grpc_service is not None and (settings.pod_ip or settings.grpc_host) in NOWHERE:
        raise ConfigurationError(
            "--grpc-service needs the address that it is to lead to: set --advertise-ip, or POD_IP to status.podIP"
        )
    return settings


async def _serve(settings: Settings, endpoint: Endpoint) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def install_signal_handlers() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

    install_signal_handlers()
    await Operator(settings, endpoint, install_signal_handlers=install_signal_handlers).run(stop)
