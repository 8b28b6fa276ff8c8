"""Workflows for tests of pods: a step says in which pod it ran, and does what a test wants to see the end of."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hatchet_sdk import Context, Hatchet

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])
POD = os.environ["HATCHET_POD_NAME"]

hatchet = Hatchet()


@hatchet.workflow()
class Solo:
    @hatchet.step(timeout="60s")
    async def work(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        context.log("at work")
        (DIRECTORY / f"began-{context.workflow_run_id()}-{context.retry_count()}").write_text(POD)
        if given.get("crash") and not (DIRECTORY / f"crashed-{context.workflow_run_id()}").exists():
            (DIRECTORY / f"crashed-{context.workflow_run_id()}").touch()
            print("going down", flush=True)
            os._exit(3)
        if given.get("deaf") and context.retry_count() == 0:
            time.sleep(600)  # noqa: ASYNC251  # a step that listens to nobody
        while (gate := given.get("gate")) and not (DIRECTORY / gate).exists():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
        return {"pod": POD, "pid": os.getpid()}

    @hatchet.step(parents=["work"])
    async def more(self, context: Context) -> dict[str, Any]:
        return {"pod": POD, "pid": os.getpid()}


@hatchet.workflow()
class Talk:
    """Says something in every way there is; its first attempt fails."""

    @hatchet.step(timeout="60s", retries=1)
    def say(self, context: Context) -> dict[str, Any]:
        print("printed", context.retry_count())
        subprocess.run(["echo", "of a subprocess"], check=True)
        logging.getLogger("json").warning("logged")
        sys.stderr.write("\r 1%\r 50%\r100%\n")
        context.log("first line\nsecond line")
        if context.workflow_input().get("fail") or context.retry_count() == 0:
            raise ValueError("that was all")
        print("no newline", end="")
        return {}


@hatchet.workflow()
class Family:
    """Its children run wherever their workflow says."""

    @hatchet.step(timeout="60s")
    async def spawn(self, context: Context) -> dict[str, Any]:
        runs = [
            await context.aio.spawn_workflow("Solo", context.workflow_input(), key=f"child{number}")
            for number in range(2)
        ]
        results = await asyncio.gather(*(run.result() for run in runs))
        return {"pod": POD, "children": [result["work"]["pod"] for result in results]}


def main() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('{"level": "%(levelname)s", "message": "%(message)s"}'))
    logging.getLogger("json").addHandler(handler)
    logging.getLogger("json").propagate = False
    worker = hatchet.worker("pods", max_runs=10)
    worker.register_workflow(Solo())
    worker.register_workflow(Family())
    worker.register_workflow(Talk())
    worker.start()


if __name__ == "__main__":
    main()
