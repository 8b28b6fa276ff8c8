"""Times at which runs are to start, as they travel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from hatchet_sdk import AttemptCancelled, WorkflowNotFound
from hatchet_sdk._client.requests import schedule_request
from hatchet_sdk.testing import FakeContext


def test_each_time_travels_in_utc_with_what_is_said_of_the_run() -> None:
    at = datetime(2027, 1, 1, 6, 30, tzinfo=timezone(timedelta(hours=2)))
    request = schedule_request("etl", [at, at], {"a": 1}, {"priority": 2, "request_id": "r"})
    assert [each.ToDatetime(UTC) for each in request.schedules] == [datetime(2027, 1, 1, 4, 30, tzinfo=UTC)] * 2
    assert (request.name, request.input, request.priority, request.request_id) == ("etl", '{"a":1}', 2, "r")


@pytest.mark.parametrize("schedules", [datetime(2027, 1, 1, tzinfo=UTC), ["2027-01-01"]])
def test_what_is_no_list_of_times_is_refused(schedules: Any) -> None:
    with pytest.raises(TypeError, match="expected a list of datetimes"):
        schedule_request("etl", schedules, {}, None)


def test_an_empty_list_of_times_is_refused() -> None:
    with pytest.raises(ValueError, match="schedules is empty"):
        schedule_request("etl", [], {}, None)


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),
    ],
)
def test_a_time_that_is_none_in_utc_is_refused_by_its_place(at: datetime) -> None:
    with pytest.raises(ValueError, match=r'"etl"\): schedules\[1\] is .* \(expected a time from year 1'):
        schedule_request("etl", [SOON, at], {}, None)


SOON, LATER = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC)


async def test_a_step_schedules_children_in_one_order_with_those_that_it_spawns() -> None:
    context = FakeContext(additional_metadata={"team": "blue", "by": "parent"})
    context.spawn_workflow("Child")
    by_index = context.schedule_workflow("Report", [SOON, LATER], {"a": 1}, options={"priority": 3})
    by_key = await context.aio.schedule_workflow(
        "Report", [SOON], key="k", options={"additional_metadata": {"by": "child"}}
    )
    assert [ref.workflow_run_id for ref in by_index + by_key] == ["run-child-0@0", "run-child-0@1", "run-child-key-k@0"]
    _, first, second, third = context.spawned
    assert [(each.start_at, each.index, each.key) for each in (first, second, third)] == [
        (SOON, 0, None),
        (LATER, 0, None),
        (SOON, 1, "k"),
    ]
    assert (first.input, first.options, third.additional_metadata) == (
        {"a": 1},
        {"priority": 3},
        {"team": "blue", "by": "child"},
    )


def test_what_a_step_can_not_schedule_is_refused() -> None:
    context = FakeContext()
    options: Any = {"on_failed": "retry"}
    with pytest.raises(ValueError, match='unknown option "on_failed"'):
        context.schedule_workflow("Report", [SOON], options=options)
    context.refuse("Missing", WorkflowNotFound("no such workflow"))
    with pytest.raises(WorkflowNotFound):
        context.schedule_workflow("Missing", [SOON])
    context.tell_to_stop()
    with pytest.raises(AttemptCancelled):
        context.schedule_workflow("Report", [SOON])
