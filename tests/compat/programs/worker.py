"""Workflows as users of Hatchet's class API write them; the published SDK runs this file, 0.36.24 as well as 0.47.1.

Executions are noted in HATCHET_TEST_DIRECTORY as the integration tests' worker does it.
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from pydantic import BaseModel

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
class Echo:
    """Says what it was told, and who told it."""

    @hatchet.step()
    async def say(self, context: Context):
        note(context, "say")
        return {
            "input": context.workflow_input(),
            "index": context.child_index(),
            "key": context.child_key(),
            "parent": context.parent_workflow_run_id(),
            "metadata": context.additional_metadata(),
            "retry_count": context.retry_count(),
            "run": context.workflow_run_id(),
        }


@hatchet.workflow(on_events=["user:create"], on_crons=["0 0 1 1 *"])
class Triggered:
    """Runs by itself, and when it is asked for."""

    @hatchet.step()
    async def say(self, context: Context):
        by_event = context.triggered_by_event()
        return {"input": context.workflow_input(), "metadata": context.additional_metadata(), "by_event": by_event}


@hatchet.workflow()
class Diamond:
    """A graph with sync and async steps."""

    @hatchet.step()
    def load(self, context: Context):
        return {"number": context.workflow_input()["number"]}

    @hatchet.step(parents=["load"])
    async def double(self, context: Context):
        return {"number": context.step_output("load")["number"] * 2}

    @hatchet.step(parents=["load"])
    def square(self, context: Context):
        return {"number": context.step_output("load")["number"] ** 2}

    @hatchet.step(parents=["double", "square"])
    def add(self, context: Context):
        return {"number": context.step_output("double")["number"] + context.step_output("square")["number"]}


@hatchet.workflow()
class RetriedParent:
    """Spawns by key and by order, fails once all children are through, and awaits them twice when it is retried."""

    @hatchet.step(timeout="30s", retries=1)
    async def spawn(self, context: Context):
        note(context, "spawn")
        by_order = [await context.aio.spawn_workflow("Echo", {"n": number}) for number in range(2)]
        by_key = [await context.aio.spawn_workflow("Echo", {"n": number}, key=f"key{number}") for number in range(2)]
        refs = by_order + by_key
        results = await asyncio.gather(*[ref.result() for ref in refs])
        if context.retry_count() == 0:
            raise RuntimeError("failed after its children succeeded")
        again = await asyncio.gather(*[ref.result() for ref in refs])
        return {"runs": [ref.workflow_run_id for ref in refs], "results": results, "same_again": results == again}


@hatchet.workflow()
class OneChild:
    """Spawns what its input names, and tells how that went."""

    @hatchet.step()
    async def spawn(self, context: Context):
        given = context.workflow_input()
        try:
            ref = await context.aio.spawn_workflow(
                given["workflow"], given.get("input", {}), options=given.get("options")
            )
            return {"result": await ref.result()}
        except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
            return {"type": type(error).__name__, "error": str(error)}


@hatchet.workflow()
class Impatient:
    @hatchet.step(timeout="1s")
    async def wait(self, context: Context):
        note(context, "wait")
        await asyncio.sleep(30)
        return {"late": True}


@hatchet.workflow()
class Obedient:
    """Has a retry left, but ends by itself when it is told to stop, with nothing to return."""

    @hatchet.step(timeout="2s", retries=1)
    async def wait(self, context: Context):
        note(context, "wait")
        for _ in range(20):
            if context.exit_flag:
                note(context, "told")
                return None
            await asyncio.sleep(0.5)
        return {"stopped": False}


@hatchet.workflow()
class Stubborn:
    """A thread can't be cancelled: the first attempt outlives its timeout, and what it says then must not count."""

    @hatchet.step(timeout="1s", retries=1)
    def wait(self, context: Context):
        note(context, "wait")
        if context.retry_count() == 0:
            time.sleep(3.5)
            return {"from": "the attempt that timed out"}
        time.sleep(0.5)
        return {"from": "the retry"}


@hatchet.workflow()
class Prolonged:
    @hatchet.step(timeout="2s")
    async def wait(self, context: Context):
        context.refresh_timeout("10s")
        await asyncio.sleep(3)
        return {"prolonged": True}


@hatchet.workflow()
class Talkative:
    @hatchet.step()
    async def talk(self, context: Context):
        context.log("a line for the operator's log")
        context.log({"and": "a mapping"})
        await asyncio.sleep(0.2)
        return {"talked": True}


@hatchet.workflow()
class Returning:
    """Returns what no step should, or nothing."""

    @hatchet.step()
    async def give(self, context: Context):
        what = context.workflow_input()["what"]
        return {"nothing": None, "a list": [1, 2], "a set": {1, 2}, "text": "some text", "empty": {}}[what]


@hatchet.workflow()
class Failing:
    @hatchet.step()
    async def fail(self, context: Context):
        raise ValueError("this step always fails")

    @hatchet.step(parents=["fail"])
    async def after(self, context: Context):
        note(context, "after")
        return {}

    @hatchet.on_failure_step()
    async def clean_up(self, context: Context):
        note(context, "clean_up")
        return {"cleaned": True}


@hatchet.workflow(name="MixedCase-Names")
class Mixed:
    @hatchet.step(name="FirstStep")
    async def one(self, context: Context):
        return {"one": 1}

    @hatchet.step(name="SecondStep", parents=["firststep"])
    async def two(self, context: Context):
        return {"two": context.step_output("firststep")["one"] + 1}


@hatchet.workflow()
class Streaming:
    @hatchet.step()
    async def speak(self, context: Context):
        for number in range(5):
            context.put_stream(f"word {number}")
            await asyncio.sleep(0.1)  # a pool of threads sends them, each by itself
        return {"said": 5}


@hatchet.workflow()
class Extras:
    """Uses what this operator does not have; each call may fail, the step goes on."""

    @hatchet.step()
    async def use(self, context: Context):
        told = {"playground": context.playground("setting", "a default")}
        context.put_stream("a chunk")
        try:
            context.worker.upsert_labels({"memory": 512})
            told["labels"] = "kept"
        except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
            told["labels"] = str(error)
        try:
            await asyncio.to_thread(hatchet.client.event.push, "user:create", {"id": 1})
            told["push"] = "sent"
        except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
            told["push"] = str(error)
        return told


class BulkParent:
    @hatchet.step(timeout="30s")
    async def spawn(self, context: Context):
        items = [
            {"workflow_name": "Echo", "input": {"n": number}, "key": f"bulk{number}", "options": {}}
            for number in range(5)
        ]
        refs = await context.aio.spawn_workflows(items)
        results = await asyncio.gather(*[ref.result() for ref in refs])
        return {"numbers": [result["say"]["input"]["n"] for result in results]}


WORKFLOWS = [
    Echo,
    Triggered,
    Diamond,
    RetriedParent,
    OneChild,
    Impatient,
    Obedient,
    Stubborn,
    Prolonged,
    Talkative,
    Returning,
    Failing,
    Mixed,
    Streaming,
    Extras,
]
if hasattr(Context, "spawn_workflow"):  # bulk spawns and backoff are as old as these

    @hatchet.workflow()
    class BackingOff:
        @hatchet.step(retries=1, backoff_factor=1.2, backoff_max_seconds=1)
        async def work(self, context: Context):
            note(context, "back off")
            if context.retry_count() == 0:
                raise ValueError("once")
            return {"at": time.time()}

    class Number(BaseModel):
        n: int

    @hatchet.workflow(input_validator=Number)
    class Modelled:
        @hatchet.step()
        async def twice(self, context: Context) -> Number:
            return Number(n=context.workflow_input().n * 2)

        @hatchet.step(parents=["twice"])
        async def again(self, context: Context) -> Number:
            return Number(n=context.step_output("twice").n * 2)

    WORKFLOWS += [Modelled, BackingOff, hatchet.workflow()(BulkParent)]


def main() -> None:
    worker = hatchet.worker("compat", max_runs=int(sys.argv[1]))
    for workflow in WORKFLOWS:
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
