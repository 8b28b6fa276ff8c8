"""From kill -9 of the leader to the next assignment: ``python -m benchmarks.failover [kills] [address]``.

Two operators, an embedded API server and a worker pool of two pods are processes on this machine. The leader is killed,
a run is created in the same moment, and the time until a worker begins its step is taken; then another standby starts.

With an address of this machine, other than loopback, which no EndpointSlice may have, it is a real API server, found as
the tests find it, behind ``kubectl proxy``; the two workers are processes outside of pods.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from tests.integration.harness import ROOT, Process, free_port
from tests.integration.test_high_availability import HighlyAvailable
from tests.kube.real_api import RealApi

_LEASE_SECONDS = 10.0  # as the chart has it
_LOOK_AGAIN_SECONDS = 0.01


class OnARealApi(HighlyAvailable):
    """Operators that compete on a real API server."""

    def __init__(self, directory: Path, address: str) -> None:
        super().__init__(directory)
        self.settings.update(grpc_host="0.0.0.0", pod_ip=address)
        self._real = RealApi()

    async def __aenter__(self) -> OnARealApi:
        self._real.start()
        kubectl = [str(self._real.kubectl), f"--kubeconfig={self._real.kubeconfig}"]
        apply = [*kubectl, "apply", "--server-side", f"--filename={ROOT / 'crds'}"]
        await asyncio.to_thread(subprocess.run, apply, check=True, stdout=subprocess.DEVNULL)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.server = Process("proxy", [*kubectl, "proxy", f"--port={port}"], directory=self.directory, environment={})
        self.processes.append(self.server)
        self.api = await self._stack.enter_async_context(
            Api(Endpoint(server=self.url), user_agent="test", may_write=always)
        )
        self._service = await asyncio.start_server(self._connect, "127.0.0.1", self.grpc_port)
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self._real.stop()

    async def start_workers(self) -> None:
        for number in range(2):
            await self.start_worker(f"worker-{number}")


async def measure(kills: int, address: str | None) -> list[float]:
    """Return the seconds of each kill."""
    took = []
    with tempfile.TemporaryDirectory(prefix="hatchet-failover-") as directory:
        stage = HighlyAvailable(Path(directory)) if address is None else OnARealApi(Path(directory), address)
        async with stage as cluster:
            cluster.settings["lease_duration"] = _LEASE_SECONDS
            leader, standby = await cluster.start_both()
            if isinstance(cluster, OnARealApi):
                await cluster.start_workers()
            else:
                await cluster.start_pool(replicas=2)
            for number in range(kills):
                await asyncio.sleep(number % 5 * 0.37)  # at another moment between two renewals
                killed_at = time.monotonic()
                leader.process.kill()
                name = f"run-{number}"
                await cluster.create_run(name, "child")
                while not cluster.executions(run=name):  # noqa: ASYNC110  # a file that another process writes
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
                took.append(time.monotonic() - killed_at)
                print(f"kill {number + 1}: {took[-1]:.2f} s", flush=True)
                leader, standby = standby, await cluster.start_contender()
                await leader.until("ok")
                await standby.until("standby")
                await cluster.finished(name)
    return took


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    took = sorted(asyncio.run(measure(kills, sys.argv[2] if len(sys.argv) > 2 else None)))
    print(f"{kills} kills: median {statistics.median(took):.2f} s, longest {took[-1]:.2f} s, shortest {took[0]:.2f} s")


if __name__ == "__main__":
    main()
