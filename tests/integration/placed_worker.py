"""A worker with the labels of its command line, and workflows that say where their steps go: each returns by whom."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from hatchet_sdk import Context, DesiredWorkerLabel, Hatchet, StickyStrategy, WorkerLabelComparator

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])

hatchet = Hatchet()


async def gate(name: str | None) -> None:
    while name and not (DIRECTORY / f"gate-{name}").exists():  # noqa: ASYNC110  # another process opens it
        await asyncio.sleep(0.02)


def by(context: Context) -> dict[str, Any]:
    return {"pid": os.getpid(), "id": context.worker.id(), "labels": context.worker.labels()}


@hatchet.workflow()
class Required:
    @hatchet.step(
        timeout="5m",
        desired_worker_labels={
            "memory": DesiredWorkerLabel(value=256, comparator=WorkerLabelComparator.GREATER_THAN, required=True)
        },
    )
    async def work(self, context: Context) -> dict[str, Any]:
        return by(context)


@hatchet.workflow()
class Preferred:
    """Prefers a zone a little, and a model much."""

    @hatchet.step(
        timeout="5m",
        desired_worker_labels={
            "zone": DesiredWorkerLabel(value="a", weight=1),
            "model": DesiredWorkerLabel(value="large", weight=10),
        },
    )
    async def work(self, context: Context) -> dict[str, Any]:
        await gate(context.workflow_input().get("gate"))
        return by(context)


@hatchet.workflow(sticky=StickyStrategy.HARD)
class Hard:
    @hatchet.step(timeout="5m")
    async def first(self, context: Context) -> dict[str, Any]:
        return by(context)

    @hatchet.step(timeout="5m", parents=["first"])
    async def second(self, context: Context) -> dict[str, Any]:
        return by(context)


@hatchet.workflow(sticky=StickyStrategy.SOFT)
class Soft:
    @hatchet.step(timeout="5m")
    async def first(self, context: Context) -> dict[str, Any]:
        return by(context)


@hatchet.workflow()
class Family:
    """Spawns children that stick to its worker; keeps its slot until the gate is open, and then awaits them."""

    @hatchet.step(timeout="5m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        await gate(given.get("before"))
        refs = [
            await context.aio.spawn_workflow(given["of"], {}, key=f"child{number}", options={"sticky": True})
            for number in range(given["children"])
        ]
        await gate(given.get("gate"))
        results = await asyncio.gather(*(ref.result() for ref in refs))
        steps = [step for result in results for step in result.values()]
        return {"by": by(context), "children": [step["pid"] for step in steps]}


def main() -> None:
    slots, labels = int(sys.argv[1]), json.loads(sys.argv[2])
    worker = hatchet.worker("placed", max_runs=slots, labels=labels)
    for workflow in (Required, Preferred, Hard, Soft, Family):
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
