import dataclasses
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hatchet_sdk._client.json_text import MAX_BYTES, encode_object


class Model(BaseModel):
    size: int


@dataclasses.dataclass
class Point:
    x: int
    model: Model


def make_loop() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = [loop]
    return loop


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param({}, "{}", id="nothing"),
        pytest.param({"a": (1, None, 2.5)}, '{"a":[1,null,2.5]}', id="a tuple is a list"),
        pytest.param({"n": 2**70}, '{"n":1180591620717411303424}', id="integers of any size"),
        pytest.param({"t": "zoë 🎉"}, '{"t":"zoë 🎉"}', id="text stays readable"),
        pytest.param(MappingProxyType({"a": MappingProxyType({})}), '{"a":{}}', id="mappings that are no dicts"),
        pytest.param(Point(1, Model(size=2)), '{"x":1,"model":{"size":2}}', id="a dataclass holding a model"),
    ],
)
def test_what_has_a_json_form(value: object, want: str) -> None:
    assert encode_object(value, what="input") == want


@pytest.mark.parametrize(
    ("value", "kind", "want"),
    [
        pytest.param(
            {"t": [{"u": "\ud800"}]}, ValueError, 'input["t"][0]["u"] contains half of a surrogate pair', id="no text"
        ),
        pytest.param({"t": {"\ud800": 1}}, ValueError, 'a key of input["t"] contains half', id="a key that is no text"),
        pytest.param([1], TypeError, "input is a list (expected a mapping)", id="a list"),
        pytest.param(None, TypeError, "input is None (expected a mapping)", id="None"),
        pytest.param(Model, TypeError, "input is a ModelMetaclass (expected a mapping)", id="a class"),
        pytest.param({"a": [1, 2, {3}]}, TypeError, 'input["a"][2] is a set, which has no', id="a set inside"),
        pytest.param({"a": {"b c": b""}}, TypeError, 'input["a"]["b c"] is a bytes', id="bytes inside"),
        pytest.param({"p": Point(1, Model)}, TypeError, 'input["p"]["model"] is a ModelMeta', id="in a dataclass"),  # type: ignore[arg-type]
        pytest.param({"a": float("nan")}, ValueError, 'input["a"] is nan, which has no JSON form', id="not a number"),
        pytest.param({"a": [float("-inf")]}, ValueError, 'input["a"][0] is -inf', id="infinity"),
        pytest.param({(1, 2): 3}, TypeError, "input has the key (1, 2), a tuple (expected a str)", id="a key"),
        pytest.param(make_loop(), ValueError, 'input["again"][0] refers to itself', id="a loop"),
        pytest.param({"a": "x" * MAX_BYTES}, ValueError, "more than the limit of 262144 bytes", id="too large"),
    ],
)
def test_what_has_none_is_refused_by_its_path(value: object, kind: type[Exception], want: str) -> None:
    with pytest.raises(kind) as refused:
        encode_object(value, what="input")
    assert want in str(refused.value)


def test_deep_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_object(deep, what="input")
    while deep:  # taken apart by hand: the interpreter would recurse
        deep = deep["a"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values))
def test_text_says_what_the_value_said(value: dict[str, object]) -> None:
    assert json.loads(encode_object(value, what="input")) == value
