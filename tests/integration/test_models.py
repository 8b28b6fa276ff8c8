"""Inputs and outputs of steps as pydantic models, with the real operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from pydantic import BaseModel

from hatchet_sdk import Context, Hatchet, Workflow
from tests.integration.inprocess import Instance, running_operator, step_of

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


class Order(BaseModel):
    id: int
    amount: float = 1.0


class Receipt(BaseModel):
    order: Order


@hatchet.workflow(input_validator=Order)
class Pay:
    @hatchet.step(retries=3)
    async def charge(self, context: Context) -> Receipt:
        return Receipt(order=cast("Order", context.workflow_input()))

    @hatchet.step(parents=["charge"])
    def ship(self, context: Context) -> dict[str, Any]:
        order = context.step_output("charge", Receipt).order
        return {"order": order, "same": order == context.workflow_input(Order)}


async def test_inputs_and_outputs_are_models(world: Instance) -> None:
    hatchet = await world.work(Pay())
    result = await (await hatchet.admin.aio.run_workflow("Pay", Order(id=7))).result()
    assert result == {
        "charge": {"order": {"id": 7, "amount": 1.0}},
        "ship": {"order": {"id": 7, "amount": 1.0}, "same": True},
    }


class Paid(BaseModel):
    charge: Receipt


@hatchet.workflow()
class PayTyped(Workflow[Order, Paid]):
    @hatchet.step()
    def charge(self, context: Context) -> Receipt:
        return Receipt(order=context.workflow_input(Order))


@hatchet.workflow()
class PayAll:
    @hatchet.step()
    async def all(self, context: Context) -> dict[str, Any]:
        ref = await context.aio.spawn_workflow(PayTyped, Order(id=8), key="only")
        return {"amount": (await ref.result()).charge.order.amount}


async def test_a_class_is_started_and_its_result_is_its_model(world: Instance) -> None:
    hatchet = await world.work(PayTyped(), PayAll())
    ref = await hatchet.admin.aio.run_workflow(PayTyped, Order(id=7))
    assert await ref.result() == Paid(charge=Receipt(order=Order(id=7)))
    assert await (await hatchet.admin.aio.run_workflow("PayAll", {})).result() == {"all": {"amount": 1.0}}


async def test_an_input_that_the_model_does_not_take_fails_at_once_in_the_models_words(world: Instance) -> None:
    await world.work(Pay())
    await world.create_run("r", "pay", {"id": "seven"})
    status = await world.finished("r")
    assert step_of(status, "charge")["attempt"] == 0
    assert "the input of run r is no Order: 1 validation error for Order" in status["message"]
    error = step_of(status, "charge")["error"]
    assert "Input should be a valid integer, unable to parse string as an integer" in error
