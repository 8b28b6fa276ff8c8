"""Which ticks of a cron are due, which start a run, and where the cron stands afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.crons import CronPlan, cron_input, effective_crons, plan_cron, with_suspension
from hatchet_operator.decisions.workflow_status import workflow_conditions
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.triggers import CronStatus, CronTrigger
from hatchet_operator.resources.workflow import StepDefinition, Workflow, WorkflowDefinition, WorkflowSpec

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def name_of(tick: datetime) -> str:
    return f"run-{tick:%d-%H-%M}"


def make_cron(schedule: str = "*/10 * * * *", **fields: Any) -> CronTrigger:
    return CronTrigger.model_validate({"schedule": schedule, **fields})


def make_status(cron: CronTrigger, next_tick: datetime | None, **fields: Any) -> CronStatus:
    return CronStatus(schedule=cron.schedule, time_zone=cron.time_zone, next_tick=next_tick, **fields)


def plan(
    cron: CronTrigger, since: str | None, now: str, *, unfinished: tuple[str, ...] = (), **before: Any
) -> CronPlan:
    status = make_status(cron, at(since) if since else None, **before) if since or before else None
    return plan_cron(cron, status, name_of=name_of, unfinished=unfinished, now=at(now))


def ticks_of(schedule: str, zone: str, since: str, until: str) -> list[str]:
    """What an operator starts that looks at a cron every minute."""
    cron = make_cron(schedule, timeZone=zone)
    now, started = at(since), list[datetime]()
    status = plan_cron(cron, None, name_of=name_of, unfinished=(), now=now).status
    while now < at(until):
        now += timedelta(minutes=1)
        found = plan_cron(cron, status, name_of=name_of, unfinished=(), now=now)
        status, started = found.status, [*started, *found.starts]
    return [f"{tick:%d %H:%M}" for tick in started]


def test_a_cron_begins_when_it_is_first_seen() -> None:
    found = plan(make_cron(), None, "2026-03-14T15:09:26")
    assert (found.starts, found.status.next_tick) == ((), at("2026-03-14T15:10"))


def test_before_its_tick_nothing_changes() -> None:
    cron = make_cron()
    before = make_status(cron, at("2026-03-14T15:10"), message="said before")
    found = plan_cron(cron, before, name_of=name_of, unfinished=(), now=at("2026-03-14T15:09:59.999"))
    assert found == CronPlan(status=before)


def test_a_tick_starts_a_run_and_the_next_one_is_said() -> None:
    found = plan(make_cron(), "2026-03-14T15:10", "2026-03-14T15:10:00.2")
    assert found.starts == (at("2026-03-14T15:10"),)
    assert (found.status.last_tick, found.status.last_run) == (at("2026-03-14T15:10"), "run-14-15-10")
    assert found.status.next_tick == at("2026-03-14T15:20")


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({}, ["15:40"], id="by default the last one is started"),
        pytest.param({"catchUp": "Skip"}, [], id="none is, where they are skipped"),
        pytest.param({"catchUp": "All"}, ["15:10", "15:20", "15:30", "15:40"], id="or all are"),
        pytest.param({"catchUp": "All", "catchUpLimit": 2}, ["15:30", "15:40"], id="up to a limit: the newest"),
    ],
)
def test_ticks_that_nobody_was_there_for(fields: dict[str, Any], want: list[str]) -> None:
    found = plan(make_cron(**fields), "2026-03-14T15:10", "2026-03-14T15:45")
    assert [f"{tick:%H:%M}" for tick in found.starts] == want
    assert found.status.next_tick == at("2026-03-14T15:50")


@pytest.mark.parametrize(("now", "want"), [("15:10:59", 1), ("15:11:00", 0)])
def test_a_change_of_leaders_skips_no_tick(now: str, want: int) -> None:
    found = plan(make_cron(catchUp="Skip"), "2026-03-14T15:10", f"2026-03-14T{now}")
    assert len(found.starts) == want


def test_ten_years_of_minutes_are_caught_up_with_at_once() -> None:
    cron = make_cron("* * * * *", catchUp="All", catchUpLimit=3)
    found = plan(cron, "2016-03-14T15:10", "2026-03-14T15:10")
    assert [f"{tick:%Y %H:%M}" for tick in found.starts] == ["2026 15:08", "2026 15:09", "2026 15:10"]


@pytest.mark.parametrize(
    ("policy", "unfinished", "want", "cancels"),
    [
        pytest.param("Allow", ("run-14-15-00",), ["15:10"], (), id="runs may overlap"),
        pytest.param("Forbid", (), ["15:10"], (), id="no run is in the way"),
        pytest.param("Forbid", ("run-14-15-00",), [], (), id="one is: the tick is skipped"),
        pytest.param("Forbid", ("run-14-15-10",), ["15:10"], (), id="its own run, of before a crash, is not"),
        pytest.param("Replace", ("run-14-15-00",), ["15:10"], ("run-14-15-00",), id="one is cancelled for it"),
        pytest.param("Replace", ("run-14-15-10",), ["15:10"], (), id="its own run is not cancelled"),
    ],
)
def test_a_run_that_has_not_finished(
    policy: str, unfinished: tuple[str, ...], want: list[str], cancels: tuple[str, ...]
) -> None:
    cron = make_cron(concurrencyPolicy=policy)
    found = plan(cron, "2026-03-14T15:10", "2026-03-14T15:10:01", unfinished=unfinished)
    assert [f"{tick:%H:%M}" for tick in found.starts] == want
    assert found.cancels == cancels
    assert (found.status.message is not None) == (not want)
    assert found.status.next_tick == at("2026-03-14T15:20")


@pytest.mark.parametrize("policy", ["Forbid", "Replace"])
def test_of_many_ticks_one_starts_a_run_where_runs_may_not_overlap(policy: str) -> None:
    cron = make_cron(concurrencyPolicy=policy, catchUp="All")
    assert len(plan(cron, "2026-03-14T15:10", "2026-03-14T15:45").starts) == 1


def test_a_suspended_cron_starts_nothing_and_catches_nothing_up() -> None:
    suspended = plan(make_cron(suspended=True), "2026-03-14T15:10", "2026-03-14T15:15", last_run="a")
    assert (suspended.starts, suspended.status.next_tick, suspended.status.suspended) == ((), None, True)
    assert suspended.status.last_run == "a"
    resumed = plan_cron(make_cron(), suspended.status, name_of=name_of, unfinished=(), now=at("2026-03-14T16:00"))
    assert (resumed.starts, resumed.status.next_tick) == ((), at("2026-03-14T16:10"))
    assert not resumed.status.suspended


@pytest.mark.parametrize(
    ("schedule", "zone", "words"),
    [
        ("61 * * * *", "UTC", "not a schedule: Bad minute"),
        ("@reboot", "UTC", "has 1 field; expected 5"),
        ("* * * *", "UTC", "has 4 fields; expected 5"),
        ("* * * * * *", "UTC", "has 6 fields; expected 5"),
        ("0 0 30 2 *", "UTC", "not a schedule: Bad day-of-month"),
        ("* * * * *", "Europe/Atlantis", 'time zone "Europe/Atlantis" is not known'),
        ("* * * * *", "../etc/passwd", "is not known"),
        ("* * * * *", "", "is not known"),
        ("* * * * *", "Europe", "is not known"),
    ],
)
def test_what_makes_no_sense_is_said(schedule: str, zone: str, words: str) -> None:
    found = plan(make_cron(schedule, timeZone=zone), None, "2026-03-14T15:09")
    assert (found.starts, found.status.next_tick) == ((), None)
    assert words in (found.status.message or "")
    spec = WorkflowSpec(crons=(make_cron(), make_cron(schedule, timeZone=zone)))
    conditions = workflow_conditions(Workflow(metadata=ObjectMeta(name="etl"), spec=spec), NOW)
    (valid,) = (each for each in conditions if each.type == "Valid")
    assert (valid.status, valid.reason) == ("False", "InvalidSpec")
    assert valid.message.startswith("spec.crons[1]: ")
    assert words in valid.message


@pytest.mark.parametrize(
    ("schedule", "since", "until", "want"),
    [
        # On 29 March 2026 at 01:00 UTC, 02:00 became 03:00.
        ("30 2 * * *", "2026-03-28T12:00", "2026-03-30T12:00", ["29 01:00", "30 00:30"]),
        ("0 3 * * *", "2026-03-28T12:00", "2026-03-29T12:00", ["29 01:00"]),
        ("*/30 * * * *", "2026-03-29T00:15", "2026-03-29T01:45", ["29 00:30", "29 01:00", "29 01:30"]),
        ("*/30 2 * * *", "2026-03-28T12:00", "2026-03-29T12:00", []),
        # On 25 October 2026 at 01:00 UTC, 03:00 became 02:00.
        ("30 2 * * *", "2026-10-24T12:00", "2026-10-26T12:00", ["25 00:30", "26 01:30"]),
        ("0 3 * * *", "2026-10-24T12:00", "2026-10-25T12:00", ["25 02:00"]),
        ("*/30 * * * *", "2026-10-25T00:15", "2026-10-25T01:45", ["25 00:30", "25 01:00", "25 01:30"]),
        ("0 * * * *", "2026-10-24T23:30", "2026-10-25T02:30", ["25 00:00", "25 01:00", "25 02:00"]),
    ],
)
def test_when_clocks_change(schedule: str, since: str, until: str, want: list[str]) -> None:
    assert ticks_of(schedule, "Europe/Berlin", since, until) == want


def test_a_cron_that_begins_in_the_hour_that_comes_twice_does_not_tick_in_the_past() -> None:
    found = plan(make_cron("30 2 * * *", timeZone="Europe/Berlin"), None, "2026-10-25T01:15")
    assert found.status.next_tick == at("2026-10-26T01:30")


@given(
    minutes=st.lists(st.integers(1, 300), max_size=20),
    schedule=st.sampled_from(["*/7 * * * *", "13 * * * *", "30 2 * * *", "0 0 1 * *", "0 12 * * SUN"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    begin=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)),
)
def test_however_often_one_looks_all_ticks_start_once(
    minutes: list[int], schedule: str, zone: str, begin: datetime
) -> None:
    cron = make_cron(schedule, timeZone=zone, catchUp="All", catchUpLimit=100)
    now = begin.replace(tzinfo=UTC)
    begun = status = plan_cron(cron, None, name_of=name_of, unfinished=(), now=now).status
    started: list[datetime] = []
    for pause in minutes:
        now += timedelta(minutes=pause)
        found = plan_cron(cron, status, name_of=name_of, unfinished=(), now=now)
        started, status = [*started, *found.starts], found.status
    assert started == sorted(set(started))
    assert status.next_tick is None or status.next_tick > now
    whole = cron.model_copy(update={"catch_up_limit": 10_000})
    assert started == list(plan_cron(whole, begun, name_of=name_of, unfinished=(), now=now).starts)


def make_definition(**fields: Any) -> WorkflowDefinition:
    step = StepDefinition(name="work", action="etl:work", timeout=timedelta(minutes=1))
    return WorkflowDefinition(name="etl", steps=(step,), schedule_timeout=timedelta(minutes=5), **fields)


def test_what_a_person_wrote_stands_over_what_was_registered() -> None:
    spec = WorkflowSpec.model_validate({"crons": [{"schedule": "0  6 * * *", "suspended": True}]})
    crons = effective_crons(spec, make_definition(crons=("0 6 * * *", "0 7 * * *")))
    assert [(cron.schedule, cron.suspended) for cron in crons] == [("0 6 * * *", True), ("0 7 * * *", False)]


def test_another_zone_is_another_cron() -> None:
    spec = WorkflowSpec.model_validate({"crons": [{"schedule": "0 6 * * *", "timeZone": "Europe/Berlin"}]})
    assert len(effective_crons(spec, make_definition(crons=("0 6 * * *",)))) == 2


def test_a_suspended_workflow_has_no_ticks() -> None:
    [cron] = effective_crons(WorkflowSpec(suspended=True), make_definition(crons=("0 6 * * *",)))
    assert cron.suspended


def test_the_input_of_a_tick() -> None:
    definition = make_definition(cron_input='{"a":1}')
    assert cron_input(make_cron(input={"b": 2}), definition) == '{"b":2}'
    assert cron_input(make_cron(), definition) == '{"a":1}'
    assert cron_input(make_cron(), None) == "{}"


def test_a_definition_without_triggers_is_written_as_before_there_were_any() -> None:
    assert not {"crons", "cronInput", "events"} & make_definition().to_wire().keys()
    assert Workflow.model_validate({"metadata": {"name": "etl"}}).status.crons == ()


OURS = {"schedule": "0 6 * * *", "timeZone": "UTC", "input": {"full": True}, "catchUpLimit": 10}
OTHER = {"schedule": "0 6 * * *", "timeZone": "Asia/Tokyo"}


@pytest.mark.parametrize(
    ("crons", "registered", "wanted", "want"),
    [
        pytest.param([OURS, OTHER], (), True, [OURS | {"suspended": True}, OTHER], id="a person's, in its zone"),
        pytest.param([OURS | {"suspended": True}], (), False, [OURS | {"suspended": False}], id="and back"),
        pytest.param([], ("0  6 * * *",), True, [{"schedule": "0 6 * * *", "suspended": True}], id="of code"),
        pytest.param([{"schedule": "0 6 * * *", "suspended": True}], ("0 6 * * *",), False, [], id="of code, and back"),
        pytest.param(
            [OURS | {"suspended": True}], ("0 6 * * *",), False, [OURS | {"suspended": False}], id="more than code says"
        ),
        pytest.param(
            [{"schedule": "0 6 * * *", "suspended": True}],
            (),
            False,
            [{"schedule": "0 6 * * *", "suspended": False}],
            id="a person's, which says as little as that of code",
        ),
        pytest.param([OTHER], (), True, None, id="there is none in this zone"),
    ],
)
def test_one_cron_is_suspended_and_resumed(
    crons: list[dict[str, Any]], registered: tuple[str, ...], wanted: bool, want: list[dict[str, Any]] | None
) -> None:
    definition = make_definition(crons=registered)
    assert with_suspension(crons, definition, schedule="0 6 * * *", zone="UTC", wanted=wanted) == want


def test_a_nickname_of_code_is_suspended_by_five_fields_as_a_spec_must_have_them() -> None:
    definition = make_definition(crons=("@Daily",))
    crons = with_suspension([], definition, schedule="@Daily", zone="UTC", wanted=True)
    assert crons == [{"schedule": "0 0 * * *", "suspended": True}]
    [cron] = effective_crons(WorkflowSpec.model_validate({"crons": crons}), definition)
    assert cron.suspended
    assert with_suspension(crons, definition, schedule=cron.schedule, zone="UTC", wanted=False) == []
