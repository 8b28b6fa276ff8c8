"""The operator as a process of its own, whose output says little: logs are not what is measured."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import uvloop
from prometheus_client import Gauge

from benchmarks.grpc_messages import count_messages
from benchmarks.loop_lag import note_lag
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.operator import Operator
from hatchet_operator.settings import Settings


async def serve(kubeconfig: Path, namespace: str, notes: Path, *, notes_lag: bool, light_runs: bool) -> None:
    """Serve; ``notes`` is a folder that gets a file ``ready`` when workers are let in, its text the port of metrics."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def install_signal_handlers() -> None:
        loop.add_signal_handler(signal.SIGTERM, stop.set)

    install_signal_handlers()
    operator = Operator(
        Settings(namespaces=(namespace,), metrics_port=0, light_runs=light_runs),
        find_endpoint(kubeconfig),
        install_signal_handlers=install_signal_handlers,
    )
    if notes_lag:  # which takes some CPU
        note_lag(notes / "lag")
    with count_messages() as messages:
        Gauge("benchmark_grpc_messages", "Received and sent.", registry=operator.metrics.registry).set_function(
            lambda: float(messages.total())
        )
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell_when_ready(operator, notes / "ready"))
            await operator.run(stop)
            telling.cancel()


async def _tell_when_ready(operator: Operator, file: Path) -> None:
    await operator.ready.wait()
    unfinished = file.with_suffix(".new")
    unfinished.write_text(str(operator.probes_port))
    unfinished.rename(file)  # a local file: microseconds


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        more = sys.argv[4:]
        served = serve(
            Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), notes_lag="lag" in more, light_runs="light" in more
        )
        runner.run(served)
