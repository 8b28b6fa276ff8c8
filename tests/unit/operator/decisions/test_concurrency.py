"""Which runs of a group go on, wait or have to go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.concurrency import MAX_PARALLEL, SeenGroup, limits_of, plan_group, with_groups
from hatchet_operator.decisions.observed import GroupState, ObservedRun
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import LimitStrategy, Phase, Reason
from hatchet_operator.resources.workflow import (
    GROUPS_SHOWN,
    ConcurrencyLimit,
    WorkflowDefinition,
    WorkflowSpec,
    WorkflowStatus,
)
from tests.unit.operator.decisions.builders import NOW, later, make_graph, make_observed_run, make_step

QUEUE, ROBIN = LimitStrategy.QUEUE_NEWEST, LimitStrategy.GROUP_ROUND_ROBIN
IN_PROGRESS, NEWEST = LimitStrategy.CANCEL_IN_PROGRESS, LimitStrategy.CANCEL_NEWEST
EXCEPT_NEWEST = LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST


@pytest.mark.parametrize(
    ("strategy", "most", "going", "leaving", "waiting", "admit", "cancel"),
    [
        pytest.param(QUEUE, 1, "", 0, "ab", "a", "", id="the first of a queue goes"),
        pytest.param(QUEUE, 1, "a", 0, "bc", "", "", id="a full group lets the others wait"),
        pytest.param(QUEUE, 3, "a", 0, "bcd", "bc", "", id="as many as there is room for"),
        pytest.param(QUEUE, 1, "", 1, "a", "", "", id="who has to go takes room until it is final"),
        pytest.param(QUEUE, 2, "", 0, "xab", "ab", "", id="one that is kept elsewhere holds up nobody"),
        pytest.param(ROBIN, 1, "a", 0, "b", "", "", id="round robin waits"),
        pytest.param(NEWEST, 1, "a", 0, "b", "", "b", id="the newcomer goes"),
        pytest.param(NEWEST, 2, "a", 0, "bc", "b", "c", id="unless there is room"),
        pytest.param(NEWEST, 1, "", 0, "xa", "", "a", id="one that is kept elsewhere keeps its place"),
        pytest.param(EXCEPT_NEWEST, 1, "a", 0, "bcd", "", "bc", id="of those that wait the newest stays"),
        pytest.param(EXCEPT_NEWEST, 1, "", 0, "b", "b", "", id="and goes on when there is room"),
        pytest.param(IN_PROGRESS, 1, "a", 0, "b", "", "a", id="the newest replaces the one that runs"),
        pytest.param(IN_PROGRESS, 1, "", 1, "b", "", "", id="once that is final"),
        pytest.param(IN_PROGRESS, 1, "", 0, "b", "b", "", id="now it is"),
        pytest.param(IN_PROGRESS, 1, "a", 0, "bc", "", "ab", id="those between go without having begun"),
        pytest.param(IN_PROGRESS, 2, "ab", 0, "c", "", "a", id="the oldest of two goes"),
        pytest.param(IN_PROGRESS, 3, "ab", 0, "c", "c", "", id="with room nobody goes"),
        pytest.param(IN_PROGRESS, 1, "", 0, "", "", "", id="an empty group"),
    ],
)
def test_who_goes_on(
    strategy: LimitStrategy, most: int, going: str, leaving: int, waiting: str, admit: str, cancel: str
) -> None:
    limit = ConcurrencyLimit(expression="input.user", max_runs=most, strategy=strategy)
    plan = plan_group(limit, going=going, leaving=leaving, waiting=iter(waiting), may_go=lambda run: run != "x")
    assert ("".join(plan.admit), "".join(plan.cancel)) == (admit, cancel)


def test_of_a_long_queue_no_more_is_read_than_there_is_room_for() -> None:
    line = iter(range(1_000_000))
    limit = ConcurrencyLimit(expression="'all'", max_runs=2)
    assert plan_group(limit, going=[], leaving=0, waiting=line, may_go=lambda run: True).admit == (0, 1)
    assert next(line) == 2
    assert plan_group(limit, going=[0, 1], leaving=0, waiting=line, may_go=lambda run: True).admit == ()
    assert next(line) == 3


def in_group(group: GroupState, **status: Any) -> ObservedRun:
    return replace(make_observed_run(graph=make_graph(), status=status), group=group)


WAITS = GroupState(keys=("ada",), waits="it waits for its turn")


def test_a_run_that_waits_for_its_group_wants_nothing_and_says_so_after_a_while() -> None:
    young = plan_run(in_group(WAITS), NOW)
    assert (young.wanted, young.status) == ((), None)
    assert young.recheck_at is not None
    told = plan_run(in_group(WAITS), later(60)).status
    assert told is not None
    assert (told.reason, told.message, told.concurrency_groups) == (Reason.CONCURRENCY_LIMIT, WAITS.waits, ("ada",))
    again = plan_run(in_group(WAITS, reason=told.reason, message=told.message), later(70))
    assert again.status is None, "it is said once"


def test_deep_in_a_long_line_nothing_is_written() -> None:
    other = GroupState(keys=("ada",), waits="3 may go on by now", may_tell=False)
    told = in_group(other, reason=Reason.CONCURRENCY_LIMIT, message="1 may go on")
    changed = plan_run(told, later(60)).status
    assert changed is not None
    assert changed.message == "3 may go on by now", "a person has changed the limit"
    quiet = GroupState(keys=("ada",), waits="it waits", may_tell=False)
    assert plan_run(in_group(quiet), later(60)).status is None


def test_a_run_whose_turn_has_come_stops_saying_that_it_waits() -> None:
    waited = {"reason": Reason.CONCURRENCY_LIMIT, "message": "it waits", "concurrency_groups": ("ada",)}
    plan = plan_run(in_group(GroupState(keys=("ada",)), **waited), NOW)
    assert plan.status is not None
    assert (plan.status.reason, plan.status.message, plan.status.concurrency_groups) == (None, None, ("ada",))


def test_a_run_that_has_to_go_is_cancelled_in_hatchets_words() -> None:
    group = GroupState(keys=("ada",), cancelled_for="newer runs have come")
    status = plan_run(in_group(group), NOW).status
    assert status is not None
    assert (status.phase, status.reason, status.message) == (
        Phase.CANCELLED,
        Reason.CONCURRENCY_LIMIT,
        group.cancelled_for,
    )
    assert "CANCELLED_BY_CONCURRENCY_LIMIT" in (status.steps["work"].error or "")


def test_a_run_without_a_key_fails_in_words() -> None:
    group = GroupState(problem="the concurrency expression 'input.user' can't be evaluated")
    status = plan_run(in_group(group), NOW).status
    assert status is not None
    assert (status.phase, status.reason, status.message) == (Phase.FAILED, Reason.INVALID_INPUT, group.problem)


DEFINITION = WorkflowDefinition(
    name="Etl",
    steps=(make_step(),),
    schedule_timeout=timedelta(minutes=5),
    concurrency=(ConcurrencyLimit(expression="input.user"),),
)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({}, [("input.user", 1)], id="what the code says"),
        pytest.param({"maxParallel": 3}, [(MAX_PARALLEL, 3), ("input.user", 1)], id="maxParallel beside it"),
        pytest.param({"concurrency": [], "maxParallel": 3}, [(MAX_PARALLEL, 3)], id="and beside what a person says"),
        pytest.param({"concurrency": []}, [], id="none"),
    ],
)
def test_the_limits_of_a_workflow(spec: dict[str, Any], want: list[tuple[str, int]]) -> None:
    limits = limits_of(WorkflowSpec.model_validate(spec), DEFINITION)
    assert [(limit.expression, limit.max_runs) for limit in limits] == want


@given(acts=st.lists(st.sampled_from(["come", "end"]), max_size=60), most=st.integers(1, 4))
def test_of_a_workflow_with_max_parallel_as_many_go_on_as_may_and_the_oldest_first(acts: list[str], most: int) -> None:
    (limit,) = limits_of(WorkflowSpec(max_parallel=most, concurrency=()), DEFINITION)
    going: list[int] = []
    waiting: list[int] = []
    for number, act in enumerate(acts):
        if act == "come":
            waiting.append(number)
        elif going:
            going.pop(0)
        plan = plan_group(limit, going=going, leaving=0, waiting=iter(waiting), may_go=lambda run: True)
        assert not plan.cancel
        assert list(plan.admit) == waiting[: len(plan.admit)]
        going += plan.admit
        del waiting[: len(plan.admit)]
        assert len(going) == min(most, len(going) + len(waiting))


def test_a_workflow_shows_the_groups_in_which_most_wait_and_counts_all() -> None:
    groups = [SeenGroup(expression="input.user", key=f"user-{n:02}", active=1, waiting=n) for n in range(30)]
    shown = with_groups(WorkflowStatus(), groups)
    want = [f"user-{n:02}" for n in reversed(range(30 - GROUPS_SHOWN, 30))]
    assert [group.key for group in shown.concurrency_groups or ()] == want
    assert (shown.groups, shown.waiting) == (30, sum(range(30)))


def test_a_run_that_waits_in_two_groups_counts_once() -> None:
    groups = [
        SeenGroup(expression="'all'", key="all", active=2, waiting=3, active_runs=("a", "b"), waiting_runs=("c",)),
        SeenGroup(expression="input.user", key="ada", active=1, waiting=2),
        SeenGroup(expression="input.user", key="bob", active=1, waiting=1),
    ]
    shown = with_groups(WorkflowStatus(), groups)
    assert shown.waiting == 3
    (first, *_) = shown.concurrency_groups or ()
    assert (first.key, first.active, first.active_runs, first.waiting_runs) == ("all", 2, ("a", "b"), ("c",))


def test_equal_groups_are_shown_in_one_order_and_none_as_if_there_never_had_been_any() -> None:
    groups = [SeenGroup(expression="input.user", key=key, active=1) for key in "ba"]
    shown = with_groups(WorkflowStatus(), groups)
    assert shown == with_groups(WorkflowStatus(), groups[::-1])
    assert with_groups(shown, []) == WorkflowStatus()
