"""Steps alone: no server, milliseconds."""

import asyncio

import pytest
from worker import Item, Order

from hatchet_sdk import WorkflowNotFound
from hatchet_sdk.testing import FakeContext


def test_an_item_has_its_price() -> None:
    assert Item().look_up(FakeContext({"name": "tea"})) == {"price": 3}


def test_an_order_is_the_sum_of_its_items() -> None:
    context = FakeContext({"items": ["tea", "milk"]})
    context.answer("Item", lambda child: {"look_up": {"price": len(child.input["name"])}})
    assert asyncio.run(Order().price(context)) == {"total": 7, "unknown": []}
    assert [(child.key, child.input) for child in context.spawned] == [
        ("tea", {"name": "tea"}),
        ("milk", {"name": "milk"}),
    ]


def test_an_item_without_a_price_is_left_out() -> None:
    context = FakeContext({"items": ["tea", "gold"]})
    context.answer("Item", {"look_up": {"price": 3}})
    context.fail("Item", "KeyError: 'gold'", key="gold")
    assert asyncio.run(Order().price(context)) == {"total": 3, "unknown": ["gold"]}
    assert context.logged == ["no price: gold"]


def test_a_missing_workflow_fails_the_order() -> None:
    context = FakeContext({"items": ["tea"]})
    context.refuse("Item", WorkflowNotFound("nobody registered it"))
    with pytest.raises(WorkflowNotFound):
        asyncio.run(Order().price(context))
