"""A fan-out of light children, a few at a time; the parent fails once it has all results, and finds them again."""

import asyncio
import json
from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


def note(context: Context) -> None:
    print(json.dumps({"executed": context.workflow_run_id()}), flush=True)


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="5m", retries=1)
    async def spawn(self, context: Context) -> dict[str, Any]:
        note(context)
        children = []
        for number in range(context.workflow_input()["children"]):
            child = await context.aio.spawn_workflow(
                "Child", {"number": number}, key=f"child{number}", options={"record": "result"}
            )
            children.append(child)
            await asyncio.sleep(0.1)
        results = await asyncio.gather(*(child.result() for child in children))
        if context.retry_count() == 0:
            raise RuntimeError("failed after its children succeeded")
        return {"numbers": [result["work"]["number"] for result in results]}


@hatchet.workflow()
class Child:
    @hatchet.step()
    async def work(self, context: Context) -> dict[str, Any]:
        note(context)
        await asyncio.sleep(0.3)
        return {"number": context.workflow_input()["number"]}


if __name__ == "__main__":
    worker = hatchet.worker("light", max_runs=10)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()
