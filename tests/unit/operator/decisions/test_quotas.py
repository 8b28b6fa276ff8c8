"""When a quota may have room again."""

from decimal import Decimal

import pytest

from hatchet_operator.decisions.quotas import Quota, may_have_room, quantity


def quota(*, wanted: str = "2", hard: str | None = "2", used: str | None = "2", **more: str) -> Quota:
    status = {} if hard is None else {"hard": {"pods": hard} | more, "used": {"pods": used}}
    return Quota.read({"spec": {"hard": {"pods": wanted} | more}, "status": status})


@pytest.mark.parametrize(
    ("before", "now", "has"),
    [
        pytest.param(quota(), quota(), False, id="nothing changed"),
        pytest.param(quota(), quota(wanted="3"), True, id="somebody raised it"),
        pytest.param(quota(wanted="3"), quota(wanted="3", hard="3"), True, id="its controller noticed"),
        pytest.param(quota(), quota(wanted="1", hard="1"), False, id="lowered"),
        pytest.param(quota(used="1"), quota(used="2"), False, id="one more is used"),
        pytest.param(quota(), quota(used="1"), True, id="one less is used"),
        pytest.param(quota(used="10"), quota(used="9"), True, id="numbers, not texts"),
        pytest.param(quota(wanted="1000m"), quota(wanted="1"), False, id="the same, written differently"),
        pytest.param(quota(wanted="1Gi"), quota(wanted="1025Mi"), True, id="binary suffixes"),
        pytest.param(quota(memory="1Gi"), quota(), True, id="a bound was taken away"),
        pytest.param(quota(), quota(memory="1Gi"), False, id="a bound was added"),
        pytest.param(quota(hard=None), quota(), False, id="its status came"),
        pytest.param(quota(), quota(hard=None), True, id="its status went"),
        pytest.param(quota(wanted="?"), quota(wanted="!"), False, id="no quantities"),
    ],
)
def test_a_quota_may_have_room_when_it_allows_more_or_less_is_used(before: Quota, now: Quota, has: bool) -> None:
    assert may_have_room(before, now) is has


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", "1"), ("500m", "0.5"), ("2k", "2000"), ("1Ki", "1024"), ("1.5Gi", "1610612736"), ("1e3", "1000"),
     ("3Ei", "3458764513820540928"), ("-1", "-1")],
)  # fmt: skip
def test_quantities(text: str, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "many", "1 Gi", "1GiB", "."])
def test_what_is_no_quantity(text: str) -> None:
    assert quantity(text) is None
