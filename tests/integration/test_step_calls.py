"""What a step may ask of the operator while it runs, and what it is told of its run: our SDK, the real operator."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_sdk import Context, DesiredWorkerLabel, Hatchet
from tests.integration.inprocess import SECONDS, Instance, running_operator, step_of

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(cancel_grace=0.2) as instance:
        yield instance


async def test_a_step_asks_for_more_time(world: Instance) -> None:
    have_asked, is_later = (threading.Barrier(3, timeout=SECONDS) for _ in range(2))

    @hatchet.workflow()
    class Slow:
        @hatchet.step(timeout="1m")
        async def coroutine(self, context: Context) -> dict[str, bool]:
            await context.aio.refresh_timeout("1m")
            await asyncio.to_thread(have_asked.wait)
            await asyncio.to_thread(is_later.wait)
            return {"told_to_stop": context.exit_flag}

        @hatchet.step(timeout="1m")
        def thread(self, context: Context) -> dict[str, bool]:
            context.refresh_timeout("1m")
            have_asked.wait()
            is_later.wait()
            return {"told_to_stop": context.exit_flag}

    await world.work(Slow())
    await world.create_run("r", "slow")
    await asyncio.to_thread(have_asked.wait)
    await world.time_passes(90, "r")
    await asyncio.to_thread(is_later.wait)
    status = await world.finished("r")
    outputs = [json.loads(step_of(status, step)["output"]) for step in ("coroutine", "thread")]
    assert outputs == [{"told_to_stop": False}] * 2


async def test_a_slot_that_a_step_gives_back_is_for_another_run(world: Instance) -> None:
    other_ran = threading.Event()

    @hatchet.workflow()
    class Holder:
        @hatchet.step()
        def hold(self, context: Context) -> dict[str, bool]:
            before = other_ran.wait(0.5)
            context.release_slot()
            return {"before": before, "after": other_ran.wait(15)}

    @hatchet.workflow()
    class Other:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            other_ran.set()

    await world.work(Holder(), Other(), slots=1)
    await world.create_run("holder", "holder")
    await world.until_phase("holder", "Running")
    await world.create_run("other", "other")
    output = step_of(await world.finished("holder"), "hold")["output"]
    assert json.loads(output) == {"before": False, "after": True}


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_label_that_a_step_sets_counts_for_steps_that_wait_for_it(world: Instance, is_async: bool) -> None:
    @hatchet.workflow()
    class Needs:
        @hatchet.step(desired_worker_labels={"model": DesiredWorkerLabel(value="large", required=True)})
        def work(self, context: Context) -> dict[str, Any]:
            return {"labels": dict(context.worker.labels())}

    @hatchet.workflow()
    class Loads:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            if is_async:
                await context.worker.async_upsert_labels({"model": "large"})
            else:
                await asyncio.to_thread(context.worker.upsert_labels, {"model": "large"})

    await world.work(Needs(), Loads())
    await world.create_run("waits", "needs")
    await world.create_run("loads", "loads")
    status = await world.finished("waits")
    assert json.loads(step_of(status)["output"]) == {"labels": {"model": "large"}}


async def test_metadata_of_a_run_come_to_its_children_below_their_own(world: Instance) -> None:
    @hatchet.workflow()
    class Child:
        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            return context.additional_metadata()

    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> dict[str, Any]:
            ref = await context.aio.spawn_workflow("Child", options={"additional_metadata": {"own": 1, "b": 2}})
            return (await ref.result())["work"]

    admin = (await world.work(Parent(), Child())).admin.aio
    ref = await admin.run_workflow("Parent", {}, {"additional_metadata": {"a": "x", "b": "y"}})
    assert (await ref.result())["spawn"] == {"a": "x", "b": 2, "own": 1}


async def test_what_programs_of_hatchets_ask_their_context(world: Instance) -> None:
    told: dict[str, Any] = {}

    @hatchet.workflow(name="Etl")
    class Etl:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            told["playground"] = context.playground("model", "small")
            told["by event"] = context.triggered_by_event()
            raise ValueError("it broke")

        @hatchet.on_failure_step()
        async def tidy(self, context: Context) -> None:
            told["failures"] = context.fetch_run_failures()

    await world.work(Etl())
    await world.create_run("r", "etl")
    await world.finished("r")
    [failure] = told.pop("failures")
    assert told == {"playground": "small", "by event": False}
    assert (failure["step_id"], failure["step_run_action_name"]) == ("work", "etl:work")
    assert failure["error"].startswith("it broke")
