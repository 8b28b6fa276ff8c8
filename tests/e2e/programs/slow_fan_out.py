"""A fan-out that takes as long as its input says, by workers that write down what they execute.

Each execution is a line in the pod's log, and each child's output says which worker made it. WORKER_VERSION=2 is the
same program after a change: a parent then has one more step.
"""

import asyncio
import json
import os
import uuid
from typing import Any

from hatchet_sdk import Context, Hatchet

WORKER = f"{os.environ['HATCHET_POD_NAME']}/{uuid.uuid4()}"  # a container that was restarted is another worker

hatchet = Hatchet()


def note(context: Context) -> None:
    print(json.dumps({"executed": context.workflow_run_id(), "worker": WORKER}), flush=True)


@hatchet.workflow()
class Parent:
    """Spawns ``children`` children, ``pause`` seconds apart, which take ``seconds`` each; a list says it one by one."""

    @hatchet.step(timeout="10m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        note(context)
        given = context.workflow_input()
        seconds = given.get("seconds", 0)
        children = []
        for number in range(given["children"]):
            child = {"number": number, "seconds": seconds[number] if isinstance(seconds, list) else seconds}
            children.append(await context.aio.spawn_workflow("Child", child, key=f"child{number}"))
            await asyncio.sleep(given.get("pause", 0))
        results = await asyncio.gather(*(child.result() for child in children))
        return {"numbers": [result["work"]["number"] for result in results]}


class ParentAfterAChange(Parent):
    @hatchet.step(parents=["spawn"])
    async def count(self, context: Context) -> dict[str, int]:
        return {"children": len(context.step_output("spawn")["numbers"])}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="5m")
    async def work(self, context: Context) -> dict[str, Any]:
        note(context)
        given = context.workflow_input()
        await asyncio.sleep(given["seconds"])
        return {"number": given["number"], "worker": WORKER}


def main() -> None:
    changed = os.environ.get("WORKER_VERSION") == "2"
    worker = hatchet.worker("slow-fan-out", max_runs=10)
    worker.register_workflow(hatchet.workflow(name="Parent")(ParentAfterAChange)() if changed else Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    main()
