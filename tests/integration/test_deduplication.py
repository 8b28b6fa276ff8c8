"""The entry "dedupe" of a run's metadata: of a workflow's runs, one has a value, whoever starts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from hatchet_sdk import Context, DedupeViolationErr, Hatchet, InvalidRequest
from tests.integration.inprocess import Instance, operator_of, running_operator, running_server, step_of

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@hatchet.workflow(on_events=["order"])
class Order:
    @hatchet.step()
    async def work(self, context: Context) -> dict[str, Any]:
        return {"metadata": context.additional_metadata()}


@hatchet.workflow()
class Orders:
    """Spawns an order for each metadata of its input, and fails once when it is asked to."""

    @hatchet.step(retries=1)
    async def spawn(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        told = []
        for number, metadata in enumerate(given["orders"]):
            if context.retry_count() and given.get("forgets"):
                metadata = {}
            try:
                ref = await context.aio.spawn_workflow(
                    "Order", {}, key=f"order{number}", options={"additional_metadata": metadata}
                )
                await ref.result()
                told.append(str(ref))
            except DedupeViolationErr as error:
                told.append(str(error))
        if context.retry_count() < given.get("failures", 0):
            raise ValueError(json.dumps(told))
        return {"told": told}


def deduplicated(value: object, **options: Any) -> Any:
    return {"additional_metadata": {"dedupe": value}} | options


async def test_one_run_of_a_workflow_has_a_value_until_it_is_deleted(world: Instance) -> None:
    admin = (await world.work(Order(), Orders())).admin.aio
    ref = await admin.run_workflow("Order", {}, deduplicated("7/a", request_id="r1"))
    assert str(await admin.run_workflow("Order", {}, deduplicated("7/a", request_id="r1"))) == str(ref), "one request"
    with pytest.raises(DedupeViolationErr, match=f"deduplication value 7/a already exists: run {ref} of workflow"):
        await admin.run_workflow("Order", {}, deduplicated("7/a"))
    other = await admin.run_workflow("Order", {}, deduplicated(7))
    orders = await admin.run_workflow("Orders", {"orders": []}, deduplicated("7/a"))
    for each in (ref, other, orders):
        await each.result()
    with pytest.raises(DedupeViolationErr):  # also when it is over
        await admin.run_workflow("Order", {}, deduplicated("7/a"))
    await world.delete_run(str(ref))
    await world.until_gone(str(ref))
    again = await admin.run_workflow("Order", {}, deduplicated("7/a"))
    assert (await again.result())["work"] == {"metadata": {"dedupe": "7/a"}}
    assert len(await world.runs("hatchet-operator.dev/dedupe")) == 3


async def test_of_many_calls_at_once_one_makes_the_run_also_over_a_restart() -> None:
    async with running_server() as (server, url):
        for made in (1, 0):
            async with operator_of(server, url) as world:
                admin = (await world.work(Order())).admin.aio
                calls = [admin.run_workflow("Order", {}, deduplicated("once")) for _ in range(10)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert [isinstance(each, DedupeViolationErr) for each in answers].count(False) == made, answers
                [run] = await world.runs()
                await world.finished(run["metadata"]["name"])


async def test_children_have_values_and_a_retried_parent_finds_them(world: Instance) -> None:
    await world.work(Order(), Orders())
    orders = [{"dedupe": "a"}, {"dedupe": "b"}, {}]
    for name, more in (("first", {"failures": 1}), ("second", {}), ("third", {"failures": 1, "forgets": True})):
        mine = orders if name != "third" else [{"dedupe": "c"}]
        await world.create_run(name, "orders", {"orders": mine, **more}, additionalMetadata={"dedupe": "of the parent"})
    told = {}
    for name in ("first", "second", "third"):
        step = step_of(await world.finished(name), "spawn")
        told[name] = json.loads(step["output"])["told"]
    violated = sorted(answer for name in ("first", "second") for answer in told[name] if "dedupl" in answer)
    assert [answer.partition(":")[0] for answer in violated] == [
        f"workflow run with deduplication value {value} already exists" for value in "ab"
    ], told
    assert len(await world.runs("hatchet-operator.dev/workflow=order")) == 5, told
    [child] = told["third"]
    assert (await world.run(child))["spec"]["additionalMetadata"] == {"dedupe": "c"}


async def test_an_event_whose_value_is_taken_starts_nothing(world: Instance) -> None:
    hatchet = await world.work(Order())
    for _ in range(2):
        await hatchet.event.aio_push("order", {}, {"additional_metadata": {"dedupe": "e"}})
    [run] = await world.runs()
    await world.finished(run["metadata"]["name"])


@pytest.mark.parametrize("value", ["", ["a"], {"a": 1}])
async def test_a_value_that_is_none_is_refused(world: Instance, value: Any) -> None:
    admin = (await world.work(Order())).admin.aio
    with pytest.raises(InvalidRequest, match='metadata for workflow "Order": metadata entry "dedupe" is'):
        await admin.run_workflow("Order", {}, deduplicated(value))
    soon = datetime.now().astimezone() + timedelta(hours=1)
    with pytest.raises(InvalidRequest, match=r"2 runs of workflow .* with one deduplication value"):
        await admin.schedule_workflow("Order", [soon, soon], {}, deduplicated("x"))
    assert await world.runs() == []
