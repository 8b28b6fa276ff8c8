"""Expressions of users: which are taken, and what they make of a run's input."""

from __future__ import annotations

import pytest

from hatchet_operator.decisions.expressions import UnusableKeyError, expression_problem, group_key
from hatchet_sdk.payloads.reference import MARK


@pytest.mark.parametrize(
    "text",
    [
        "input.user",
        "'constant'",
        "input.tenant + '/' + string(input.number)",
        "has(input.user) ? input.user : 'nobody'",
        "additional_metadata.team",
        "input['user-id']",
    ],
)
def test_what_is_taken(text: str) -> None:
    assert expression_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("input.", "is not CEL", id="syntax"),
        pytest.param("user", "names user, which is not there; expected input and additional_metadata", id="a name"),
        pytest.param("input.users.all(user, user == '')", "loops with all()", id="a loop"),
        pytest.param("input.users.map (input, input).size()", "loops with map()", id="a loop over a known name"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    assert words in (expression_problem(text) or "")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("input.user", "ada"),
        ("input.number", "7"),
        ("input.yes", "true"),
        ("'all'", "all"),
        ("additional_metadata.team", "blue"),
        ("has(input.nothing) ? input.nothing : 'nobody'", "nobody"),
    ],
)
def test_the_key_of_a_run(text: str, want: str) -> None:
    given = {"user": "ada", "number": 7, "yes": True}
    assert group_key(text, input=given, metadata={"team": "blue"}) == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("input.missing", "there is no 'missing'", id="no such field"),
        pytest.param("input.list", "yields a list", id="no text"),
        pytest.param("input.nothing", "yields null from this run's input", id="null"),
        pytest.param("input.user + 1", "can't be evaluated", id="types"),
        pytest.param("input.list[7]", "index out of bounds: 7", id="beyond the end of a list"),
        pytest.param("1 / (input.list[0] - 1)", "division by zero", id="by zero"),
        pytest.param("1 % (input.list[0] - 1)", "modulo by zero", id="modulo zero"),
        pytest.param("input.list[0] * 9223372036854775807 * 2", "overflow", id="more than 64 bits"),
        pytest.param("int(1e300)", "overflow", id="a number that is no integer of 64 bits"),
        pytest.param("nosuch(input.user)", "nosuch", id="an unknown function"),
        pytest.param("timestamp(input.user)", "can't be evaluated", id="a text that is no time"),
        pytest.param("input.long", "yields a text of 300 characters", id="too long"),
        pytest.param("input.", "is not CEL", id="nonsense that was let into an object"),
        pytest.param("user", "names user, which is not there", id="a name that is not there"),
        pytest.param("input.list.all(x, x > 0)", "loops with all()", id="a loop is not evaluated, wherever it stands"),
    ],
)
def test_what_makes_no_key(text: str, words: str) -> None:
    with pytest.raises(UnusableKeyError, match="concurrency expression") as caught:
        group_key(text, input={"user": "ada", "list": [1], "long": "x" * 300, "nothing": None}, metadata={})
    assert words in str(caught.value)


def test_an_input_that_is_in_a_store_is_not_looked_into() -> None:
    with pytest.raises(UnusableKeyError, match="its input is in the payload store, where expressions don't look"):
        group_key("input.user", input={MARK: {"url": "s3://bucket/key"}}, metadata={})
    assert group_key("additional_metadata.user", input={MARK: {}}, metadata={"user": "ada"}) == "ada"
