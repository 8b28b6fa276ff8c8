"""A fan-out whose children return as many mebibytes as they are told; the parent reads one after the other, or all."""

import asyncio
from typing import Any

from hatchet_sdk import Context, Hatchet

MEBIBYTE = 2**20

hatchet = Hatchet()


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="10m")
    async def spread(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        refs = await context.aio.spawn_workflows(
            [
                {"workflow_name": "Child", "input": {"number": number, "mebibytes": given.get("mebibytes", 1)}}
                for number in range(given["children"])
            ]
        )
        if given.get("at_once"):
            results = await asyncio.gather(*(ref.result() for ref in refs))
            return {"bytes": sum(len(result["make"]["text"]) for result in results)}
        return {"bytes": sum([len((await ref.result())["make"]["text"]) for ref in refs])}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="5m")
    async def make(self, context: Context) -> dict[str, str]:
        given = context.workflow_input()
        return {"text": f"{given['number']:08}" * (given["mebibytes"] * MEBIBYTE // 8)}


def main() -> None:
    worker = hatchet.worker("payloads", max_runs=40)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    main()
