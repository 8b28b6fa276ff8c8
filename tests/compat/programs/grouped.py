"""A workflow whose method names the group of a run, of which one goes on at a time."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import os
from pathlib import Path

from hatchet_sdk import ConcurrencyLimitStrategy, Context, Hatchet

hatchet = Hatchet()
FILE = Path(os.environ["HATCHET_TEST_DIRECTORY"], "grouped")


def note(text: str) -> None:
    with FILE.open("a") as file:
        file.write(f"{text}\n")


@hatchet.workflow()
class Grouped:
    @hatchet.concurrency(max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN)
    def group(self, context: Context) -> str:
        return context.workflow_input()["user"]

    @hatchet.step()
    async def work(self, context: Context):
        note("begin")
        await asyncio.sleep(0.2)
        note("end")
        return {}


if __name__ == "__main__":
    worker = hatchet.worker("grouped")
    worker.register_workflow(Grouped())
    worker.start()
