"""The operator as a process of its own, whose output says little: logs are not what is measured."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop

from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.operator import Operator
from hatchet_operator.settings import Settings


async def serve(kubeconfig: Path, namespace: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def install_signal_handlers() -> None:
        loop.add_signal_handler(signal.SIGTERM, stop.set)

    install_signal_handlers()
    operator = Operator(
        Settings(namespace=namespace), find_endpoint(kubeconfig), install_signal_handlers=install_signal_handlers
    )
    await operator.run(stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), sys.argv[2]))
