"""Which pods cluster autoscalers are asked to leave alone, and how seldom that is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.protection import (
    IDLE,
    PROTECTED,
    ProtectionPlan,
    is_protected,
    open_annotations,
    plan_protection,
)
from hatchet_operator.decisions.scaling import PodView

AFTER = timedelta(seconds=10)
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SOON = timedelta(seconds=1)


def busy(seconds: float, **given: object) -> PodView:
    return pod(connected=True, attempts=1, busy_for=timedelta(seconds=seconds), **given)


def idle(for_: timedelta = timedelta(), **given: object) -> PodView:
    return pod(connected=True, idle_for=for_, **given)


def pod(**given: object) -> PodView:
    return PodView(name="a", **given)  # type: ignore[arg-type]  # a row of a table says what differs


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param(busy(10), ProtectionPlan(protect=("a",)), id="what has taken long is protected"),
        pytest.param(busy(4), ProtectionPlan(recheck_after=timedelta(seconds=6)), id="what takes short is not"),
        pytest.param(idle(), ProtectionPlan(), id="an idle pod is not"),
        pytest.param(busy(99, protected=True), ProtectionPlan(), id="it stays protected while it works"),
        pytest.param(
            idle(SOON, protected=True), ProtectionPlan(recheck_after=IDLE - SOON), id="and for a while after that"
        ),
        pytest.param(busy(0, protected=True), ProtectionPlan(), id="also if it works again meanwhile"),
        pytest.param(idle(IDLE, protected=True), ProtectionPlan(open=("a",)), id="then no more"),
        pytest.param(pod(protected=True), ProtectionPlan(), id="one that was made for work, and is starting"),
        pytest.param(
            pod(protected=True, trouble="ErrImagePull"), ProtectionPlan(open=("a",)), id="and one that can't start"
        ),
        pytest.param(
            pod(protected=True, trouble="Unschedulable", on_node=False),
            ProtectionPlan(),
            id="one without a node keeps none from going",
        ),
        pytest.param(
            busy(99, protected=True, trouble="Error (exit code 1)"), ProtectionPlan(), id="its worker comes back"
        ),
        pytest.param(busy(99, deleting=True), ProtectionPlan(), id="one that is going anyway"),
        pytest.param(pod(protected=True, ended_for=IDLE), ProtectionPlan(), id="one that ended"),
        pytest.param(
            busy(99, written_for=SOON),
            ProtectionPlan(recheck_after=timedelta(seconds=59)),
            id="a write that was refused is not tried again at once",
        ),
    ],
)
def test_whether_a_pod_is_protected(seen: PodView, want: ProtectionPlan) -> None:
    assert plan_protection([seen], after=AFTER) == want


@pytest.mark.parametrize(
    ("after", "template"),
    [
        pytest.param(timedelta(), {}, id="it is switched off"),
        pytest.param(AFTER, PROTECTED, id="the template protects its pods always"),
    ],
)
def test_nothing_is_written(after: timedelta, template: Mapping[str, str]) -> None:
    pods = [busy(99), idle(IDLE, protected=True)]
    assert plan_protection(pods, after=after, template=template) == ProtectionPlan()


def test_a_pod_that_is_open_has_what_its_template_says() -> None:
    assert open_annotations({SAFE_TO_EVICT: "true", "team": "etl"})[SAFE_TO_EVICT] == "true"
    assert set(open_annotations({}).values()) == {None}
    assert is_protected({**PROTECTED, "team": "etl"})
    assert not is_protected({SAFE_TO_EVICT: "false"}), "Karpenter does not read that one"


@given(st.lists(st.tuples(st.floats(0.1, 30), st.floats(0.001, 100)), min_size=1, max_size=50))
def test_a_pod_that_is_never_idle_for_long_is_written_once_at_most(work: list[tuple[float, float]]) -> None:
    """Any number of attempts, of any length, with any pauses of less than two minutes between them."""
    protected, writes = False, 0
    for seconds, pause in work:
        for seen in (busy(seconds, protected=protected), idle(timedelta(seconds=pause), protected=protected)):
            plan = plan_protection([seen], after=AFTER)
            writes += len(plan.protect) + len(plan.open)
            protected = protected or bool(plan.protect)
    assert writes == (max(seconds for seconds, _ in work) >= AFTER.total_seconds())
