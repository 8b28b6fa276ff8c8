"""A parent whose children do nothing, recorded in full or with their result."""

import asyncio
import time

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="1h")
    async def spawn(self, context: Context) -> dict[str, float]:
        asked, began = context.workflow_input(), time.monotonic()
        spawns = (
            context.aio.spawn_workflow("Child", {"a": str(number)}, key=f"child{number}", options=asked["options"])
            for number in range(asked["children"])
        )
        await asyncio.gather(*(child.result() for child in await asyncio.gather(*spawns)))
        return {"seconds": time.monotonic() - began}


@hatchet.workflow()
class Child:
    @hatchet.step()
    async def process(self, context: Context) -> dict[str, str]:
        return {"status": "success " + context.workflow_input()["a"]}


def main() -> None:
    worker = hatchet.worker("benchmark-worker", max_runs=100)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    main()
