"""What is measured: a parent whose children do nothing, and the moments at which things happened.

All moments are microseconds of the monotonic clock, which the processes of one machine share.
"""

import asyncio
import time

from hatchet_sdk import Context, Hatchet, WorkflowRunRef

hatchet = Hatchet()


def now_us() -> int:
    return time.monotonic_ns() // 1000


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="1h")
    async def spawn(self, context: Context) -> dict[str, object]:
        asked = context.workflow_input()
        first_us = now_us()

        async def spawn_one(number: int) -> tuple[int, int, WorkflowRunRef]:
            called_us = now_us()
            child = await context.aio.spawn_workflow("Child", {"a": str(number)}, key=f"child{number}")
            return called_us, now_us(), child

        if asked["mode"] == "serial":  # as in examples/fanout: one spawn after the other, then all results
            spawned = [await spawn_one(number) for number in range(asked["children"])]
        else:
            spawned = list(await asyncio.gather(*(spawn_one(number) for number in range(asked["children"]))))
        results = await asyncio.gather(*(child.result() for _, _, child in spawned))
        started = [result["process"]["started_us"] for result in results]
        # relative, so that thousands of children fit into an output
        moments = [
            (called_us - first_us, answered_us - first_us, started_us - first_us)
            for (called_us, answered_us, _), started_us in zip(spawned, started, strict=True)
        ]
        return {"first_us": first_us, "moments": moments}


@hatchet.workflow()
class Child:
    @hatchet.step()
    async def process(self, context: Context) -> dict[str, int]:
        return {"started_us": now_us()}


@hatchet.workflow()
class Lone:
    """A child, of which each run is given a pod."""

    @hatchet.step()
    async def process(self, context: Context) -> dict[str, int]:
        return {"started_us": now_us()}


def main() -> None:
    worker = hatchet.worker("benchmark-worker", max_runs=100)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.register_workflow(Lone())
    worker.start()


if __name__ == "__main__":
    main()
