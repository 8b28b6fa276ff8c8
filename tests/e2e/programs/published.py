"""A fan-out, and one workflow for each other thing that a workflow can ask for.

The published SDK runs this file, 0.36.24 as well as 0.47.1.
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import time
from datetime import datetime, timedelta

from hatchet_sdk import ConcurrencyLimitStrategy, Context, Hatchet, StickyStrategy
from hatchet_sdk.rate_limit import RateLimit, RateLimitDuration

hatchet = Hatchet()


@hatchet.workflow()
class Parent:
    """Fails once its children are through, and finds them again."""

    @hatchet.step(retries=1)
    async def spawn(self, context: Context):
        numbers = range(context.workflow_input()["children"])
        refs = [await context.aio.spawn_workflow("Child", {"n": n}, key=f"child{n}") for n in numbers]
        results = await asyncio.gather(*(ref.result() for ref in refs))
        if context.retry_count() == 0:
            raise RuntimeError("failed after its children succeeded")
        return {"numbers": [result["work"]["n"] for result in results]}


@hatchet.workflow()
class Child:
    @hatchet.step()
    async def work(self, context: Context):
        print(json.dumps({"executed": context.workflow_run_id()}), flush=True)
        return {"n": context.workflow_input()["n"]}


@hatchet.workflow()
class Grouped:
    @hatchet.concurrency(max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN)
    def group(self, context: Context) -> str:
        return context.workflow_input()["user"]

    @hatchet.step()
    async def work(self, context: Context):
        began = time.time()
        await asyncio.sleep(0.3)
        return {"began": began, "ended": time.time()}


@hatchet.workflow()
class Limited:
    @hatchet.step(rate_limits=[RateLimit(key="calls", units=1)])
    async def call(self, context: Context):
        return {}


@hatchet.workflow(sticky=StickyStrategy.HARD)
class Stuck:
    @hatchet.step()
    async def work(self, context: Context):
        return {"id": context.worker.id()}


@hatchet.workflow()
class Sticking:
    """Its children stick to its worker."""

    @hatchet.step()
    async def spawn(self, context: Context):
        refs = [
            await context.aio.spawn_workflow("Stuck", {}, key=f"child{number}", options={"sticky": True})
            for number in range(3)
        ]
        results = await asyncio.gather(*(ref.result() for ref in refs))
        return {"own": context.worker.id(), "children": [result["work"]["id"] for result in results]}


@hatchet.workflow(on_crons=["* * * * *"])
class Minutely:
    @hatchet.step()
    async def tick(self, context: Context):
        return {}


@hatchet.workflow(on_events=["user:create"])
class Told:
    @hatchet.step()
    async def work(self, context: Context):
        return {"got": context.workflow_input()}


@hatchet.workflow()
class Late:
    @hatchet.step()
    async def work(self, context: Context):
        return {"began": time.time(), "got": context.workflow_input()}


@hatchet.workflow()
class Telling:
    """From within its pod it pushes an event, and schedules a run."""

    @hatchet.step()
    async def work(self, context: Context):
        await asyncio.to_thread(hatchet.event.push, "user:create", {"user": "ada"})
        at = datetime.now() + timedelta(seconds=2)
        await asyncio.to_thread(hatchet.admin.schedule_workflow, "Late", [at], {"user": "bob"})
        return {"at": at.timestamp()}


def main() -> None:
    hatchet.admin.put_rate_limit("calls", 2, RateLimitDuration.HOUR)
    worker = hatchet.worker("published", max_runs=10)
    for workflow in (Parent, Child, Grouped, Limited, Stuck, Sticking, Minutely, Told, Late, Telling):
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
