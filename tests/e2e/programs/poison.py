"""A parent that awaits one child, on a worker that may be slow to begin: the child takes more memory than there is."""

import asyncio
import os
import time
from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="10m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        child = await context.aio.spawn_workflow("Child", context.workflow_input(), key="child")
        return {"child": await child.result()}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="10m")
    async def work(self, context: Context) -> dict[str, int]:
        given = context.workflow_input()
        taken = b"x" * given.get("bytes", 0)
        await asyncio.sleep(given.get("seconds", 0))
        return {"bytes": len(taken)}


def main() -> None:
    worker = hatchet.worker("poison", max_runs=10)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    time.sleep(float(os.environ.get("BEGINS_AFTER_SECONDS", "0")))
    main()
