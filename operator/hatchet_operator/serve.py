"""``hatchet-operator run``: the operator as a process, until SIGTERM or Ctrl-C."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from hatchet_operator.cluster.api import Api, Endpoint
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ApiError, ConfigurationError, NotFound, OperatorError
from hatchet_operator.operator import Operator
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)

WORKER_AUDIENCE = "hatchet-operator"
_NOWHERE = ("0.0.0.0", "::", "[::]")  # noqa: S104  # refused, not bound to


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
        "operator_namespace": endpoint.namespace,
        "leader_election": endpoint.token_file is not None,
        "token_audience": WORKER_AUDIENCE if endpoint.token_file is not None else None,
    }
    settings = Settings(**fitting | {name: value for name, value in options.items() if value is not None})
    settings = replace(settings, token_audience=settings.token_audience or None)
    if settings.operator_namespace == endpoint.namespace:  # else they would be deleted at once: owners are next door
        settings = replace(settings, owner=endpoint.account)
    if settings.grpc_service is not None and (settings.pod_ip or settings.grpc_host) in _NOWHERE:
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
    await _check_definitions(endpoint, settings.namespace, stop)
    await Operator(settings, endpoint, install_signal_handlers=install_signal_handlers).run(stop)


async def _check_definitions(endpoint: Endpoint, namespace: str | None, stop: asyncio.Event) -> None:
    """Wait for an answer of the API server, and make sure that it knows our kinds.

    Raises:
        ConfigurationError: It does not.
    """
    async with Api(endpoint, on_no_answer=_say_that_it_does_not_answer) as api:
        asking = asyncio.create_task(api.until_answered(api.list_all, RUNS, namespace))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            asking.cancel()
            return
        try:
            asking.result()
        except NotFound as error:
            raise ConfigurationError(
                f"{endpoint.server} has no WorkflowRun CRD; run hatchet-operator crds | kubectl apply -f -"
            ) from error


def _say_that_it_does_not_answer(error: ApiError) -> None:
    log.warning("API server does not answer, trying again", extra={"error": str(error)})
