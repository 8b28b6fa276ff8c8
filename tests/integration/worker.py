"""The workflows of the integration tests, run as a worker: each execution is written down, and waits where it is told.

A step notes that it began in ``executions`` of HATCHET_TEST_DIRECTORY; a gate is open when the file of its name is
there. Inputs may name gates, so a test decides in which phase a process dies.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from hatchet_sdk import Context, Hatchet, WorkflowRunFailed, WorkflowRunRef

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
                "Child", {"a": str(number), "gate": given.get("in_child")}, key=f"child{number}"
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
class Child:
    @hatchet.step(timeout="5m")
    async def process(self, context: Context) -> dict[str, str]:
        note(context, "process")
        given = context.workflow_input()
        await gate(given.get("gate"))
        return {"status": "success " + given["a"]}


def main() -> None:
    worker = hatchet.worker("integration", max_runs=int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    main()
