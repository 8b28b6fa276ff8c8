"""The workflows of the integration tests, run as a worker: each execution is written down, and waits where it is told.

A step notes that it began in ``executions`` of HATCHET_TEST_DIRECTORY; a gate is open when the file of its name is
there. Inputs may name gates, so a test decides in which phase a process dies.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hatchet_sdk import Context, Hatchet, RateLimit, RateLimitDuration, WorkflowRunFailed, WorkflowRunRef

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])

hatchet = Hatchet()


def note(context: Context, step: str) -> None:
    """Write one line; a single small write to a file opened for appending is never torn."""
    line = json.dumps(
        {
            "run": context.workflow_run_id(),
            "step": step,
            "key": context.child_key(),
            "pid": os.getpid(),
            "attempt": context.step_run_id,
            "retry_count": context.retry_count(),
        }
    )
    file = os.open(DIRECTORY / "executions", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)


async def gate(name: str | None) -> None:
    while name and not (DIRECTORY / f"gate-{name}").exists():  # noqa: ASYNC110  # another process opens it
        await asyncio.sleep(0.02)


@hatchet.workflow()
class Parent:
    """Spawns ``children`` children one after the other and gathers their results."""

    @hatchet.step(timeout="5m", retries=1)
    async def spawn(self, context: Context) -> dict[str, Any]:
        note(context, "spawn")
        given = context.workflow_input()
        await gate(given.get("before_spawning"))
        results = []
        for number in range(given["children"]):
            run: WorkflowRunRef = await context.aio.spawn_workflow(
                "Child",
                {"a": str(number), "gate": given.get("in_child")},
                key=f"child{number}",
                options={"record": given["record"]} if "record" in given else None,
            )
            results.append(run.result())
        (DIRECTORY / f"spawned-{context.workflow_run_id()}").touch()
        ends = await asyncio.gather(*results, return_exceptions=True)
        await gate(given.get("after_results"))
        return {"results": [str(end) if isinstance(end, WorkflowRunFailed) else unwrap(end) for end in ends]}


def unwrap(end: Any) -> Any:
    if isinstance(end, BaseException):
        raise end
    return end


@hatchet.workflow()
class Streaming:
    """Says a number at a time: to ``first``, then, once the gate is open, to ``last``."""

    @hatchet.step(timeout="5m")
    async def speak(self, context: Context) -> dict[str, int]:
        given = context.workflow_input()
        for number in range(given["last"]):
            if number == given["first"]:
                await gate(given["gate"])
            context.put_stream(str(number))
        return {"said": given["last"]}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="5m")
    async def process(self, context: Context) -> dict[str, str]:
        note(context, "process")
        given = context.workflow_input()
        await gate(given.get("gate"))
        return {"status": "success " + given["a"]}


@hatchet.workflow()
class Node:
    """A node of a tree: spawns one for each entry of ``nodes`` and awaits them; a ``sick`` one fails until healed."""

    @hatchet.step(timeout="5m")
    async def first(self, context: Context) -> dict[str, str]:
        note(context, "first")
        return {"of": context.workflow_run_id()}

    @hatchet.step(timeout="5m", parents=["first"])
    async def grow(self, context: Context) -> dict[str, Any]:
        note(context, "grow")
        given = context.workflow_input()
        below = [
            await context.aio.spawn_workflow("Node", {**node, "tree": given["tree"]}, key=str(number))
            for number, node in enumerate(given.get("nodes", []))
        ]
        results = await asyncio.gather(*(node.result() for node in below))
        if given.get("sick") and not (DIRECTORY / f"gate-{given['tree']}-healed").exists():
            raise RuntimeError("it is sick")
        return {"size": 1 + sum(result["grow"]["size"] for result in results)}


def note_time(of: str) -> None:
    """Write down when a limited step began, as its worker sees it."""
    file = os.open(DIRECTORY / "limited", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{time.time()} {of}\n".encode())
    finally:
        os.close(file)


@hatchet.workflow()
class Limited:
    """Uses a unit of "calls" for some time."""

    @hatchet.step(timeout="5m", rate_limits=[RateLimit("calls")])
    async def call(self, context: Context) -> dict[str, str]:
        note_time("calls")
        await asyncio.sleep(context.workflow_input().get("seconds", 0))
        return {"called": "yes"}


@hatchet.workflow()
class Metered:
    """What it may use is said by its input: five units in an hour for each user."""

    @hatchet.step(timeout="5m")
    async def price(self, context: Context) -> dict[str, int]:
        return {"units": context.workflow_input()["units"]}

    @hatchet.step(
        timeout="5m",
        parents=["price"],
        rate_limits=[
            RateLimit(
                dynamic_key="'user ' + input.user",
                units="parents.price.units",
                limit="additional_metadata.limit",
                duration=RateLimitDuration.HOUR,
            )
        ],
    )
    async def use(self, context: Context) -> dict[str, str]:
        note_time(context.workflow_input()["user"])
        return {"used": "yes"}


def main() -> None:
    worker = hatchet.worker("integration", max_runs=int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.register_workflow(Streaming())
    worker.register_workflow(Node())
    worker.register_workflow(Limited())
    worker.register_workflow(Metered())
    worker.start()


if __name__ == "__main__":
    main()
