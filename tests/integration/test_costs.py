"""A child run costs what it did: requests, messages, function calls, bytes. The way to move a range: ``make costs``."""

from __future__ import annotations

import pytest

from tests.integration.costs import measure_api_server, measure_operator, problems, ranges
from tests.kube.real_api import BinariesMissingError, find_binaries


@pytest.mark.parametrize("where", ["one after the other", "all at once", "light, all at once"])
async def test_a_child_costs_the_operator_what_it_did(where: str) -> None:
    costs = await measure_operator(at_once=where.endswith("all at once"), light=where.startswith("light"))
    assert not problems(where, costs)


async def test_a_child_costs_the_api_server_what_it_did() -> None:
    try:
        find_binaries()
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    assert not problems("a real API server", await measure_api_server())


def test_what_costs_more_or_less_is_told_with_the_way_to_move_it() -> None:
    where = "one after the other"
    right = {name: (least + most) / 2 for name, (least, most) in ranges()[where].items()}
    assert not problems(where, right)
    (more,) = problems(where, right | {"gRPC messages": 99.0})
    assert more.startswith("one after the other, a child costs 99.000 gRPC messages, but ")
    assert '"make costs" moves the range' in more
    (less,) = problems(where, right | {"function calls": 1.0})
    assert "a child costs 1.000 function calls" in less
    (new,) = problems(where, right | {"patch pods requests": 1.0})
    assert "a child costs 1.000 patch pods requests, but 0.0 to 0.0" in new
