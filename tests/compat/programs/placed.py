"""A worker whose labels are said on the command line, with steps that desire some, and one that changes them."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import sys

from hatchet_sdk import Context, Hatchet, StickyStrategy, WorkerLabelComparator
from hatchet_sdk.labels import DesiredWorkerLabel

hatchet = Hatchet()


@hatchet.workflow()
class Labelled:
    @hatchet.step(
        desired_worker_labels={
            "model": DesiredWorkerLabel(value="large", required=True),
            "memory": DesiredWorkerLabel(
                value=256, comparator=WorkerLabelComparator.GREATER_THAN, required=True, weight=10
            ),
        }
    )
    async def work(self, context: Context):
        return {"labels": context.worker.labels(), "id": context.worker.id()}


@hatchet.workflow()
class Relabel:
    @hatchet.step()
    async def work(self, context: Context):
        await context.worker.async_upsert_labels(context.workflow_input()["labels"])
        return {}


@hatchet.workflow(sticky=StickyStrategy.HARD)
class Stuck:
    @hatchet.step()
    async def first(self, context: Context):
        return {"id": context.worker.id()}

    @hatchet.step(parents=["first"])
    async def second(self, context: Context):
        return {"id": context.worker.id()}


@hatchet.workflow()
class Parents:
    """Its children stick to its worker."""

    @hatchet.step()
    async def spawn(self, context: Context):
        refs = [
            await context.aio.spawn_workflow("Stuck", {}, key=f"child{number}", options={"sticky": True})
            for number in range(3)
        ]
        results = await asyncio.gather(*(ref.result() for ref in refs))
        return {"own": context.worker.id(), "children": [result["second"]["id"] for result in results]}


def main() -> None:
    worker = hatchet.worker("placed", max_runs=5, labels=json.loads(sys.argv[1]))
    worker.register_workflow(Labelled())
    worker.register_workflow(Relabel())
    worker.register_workflow(Stuck())
    worker.register_workflow(Parents())
    worker.start()


if __name__ == "__main__":
    main()
