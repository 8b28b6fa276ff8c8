"""A report over large files: the small part runs in the pool, each large file in a pod of its own."""

import asyncio
import os
from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Report:
    @hatchet.step(timeout="30m")
    async def collect(self, context: Context) -> dict[str, Any]:
        files = context.workflow_input()["files"]
        runs = [await context.aio.spawn_workflow("Crunch", {"file": file}, key=file) for file in files]
        results = await asyncio.gather(*(run.result() for run in runs))
        return {"lines": sum(result["count"]["lines"] for result in results)}


@hatchet.workflow()
class Crunch:
    """Needs memory, and may crash: workflow.yaml gives each run a pod."""

    @hatchet.step(timeout="10m", retries=1)
    def count(self, context: Context) -> dict[str, Any]:
        file = context.workflow_input()["file"]
        context.log(f"counting {file} in pod {os.environ.get('HATCHET_POD_NAME')}")
        return {"lines": len(file) * 1000}


def main() -> None:
    worker = hatchet.worker("reports", max_runs=20)
    worker.register_workflow(Report())
    worker.register_workflow(Crunch())
    worker.start()


if __name__ == "__main__":
    main()
