"""What expressions may take: nothing that is accepted holds the operator's loop, whatever text and input do."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.expression_costs import (
    MOST_MICROSECONDS,
    costs_of,
    loop_in,
    pattern_problem,
)
from hatchet_operator.decisions.expressions import UnusableKeyError, expression_problem, group_key

BYTES = 256 * 1024
TEXT = "a" * BYTES
DEEP: dict[str, Any] = {}
for _ in range(900):
    DEEP = {"a": DEEP}

INPUTS: dict[str, dict[str, Any]] = {
    "a long text": {"u": "ada", "b": TEXT},
    "numbers": {"u": "ada", "b": [1] * (BYTES // 2)},
    "empty lists": {"u": "ada", "b": [[]] * (BYTES // 3)},
    "small mappings": {"u": "ada", "b": [{"a": 1} for _ in range(BYTES // 8)]},
    "many keys": {"u": "ada", "b": {f"{number:x}": 1 for number in range(BYTES // 9)}},
    "a deep one": {"u": "ada", "b": DEEP},
    "a large number": {"u": "ada", "b": 10**4000},
    "text of every kind": {"u": "ada", "b": "aäkßz€🙂" * (BYTES // 14)},
}

COSTLY = {
    "a copy each": "+".join(["input.b"] * 120) + " == input.b",
    "copies of one": "input.b" + "+[1]" * 240 + " == [1]",
    "texts of one": "input.b" + "+'x'" * 240 + " == 'x'",
    "search": " || ".join(["'x' in input.b"] * 50),
    "comparison": " || ".join(["input.b != input.b"] * 40),
    "many of it": f"size([{','.join(['input.b'] * 120)}])",
    "choices": "(true ? " * 60 + "input.b" + " : 1)" * 60 + " == 1",
    "all of it": "size(input) + size(input) + size(input)",
    "repeated groups": r"input.b.matches('(.{0,50}){0,10}z')",
    "states": rf"input.b.matches('{'a?' * 400}b')",
    "sets": rf"input.b.matches(r'{'[a-z]?' * 100}b')",
    "classes": r"input.b.matches(r'\w\w\w\w\w\w\w\w\w\w\w\w\w\w\w\w\w')",
}
PREPARED = {
    "counted": "'a'.matches('a{1000}{10}')",
    "nested": "'a'.matches('((a{20}){20}){20}')",
    "set": "'a'.matches('([a-z]{100}){100}')",
    "classes": rf"'a'.matches(r'{chr(92) + 'w'}{{100}}')",
    "properties": rf"'a'.matches(r'{(chr(92) + 'pL') * 300}')",
    "brackets": f"'a'.matches('{'[' * 900}a]{{1000}}')",
    "not written": "'a'.matches(input.pattern)",
    "put together": "'a'.matches('a{100}' + '{100}')",
    "written in escapes": r"'a'.matches('a\x7b1000\x7d')",
    "a part of it": "'a'.matches('a') || 'a'.matches(input.b)",
}


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("text", COSTLY)
def test_no_accepted_expression_takes_long_for_any_input(text: str, input: str) -> None:
    expression_problem(COSTLY[text])  # compiled before, as it is for a Workflow
    began = time.thread_time()
    with contextlib.suppress(UnusableKeyError):
        group_key(COSTLY[text], input=INPUTS[input], metadata={})
    # of this thread alone, and many times the bound: without it, these take seconds
    assert time.thread_time() - began < 20 * MOST_MICROSECONDS / 1e6


@pytest.mark.parametrize("text", PREPARED)
def test_patterns_that_take_long_to_prepare_are_refused(text: str) -> None:
    assert "expected" in (expression_problem(PREPARED[text]) or "")


@pytest.mark.parametrize(
    "text",
    [
        r"input.u.matches(r'^[\w.+-]+@example\.com$')",
        r"input.u.matches('^\\d{4}-\\d{2}-\\d{2}$') || true",
        "input.u.matches('^(ada|bob)$')",
        "input.u.matches('[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}') || input.u.contains('d')",
    ],
)
def test_patterns_that_people_write_are_taken(text: str) -> None:
    assert expression_problem(text) is None
    assert group_key(text, input={"u": "ada"}, metadata={}) in ("true", "false")


@pytest.mark.parametrize("text", ["input.u", "input['u']", "has(input.u) ? input.u : 'nobody'", 'input["u"] + ""'])
@pytest.mark.parametrize("input", INPUTS)
def test_what_is_not_named_costs_nothing(input: str, text: str) -> None:
    assert group_key(text, input=INPUTS[input], metadata={"large": INPUTS[input]}) == "ada"


def test_a_text_of_the_largest_size_can_be_looked_at() -> None:
    assert group_key("input.b.contains('b') || input.b.startsWith('a')", input={"b": TEXT}, metadata={}) == "true"
    assert group_key("size(input.b)", input={"b": TEXT}, metadata={}) == str(BYTES)


@pytest.mark.parametrize(
    "text",
    [
        "input.l.all(i, i > 0)",
        "input.l. map\n(i, i)",
        "input.l.//x\n all(input, true)",
        "input.l.exists//)\n//\n(i, i)",
    ],
)
def test_loops_are_found_behind_space_and_comments(text: str) -> None:
    assert loop_in(text) is not None
    assert "loops with" in (expression_problem(text) or "")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("input.user", [("input", "user")]),
        ("input.a.b['c'].size()", [("input", "a", "b", "c")]),
        ("'input.x' + input.y", [("input", "y")]),
        ("r'\\' + input.y + r'\\'", [("input", "y")]),
        ("'\\'' + input.y // input.z", [("input", "y")]),
        ("input[input.which]", [("input",), ("input", "which")]),
        ("payload.input == input . a", [("input", "a")]),
        ("size(input)", [("input",)]),
    ],
)
def test_the_fields_that_a_text_names(text: str, paths: list[tuple[str, ...]]) -> None:
    assert list(costs_of(text, ("input",)).paths) == paths


def test_a_field_and_what_is_in_it_are_both_kept() -> None:
    given = {"input": {"a": {"b": 1, "c": 2}, "d": 3, "e": [4]}}
    assert costs_of("input.a.b", ("input",)).narrow(given) == {"input": {"a": {"b": 1}}}
    assert costs_of("input.a.b == input.a", ("input",)).narrow(given) == {"input": {"a": {"b": 1, "c": 2}}}
    assert costs_of("input.a == input.a.b", ("input",)).narrow(given) == {"input": {"a": {"b": 1, "c": 2}}}
    assert costs_of("input.none.b", ("input",)).narrow(given) == {"input": {}}
    assert given == {"input": {"a": {"b": 1, "c": 2}, "d": 3, "e": [4]}}


@given(st.text(alphabet="input.ab'\"\\/ \n()[]+r{}", max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert costs_of(text, ("input",)).operators >= 0
    pattern_problem(text)


KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.integers(-5, 5) | st.sampled_from(["", "x"]), lambda inner: st.dictionaries(KEYS, inner), max_leaves=6
)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(lambda names: "input." + ".".join(names))


@given(st.dictionaries(KEYS, VALUES), st.lists(PATHS, min_size=1, max_size=3))
def test_an_expression_means_the_same_for_what_it_is_given(input: dict[str, Any], paths: list[str]) -> None:
    import cel

    text = " == ".join([" == ".join(paths[:2]), "true"]) if len(paths) > 1 else f"string({paths[0]})"
    program = cel.compile(text)

    def outcome(variables: dict[str, Any]) -> Any:
        try:
            return program.execute(variables)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            return type(error), re.sub(r"\{.*\}|Map.*", "", str(error))

    assert outcome(costs_of(text, ("input",)).narrow({"input": input})) == outcome({"input": input})
