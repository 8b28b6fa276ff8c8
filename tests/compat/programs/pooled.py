"""The fan-out for tests of pools: children wait for the file gate-<run of the parent>, and each call is noted."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import os
from pathlib import Path

from hatchet_sdk import Context, Hatchet

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])

hatchet = Hatchet()


def note(context: Context, step: str) -> None:
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
    with (DIRECTORY / "executions").open("a") as file:
        file.write(line + "\n")


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="5m")
    async def spawn(self, context: Context):
        note(context, "spawn")
        children = range(context.workflow_input()["children"])
        refs = [await context.aio.spawn_workflow("Child", {"a": str(i)}, key=f"child{i}") for i in children]
        return {"results": await asyncio.gather(*[ref.result() for ref in refs])}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="5m")
    async def process(self, context: Context):
        note(context, "process")
        while not (DIRECTORY / f"gate-{context.parent_workflow_run_id()}").exists():  # noqa: ASYNC110  # the test is no coroutine of ours
            await asyncio.sleep(0.05)
        return {"status": "success " + context.workflow_input()["a"]}


def main() -> None:
    worker = hatchet.worker("pooled", max_runs=40)
    worker.register_workflow(Parent())
    worker.register_workflow(Child())
    worker.start()


if __name__ == "__main__":
    main()
