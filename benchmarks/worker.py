"""The programs that are measured: their functions do nothing but note when they were called.

All moments are microseconds of the monotonic clock, which the processes of one machine share. The published SDK runs
this file too, so nothing of ours alone is used.
"""

import asyncio
import statistics
import time

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()

CHAIN_STEPS = 20
FAILURES = 2


def now_us() -> int:
    return time.monotonic_ns() // 1000


def percentiles_ms(microseconds: list[int]) -> dict[str, float]:
    """Return the 50th and the 95th percentile."""
    values = sorted(microseconds)
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {"p50": cuts[49] / 1000, "p95": cuts[94] / 1000}


@hatchet.workflow()
class Parent:
    """Spawns children, all at once or, as in examples/fanout, one after the other, and awaits all."""

    @hatchet.step(timeout="1h")
    async def spawn(self, context: Context) -> dict[str, object]:
        asked = context.workflow_input()
        first_us = now_us()

        async def spawn_one(number: int):  # type: ignore[no-untyped-def]  # the published SDK calls references otherwise
            called_us = now_us()
            child = await context.aio.spawn_workflow(
                "Child", {"a": str(number)}, key=f"child{number}", options=asked.get("options")
            )
            return called_us, now_us(), child

        if asked["mode"] == "serial":
            spawned = [await spawn_one(number) for number in range(asked["children"])]
        else:
            spawned = list(await asyncio.gather(*(spawn_one(number) for number in range(asked["children"]))))
        results = await asyncio.gather(*(child.result() for _, _, child in spawned))
        return {
            "seconds": (now_us() - first_us) / 1e6,
            "spawn_ms": percentiles_ms([answered_us - called_us for called_us, answered_us, _ in spawned]),
            "start_ms": percentiles_ms(
                [
                    result["process"]["started_us"] - called_us
                    for (called_us, _, _), result in zip(spawned, results, strict=True)
                ]
            ),
        }


@hatchet.workflow()
class Child:
    @hatchet.step()
    async def process(self, context: Context) -> dict[str, int]:
        return {"started_us": now_us()}


@hatchet.workflow()
class Lone:
    """A child, of which each run is given a pod."""

    @hatchet.step()
    async def process(self, context: Context) -> dict[str, int]:
        return {"started_us": now_us()}


@hatchet.workflow()
class Tree:
    """Spawns as many of itself as its input says, so many levels deep."""

    @hatchet.step(timeout="10m")
    async def grow(self, context: Context) -> dict[str, object]:
        asked = context.workflow_input()
        if asked["depth"]:
            below = {"depth": asked["depth"] - 1, "width": asked["width"]}
            spawned = await asyncio.gather(
                *(context.aio.spawn_workflow("Tree", below, key=f"tree{n}") for n in range(asked["width"]))
            )
            await asyncio.gather(*(child.result() for child in spawned))
        return {}


@hatchet.workflow()
class Flaky:
    """Fails some times, and then does not."""

    @hatchet.step(retries=FAILURES)
    async def work(self, context: Context) -> dict[str, object]:
        if context.retry_count() < FAILURES:
            raise RuntimeError("not yet")
        return {}


@hatchet.workflow()
class Burst:
    """Starts runs of their own as a program outside would, so many at a time."""

    @hatchet.step(timeout="10m")
    async def start(self, context: Context) -> dict[str, object]:
        asked = context.workflow_input()
        starter = Hatchet()  # of this loop: in the published SDK, the worker's belongs to the one that imported it
        begun = time.monotonic()
        room = asyncio.Semaphore(asked["at_a_time"])

        async def start_one(number: int):  # type: ignore[no-untyped-def]  # likewise
            async with room:
                return await starter.admin.aio.run_workflow("Child", {"a": str(number)})

        started = await asyncio.gather(*(start_one(number) for number in range(asked["runs"])))
        accepted = time.monotonic() - begun
        await asyncio.gather(*(run.result() for run in started))
        return {"accepted_seconds": accepted, "seconds": time.monotonic() - begun}


class Chain:
    """Steps that wait for each other."""


def _link(number: int):  # type: ignore[no-untyped-def]  # a decorated function
    async def step(self: object, context: Context) -> dict[str, int]:
        return {"started_us": now_us()}

    step.__name__ = f"step{number:02}"
    return hatchet.step(parents=[f"step{number - 1:02}"] if number else [])(step)


for _number in range(CHAIN_STEPS):
    setattr(Chain, f"step{_number:02}", _link(_number))
Chain = hatchet.workflow()(Chain)  # type: ignore[misc]


def main() -> None:
    worker = hatchet.worker("benchmark-worker", max_runs=100)
    for workflow in (Parent, Child, Lone, Tree, Flaky, Burst, Chain):
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
