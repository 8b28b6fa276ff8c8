from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hatchet_operator.resources.nesting import MAX_DEPTH, depth_problem, read_json, shallow

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)

TOO_DEEP = (
    "spec.input is nested deeper than 100 levels, which is all that is taken: make it flatter, as in a list of entries "
    "that refer to each other by name"
)


def boxes(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def nested(depth: int, *, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize("depth", [2, MAX_DEPTH + 2, 138, 142, 202, 256, 996, 1026, 9998])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ('["]}\\"",', "]"), ('{"a":[', "]}")])
def test_a_list_with_an_object_that_is_nested_deep_is_read(depth: int, opening: str, closing: str) -> None:
    levels = depth // len(closing)
    text = f'{{"items":[{{"n":1}},{{"n":2,"input":{nested(levels, opening=opening, closing=closing)}}},{{"n":3}}]}}'
    value = read_json(text.encode())
    assert [item["n"] for item in value["items"]] == [1, 2, 3]
    problem = depth_problem(value["items"][1]["input"], "its input")
    assert (problem is not None) is (depth > MAX_DEPTH), "who looks at it sees what it was"
    for handle in (orjson.dumps, json.dumps, copy.deepcopy, TypeAdapter(Any).dump_json):
        handle(value)
    assert TypeAdapter(Any).validate_json(orjson.dumps(value)) == value
    assert json.loads(shallow(text.encode())) == value


@given(JSON)
def test_what_can_be_handled_is_read_as_it_is(value: Any) -> None:
    text = json.dumps(value).encode()
    assert read_json(text) == value
    assert shallow(text) == text


@given(JSON)
def test_only_what_is_too_deep_is_cut(value: Any) -> None:
    for _ in range(MAX_DEPTH + 100):
        value = {"left": [1, "]"], "down": value, "right": {"}": "{"}}
    cut = read_json(_text(value))
    for _ in range(MAX_DEPTH):
        assert cut["left"] == [1, "]"]
        assert cut["right"] == {"}": "{"}
        cut = cut["down"]


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("text", ["", "{", nested(2000)[:-1], nested(2000) + "}", '{"a":"', "a" * 10, "]" * 2000])
def test_what_is_no_json_is_refused_as_that(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read_json(text.encode())


@given(st.binary())
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    with contextlib.suppress(orjson.JSONDecodeError):
        read_json(text)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param(1, None, id="a number"),
        pytest.param({"a": [[], {}]}, None, id="wide"),
        pytest.param("[" * 500, None, id="a text"),
        pytest.param([[]] * 500, None, id="many brackets, not deep"),
        pytest.param(boxes(MAX_DEPTH), None, id="as deep as allowed"),
        pytest.param(boxes(MAX_DEPTH + 1), TOO_DEEP, id="one deeper"),
        pytest.param(boxes(100_000), TOO_DEEP, id="deeper than any stack"),
    ],
)
def test_how_deep_a_value_may_be(value: Any, want: str | None) -> None:
    assert depth_problem(value, "spec.input") == want
