"""One workflow for each thing that a workflow can ask for, for tests of pools; calls are noted with their times."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import fcntl
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from hatchet_sdk import ConcurrencyLimitStrategy, Context, Hatchet, StickyStrategy
from hatchet_sdk.labels import DesiredWorkerLabel
from hatchet_sdk.rate_limit import RateLimit

try:
    from hatchet_sdk import ConcurrencyExpression
except ImportError:  # before 0.47 methods alone name groups
    ConcurrencyExpression = None

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])

hatchet = Hatchet()


def note(file: str, text: str) -> None:
    with (DIRECTORY / file).open("a") as notes:
        notes.write(f"{time.time()} {text}\n")


async def gate(name: str) -> None:
    while not (DIRECTORY / f"gate-{name}").exists():  # noqa: ASYNC110  # the test opens it
        await asyncio.sleep(0.05)


@hatchet.workflow()
class Grouped:
    @hatchet.concurrency(max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN)
    def group(self, context: Context) -> str:
        return context.workflow_input()["user"]

    @hatchet.step()
    async def work(self, context: Context):
        note("grouped", "begin")
        await asyncio.sleep(0.2)
        note("grouped", "end")
        return {}


if ConcurrencyExpression is not None:

    @hatchet.workflow(
        concurrency=ConcurrencyExpression(
            expression="input.user", max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN
        )
    )
    class ByExpression:
        @hatchet.step()
        async def work(self, context: Context):
            note("expression", "begin")
            await asyncio.sleep(0.2)
            note("expression", "end")
            return {}


@hatchet.workflow()
class Limited:
    @hatchet.step(rate_limits=[RateLimit(key="calls", units=1)])
    async def call(self, context: Context):
        note("limited", "call")
        return {}


@hatchet.workflow()
class Filling:
    """Takes a slot until the gate is open."""

    @hatchet.step(timeout="5m")
    async def work(self, context: Context):
        note("filling", "begin")
        await gate(context.workflow_input()["gate"])
        return {}


@hatchet.workflow()
class Urgent:
    @hatchet.step(timeout="5m")
    async def work(self, context: Context):
        note("urgent", context.workflow_input()["name"])
        return {}


@hatchet.workflow(sticky=StickyStrategy.HARD)
class Stuck:
    @hatchet.step()
    async def work(self, context: Context):
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
        return {"own": context.worker.id(), "children": [result["work"]["id"] for result in results]}


@hatchet.workflow()
class Labelled:
    @hatchet.step(desired_worker_labels={"role": DesiredWorkerLabel(value="large", required=True)})
    async def work(self, context: Context):
        return {"labels": context.worker.labels(), "pid": os.getpid()}


@hatchet.workflow(on_crons=["30 6 * * MON-FRI"])
class Ticking:
    @hatchet.step()
    async def work(self, context: Context):
        return {}


@hatchet.workflow(on_events=["pool:*"])
class Told:
    @hatchet.step()
    async def work(self, context: Context):
        return {"got": context.workflow_input()["text"]}


@hatchet.workflow()
class Telling:
    """From within its pod it pushes an event, and schedules a run."""

    @hatchet.step()
    async def work(self, context: Context):
        await asyncio.to_thread(hatchet.event.push, "pool:said", {"text": "hello"})
        at = datetime.now() + timedelta(seconds=1.5)
        await asyncio.to_thread(hatchet.admin.schedule_workflow, "Urgent", [at], {"name": "scheduled"})
        return {"at": at.timestamp()}


def take_role() -> str:
    """Return "large" in one of the pods: the lock goes with the process."""
    try:
        fcntl.flock(os.open(DIRECTORY / "role", os.O_WRONLY | os.O_CREAT), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "small"
    return "large"


def main() -> None:
    worker = hatchet.worker("features", max_runs=3, labels={"role": take_role()})
    for workflow in (Grouped, Limited, Filling, Urgent, Stuck, Parents, Labelled, Ticking, Told, Telling):
        worker.register_workflow(workflow())
    if ConcurrencyExpression is not None:
        worker.register_workflow(ByExpression())
    worker.start()


if __name__ == "__main__":
    main()
