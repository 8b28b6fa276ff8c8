"""From kill -9 of the leader to the next assignment: ``python -m benchmarks.failover [kills]``.

Two operators, an embedded API server and a worker pool of two pods are processes on this machine. The leader is killed,
a run is created in the same moment, and the time until a worker begins its step is taken; then another standby starts.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.test_high_availability import HighlyAvailable

_LEASE_SECONDS = 10.0  # as the chart has it
_LOOK_AGAIN_SECONDS = 0.01


async def measure(kills: int) -> list[float]:
    """Return the seconds of each kill."""
    took = []
    with tempfile.TemporaryDirectory(prefix="hatchet-failover-") as directory:
        async with HighlyAvailable(Path(directory)) as cluster:
            cluster.settings["lease_duration"] = _LEASE_SECONDS
            leader, standby = await cluster.start_both()
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
    took = sorted(asyncio.run(measure(kills)))
    print(f"{kills} kills: median {statistics.median(took):.2f} s, longest {took[-1]:.2f} s, shortest {took[0]:.2f} s")


if __name__ == "__main__":
    main()
