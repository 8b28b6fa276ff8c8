"""Inputs and outputs of steps as pydantic models, with the real operator."""

from __future__ import annotations

import json
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


ran: list[str] = []


@hatchet.workflow(input_validator=Order)
class Ignorant:
    @hatchet.step(retries=3)
    def go(self, context: Context) -> None:
        ran.append("go")

    @hatchet.on_failure_step()
    def tell(self, context: Context) -> dict[str, str]:
        ran.append("tell")
        return {"why": context.step_run_errors()["go"].splitlines()[0]}


async def test_an_input_that_the_model_does_not_take_fails_at_once_before_the_step_begins(world: Instance) -> None:
    ran.clear()
    await world.work(Ignorant())
    await world.create_run("r", "ignorant", {"id": "seven", "amount": []})
    status = await world.finished("r")
    assert step_of(status, "go")["attempt"] == 0
    wrong = (
        "the input of run r is no Order: id: Input should be a valid integer, unable to parse string as an integer "
        "(it is 'seven'); amount: Input should be a valid number (it is [])"
    )
    assert f"InvalidInput: {wrong}" in status["message"]
    error = step_of(status, "go")["error"]
    assert "pydantic" not in error, "the error leads into a library that is not the user's"
    assert json.loads(step_of(status, "tell")["output"]) == {"why": wrong}
    assert ran == ["tell"]
