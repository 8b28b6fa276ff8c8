"""``hatchet-operator run``: the operator as a process, until SIGTERM or Ctrl-C."""

import asyncio
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from hatchet_operator.cluster.api import Api, Endpoint
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ApiError, ConfigurationError, NotFound, OperatorError
from hatchet_operator.operator import Operator
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)


def serve(settings: Settings, kubeconfig: Path | None) -> int:
    """Run the operator and return the exit code of the process."""
    try:
        endpoint = find_endpoint(kubeconfig)
        settings = replace(settings, operator_namespace=endpoint.namespace)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, endpoint))
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


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
    async with Api(endpoint) as api:
        asking = asyncio.create_task(
            api.until_answered(lambda: api.list_all(RUNS, namespace), on_retry=_say_that_it_does_not_answer)
        )
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
