"""A worker that takes one step at a time, so that tests see who gets its slot."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import os
from pathlib import Path

from hatchet_sdk import Context, Hatchet

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])

hatchet = Hatchet()


@hatchet.workflow()
class Holder:
    """Keeps its slot, or gives it back, until a gate opens."""

    @hatchet.step(timeout="60s")
    async def hold(self, context: Context):
        given = context.workflow_input()
        if given["release"]:
            context.release_slot()
        (DIRECTORY / f"holding-{context.workflow_run_id()}").touch()
        while not (DIRECTORY / f"gate-{given['gate']}").exists():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.02)
        return {}


def note_order(context: Context) -> None:
    with (DIRECTORY / "order").open("a") as file:
        file.write(context.workflow_input()["label"] + "\n")


@hatchet.workflow(default_priority=1)
class Quick:
    @hatchet.step()
    async def go(self, context: Context):
        note_order(context)
        return {}


@hatchet.workflow(default_priority=3)
class Urgent:
    @hatchet.step()
    async def go(self, context: Context):
        note_order(context)
        return {}


def main() -> None:
    worker = hatchet.worker("narrow", max_runs=1)
    worker.register_workflow(Holder())
    worker.register_workflow(Quick())
    worker.register_workflow(Urgent())
    worker.start()


if __name__ == "__main__":
    main()
