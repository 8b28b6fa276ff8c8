"""Whole runs, on the real operator: a second for the first test, milliseconds for the others."""

import pytest
from worker import Item, Order

from hatchet_sdk import WorkflowRunFailed
from hatchet_sdk.testing import LocalServer


def test_an_order_is_priced(hatchet_server: LocalServer) -> None:
    with hatchet_server.worker(Order(), Item()):
        result = hatchet_server.run("Order", {"items": ["tea", "milk", "gold"]})
    assert result == {"price": {"total": 5, "unknown": ["gold"]}}


def test_an_item_without_a_price_fails(hatchet_server: LocalServer) -> None:
    with hatchet_server.worker(Item()), pytest.raises(WorkflowRunFailed, match="KeyError"):
        hatchet_server.run("Item", {"name": "gold"})
