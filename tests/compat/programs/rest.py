"""Workflows as classes whose programs ask Hatchet's REST API; 0.36.24 as well as 0.47.1.

python rest.py worker             a worker, for good
python rest.py ask CALLS          calls of ``hatchet.rest``, see rest_calls.py
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import sys

from rest_calls import answers_to

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Broken:
    @hatchet.step()
    def good(self, context: Context):
        return {"fine": True}

    @hatchet.step(parents=["good"])
    def bad(self, context: Context):
        raise ValueError("it broke")

    @hatchet.on_failure_step()
    def tell(self, context: Context):
        return {"failures": context.fetch_run_failures()}


@hatchet.workflow()
class Spawner:
    @hatchet.step()
    async def spawn(self, context: Context):
        await context.aio.spawn_workflow("Hello", {"name": "child"}, key="one")
        return {}


@hatchet.workflow(on_events=["rest:asked"])
class Hello:
    @hatchet.step()
    def greet(self, context: Context):
        return {"hello": context.workflow_input().get("name")}


@hatchet.workflow()
class Endless:
    @hatchet.step(timeout="60s")
    async def wait(self, context: Context):
        while not context.exit_flag:  # noqa: ASYNC110  # all that a step has
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        print(answers_to(hatchet.rest, sys.argv[2]))
        sys.exit()
    worker = hatchet.worker("rest", max_runs=10)
    for workflow in (Broken(), Spawner(), Hello(), Endless()):
        worker.register_workflow(workflow)
    worker.start()
