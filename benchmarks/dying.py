"""A workflow whose step ends its worker in the way that its input says, and first prints when."""

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
        print(f"begun at {time.time()}", flush=True)  # the log has lines of the SDK, too
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
                await asyncio.sleep(600)
        return {}


def main() -> None:
    worker = hatchet.worker("dies", max_runs=1)
    worker.register_workflow(Dies())
    worker.start()


if __name__ == "__main__":
    main()
