"""A step that writes more than its pod may have on disk, and waits to be stopped for it."""

import asyncio
from pathlib import Path

from hatchet_sdk import Context, Hatchet

SCRATCH = Path("/scratch")
hatchet = Hatchet()


@hatchet.workflow()
class Fill:
    @hatchet.step(timeout="5m")
    async def work(self, context: Context) -> None:
        (SCRATCH / "big").write_bytes(b"x" * context.workflow_input()["bytes"])
        await asyncio.sleep(600)


@hatchet.workflow()
class Alone(Fill):
    """The same, to have a pod for each run."""


def main() -> None:
    worker = hatchet.worker("fills-disk")
    worker.register_workflow(Fill())
    worker.register_workflow(Alone())
    worker.start()


if __name__ == "__main__":
    main()
