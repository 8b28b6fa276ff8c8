"""Which keys a pattern means."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.event_matching import EventFacts, key_matches, match_event
from hatchet_operator.resources.triggers import EventFilter
from hatchet_operator.resources.workflow import WorkflowDefinition, WorkflowSpec


@pytest.mark.parametrize(
    ("pattern", "key", "want"),
    [
        ("user:create", "user:create", True),
        ("user:create", "user:created", False),
        ("user:create", "User:create", False),
        ("user:*", "user:create", True),
        ("user:*", "user:", True),
        ("user:*", "user", False),
        ("*:create", "user:create", True),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*c", "abc", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
    ],
)
def test_a_pattern(pattern: str, key: str, want: bool) -> None:
    assert key_matches(pattern, key) is want


@given(pattern=st.text("ab*", max_size=8), key=st.text("ab", max_size=10))
def test_a_star_is_any_text(pattern: str, key: str) -> None:
    want = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key) is not None
    assert key_matches(pattern, key) is want


def test_many_stars_take_no_time() -> None:
    assert not key_matches("*a" * 500 + "b", "a" * 1024)


def test_a_workflow_that_nobody_registered_wants_what_its_spec_says() -> None:
    spec = WorkflowSpec.model_validate({"events": [{"key": "user:*"}]})
    assert match_event(spec, None, make_event("user:create")).plain
    assert not match_event(spec, None, make_event("order:create")).plain


def make_event(key: str = "order:paid", **fields: Any) -> EventFacts:
    return EventFacts(**{"id": "e1", "key": key, "payload_json": '{"amount": 100}', **fields})


def make_registered(*filters: dict[str, Any]) -> WorkflowDefinition:
    fields = {
        "name": "etl",
        "steps": [],
        "scheduleTimeout": "5m",
        "events": ["order:*"],
        "eventFilters": filters or None,
    }
    return WorkflowDefinition.model_validate(fields)


LARGE = {"expression": "input.amount > 50", "scope": "shop"}
SMALL = {"expression": "input.amount < 50", "scope": "shop"}
ALWAYS = {"scope": "shop", "payload": '{"to": "ada"}'}
OTHER = {"expression": "true", "scope": "other"}


@pytest.mark.parametrize(
    ("trigger", "event", "want"),
    [
        pytest.param({"filter": "input.amount > 50"}, make_event(), True, id="true"),
        pytest.param({"filter": "input.amount > 500"}, make_event(), False, id="false"),
        pytest.param({"filter": "additional_metadata.by == 'me'"}, make_event(metadata={"by": "me"}), True, id="meta"),
        pytest.param({"filter": "event_key.endsWith('paid') && event_id == 'e1'"}, make_event(), True, id="key and id"),
        pytest.param({"filter": "true"}, make_event("user:new"), False, id="another key"),
        pytest.param({"scope": "shop"}, make_event(scope="shop"), True, id="the scope"),
        pytest.param({"scope": "shop"}, make_event(), False, id="no scope"),
        pytest.param({}, make_event(scope="shop"), True, id="any scope"),
    ],
)
def test_a_persons_trigger_may_have_a_filter_and_a_scope(
    trigger: dict[str, str], event: EventFacts, want: bool
) -> None:
    spec = WorkflowSpec.model_validate({"events": [{"key": "order:*", **trigger}]})
    match = match_event(spec, None, event)
    assert (match.starts, match.problems) == ((None,) if want else (), ())


@pytest.mark.parametrize(
    ("filters", "scope", "want"),
    [
        pytest.param([], None, [None], id="no filters: any event"),
        pytest.param([], "shop", [None], id="no filters: any scope"),
        pytest.param([LARGE], None, [], id="an event without scope"),
        pytest.param([LARGE], "other", [], id="another scope"),
        pytest.param([LARGE, SMALL], "shop", [LARGE], id="the one that is true"),
        pytest.param([LARGE, ALWAYS, OTHER], "shop", [LARGE, ALWAYS], id="a run for each that is true"),
    ],
)
def test_registered_filters_are_those_of_the_events_scope(
    filters: list[dict[str, str]], scope: str | None, want: list[dict[str, str] | None]
) -> None:
    match = match_event(WorkflowSpec(), make_registered(*filters), make_event(scope=scope))
    assert match.starts == tuple(each and EventFilter.model_validate(each) for each in want)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("input.missing > 1", "there is no 'missing'", id="no such field"),
        pytest.param("input.amount", "yields a int from this event; expected true or false", id="a number"),
    ],
)
def test_a_filter_that_can_not_be_evaluated_is_not_true_and_says_why(text: str, words: str) -> None:
    spec = WorkflowSpec.model_validate({"events": [{"key": "*", "filter": text}]})
    match = match_event(spec, make_registered({"expression": text, "scope": "shop"}), make_event(scope="shop"))
    assert match.starts == ()
    assert [words in problem for problem in match.problems] == [True, True]


def test_a_payload_is_not_read_where_nobody_asks() -> None:
    event = make_event(payload_json="no JSON")
    assert match_event(WorkflowSpec(), make_registered(), event).starts == (None,)
