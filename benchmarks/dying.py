"""A workflow whose step ends its worker in the way that its input says, and prints when it was last alive."""

import asyncio
import os
import signal
import time
from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Dies:
    @hatchet.step(timeout="10m")
    async def work(self, context: Context) -> dict[str, Any]:
        kind = context.workflow_input()["kind"]
        _say_alive()
        if (left := context.workflow_input()["at"] - time.time()) > 0:
            await asyncio.sleep(left)
            _say_alive()
        match kind:
            case "oom":
                return {"taken": len(b"x" * 1_000_000_000)}
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "silent":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                while True:  # until the kubelet kills it: a worker goes on through its grace period
                    await asyncio.sleep(0.02)
                    _say_alive()
        return {}


def _say_alive() -> None:
    print(f"alive at {time.time()}", flush=True)  # the log has lines of the SDK, too


def main() -> None:
    worker = hatchet.worker("dies", max_runs=1)
    worker.register_workflow(Dies())
    worker.start()


if __name__ == "__main__":
    main()
