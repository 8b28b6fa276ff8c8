"""The workflows of the mixed load, run as a worker: each call of a step is written down as it begins and as it ends."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hatchet_sdk import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    DesiredWorkerLabel,
    Hatchet,
    NonRetryableError,
    RateLimit,
    StickyStrategy,
    WorkflowRunRef,
)

CALLS = Path(os.environ["HATCHET_TEST_DIRECTORY"]) / "calls"
ROLE = CALLS.with_name("role")
PIECES = 20
NEVER_POISON = 50
"""Workers are killed at random, so that a step which saw several of them die is no suspect."""

hatchet = Hatchet()


def write(event: str, context: Context, step: str) -> None:
    """Append one line; a single small write to a file opened for appending is never torn."""
    line = {
        "event": event,
        "at": time.time(),
        "run": context.workflow_run_id(),
        "step": step,
        "attempt": context.step_run_id,
        "retry": context.retry_count(),
        "pid": os.getpid(),
    }
    file = os.open(CALLS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


@asynccontextmanager
async def written_down(context: Context, step: str) -> AsyncIterator[dict[str, Any]]:
    """Write that a call begins, and that it ends however it does; gives the run's input."""
    write("begin", context, step)
    try:
        yield context.workflow_input()
    finally:
        write("end", context, step)


async def work(context: Context, step: str) -> dict[str, Any]:
    """Take as long as the input says, and fail as often as it says."""
    async with written_down(context, step) as given:
        await asyncio.sleep(given.get("seconds", 0.0))
        if context.retry_count() < given.get("failures", 0):
            raise RuntimeError("as the input says")
        return {"number": given.get("number", 0)}


@hatchet.workflow()
class FanOut:
    @hatchet.step(timeout="10m", retries=2, max_reassignments=NEVER_POISON)
    async def spawn(self, context: Context) -> dict[str, int]:
        async with written_down(context, "spawn") as given:
            children: list[WorkflowRunRef] = [
                await context.aio.spawn_workflow(
                    "Leaf",
                    {"number": number, "seconds": 0.05, "failures": number % 5 == 0},
                    key=f"leaf{number}",
                    options={"record": given["record"]},
                )
                for number in range(given["children"])
            ]
            if context.retry_count() < given.get("failures", 0):
                raise RuntimeError("as the input says")
            results = await asyncio.gather(*(child.result() for child in children))
            return {"sum": sum(result["work"]["number"] for result in results)}


@hatchet.workflow()
class Leaf:
    @hatchet.step(timeout="5m", retries=1, max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(on_events=["mixed:*"])
class Told:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(on_crons=["* * * * *"])
class Ticking:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


def grouped(strategy: ConcurrencyLimitStrategy, max_runs: int) -> ConcurrencyExpression:
    return ConcurrencyExpression(expression="input.group", max_runs=max_runs, limit_strategy=strategy)


@hatchet.workflow(schedule_timeout="20m", concurrency=grouped(ConcurrencyLimitStrategy.QUEUE_NEWEST, 2))
class Queued:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(schedule_timeout="20m", concurrency=grouped(ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN, 2))
class RoundRobin:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(concurrency=grouped(ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS, 1))
class NewestWins:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(concurrency=grouped(ConcurrencyLimitStrategy.CANCEL_NEWEST, 2))
class OldestWins:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(schedule_timeout="20m")
class LimitedBySecond:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON, rate_limits=[RateLimit(static_key="second", units=1)])
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(schedule_timeout="20m")
class LimitedByMinute:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON, rate_limits=[RateLimit(static_key="minute", units=1)])
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow()
class Mended:
    """Its second step fails until somebody mends what it needs, and replays the run."""

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def first(self, context: Context) -> dict[str, Any]:
        return await work(context, "first")

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON, parents=["first"])
    async def second(self, context: Context) -> dict[str, Any]:
        async with written_down(context, "second"):
            if not CALLS.with_name(f"mended-{context.workflow_run_id()}").exists():
                raise NonRetryableError("what it needs is broken")
            return {"number": context.step_output("first")["number"]}


@hatchet.workflow(schedule_timeout="20m")
class Labelled:
    """One worker at a time has the role."""

    @hatchet.step(
        timeout="5m",
        max_reassignments=NEVER_POISON,
        desired_worker_labels={"role": DesiredWorkerLabel(value="large", required=True)},
    )
    async def work(self, context: Context) -> dict[str, Any]:
        return await work(context, "work")


@hatchet.workflow(sticky=StickyStrategy.HARD, schedule_timeout="15s")
class Stuck:
    """Goes to one worker alone; if that is killed, it fails."""

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def first(self, context: Context) -> dict[str, Any]:
        return await work(context, "first")

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON, parents=["first"])
    async def second(self, context: Context) -> dict[str, Any]:
        return await work(context, "second")


@hatchet.workflow()
class Family:
    """Spawns children that stick to its worker; what becomes of them is no matter of its own."""

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def spawn(self, context: Context) -> dict[str, Any]:
        async with written_down(context, "spawn") as given:
            for number in range(given["children"]):
                await context.aio.spawn_workflow(
                    "Stuck", {"seconds": 0.05}, key=f"stuck{number}", options={"sticky": True}
                )
            return {"children": given["children"]}


@hatchet.workflow()
class Speaking:
    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def work(self, context: Context) -> dict[str, Any]:
        async with written_down(context, "work"):
            for number in range(PIECES):
                context.put_stream(f"{os.getpid()} {number}")
                await asyncio.sleep(0.02)
            return {"said": PIECES}


@hatchet.workflow()
class Heavy:
    """Its input and its first step's output are too large for a run; what arrives is counted."""

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON)
    async def make(self, context: Context) -> dict[str, Any]:
        async with written_down(context, "make") as given:
            return {"text": given["text"] * 2}

    @hatchet.step(timeout="5m", max_reassignments=NEVER_POISON, parents=["make"])
    async def count(self, context: Context) -> dict[str, Any]:
        async with written_down(context, "count"):
            text = context.step_output("make")["text"]
            return {"bytes": len(text), "letters": "".join(sorted(set(text)))}


WORKFLOWS = (
    FanOut,
    Leaf,
    Told,
    Ticking,
    Queued,
    RoundRobin,
    NewestWins,
    OldestWins,
    LimitedBySecond,
    LimitedByMinute,
    Mended,
    Labelled,
    Stuck,
    Family,
    Speaking,
    Heavy,
)


def take_role() -> str:
    """Return "large" for one worker of all that live, "small" for the others: the lock goes with its process."""
    file = os.open(ROLE, os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "small"
    pids = os.open(ROLE.with_name("large"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(pids, f"{os.getpid()}\n".encode())
    os.close(pids)
    return "large"


def main() -> None:
    worker = hatchet.worker("mixed", max_runs=25, labels={"role": take_role()})
    for workflow in WORKFLOWS:
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
