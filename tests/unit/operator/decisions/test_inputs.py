"""The same input is the same input, however it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.inputs import is_same_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("one", "other", "want"),
    [
        pytest.param('{"a":1,"b":{"c":2,"d":3}}', '{"b": {"d": 3, "c": 2}, "a": 1}', True, id="another order"),
        pytest.param('{"a":"é"}', '{"a":"\\u00e9"}', True, id="another way to write a text"),
        pytest.param('{"a":[1,2]}', '{"a":[2,1]}', False, id="a list has an order"),
        pytest.param('{"a":1,"b":2}', '{"b":2,"a":1.0}', False, id="numbers count as written"),
        pytest.param('{"a":1,"b":"2"}', '{"b":2,"a":1}', False, id="a text is no number"),
        pytest.param('{"b":1,"a":true}', '{"a":1,"b":1}', False, id="true is not 1"),
        pytest.param(f'{{"a":{10**25},"b":1}}', f'{{"b":1,"a":{10**25 + 1}}}', False, id="long numbers, to the digit"),
        pytest.param('{"a":1e400,"b":1}', '{"b":1,"a":1e401}', False, id="numbers that no float holds"),
        pytest.param('{"a":null}', "{}", False, id="null is something"),
        pytest.param("[" * 200_000, "{}", False, id="what nobody can read"),
    ],
)
def test_what_is_the_same(one: str, other: str, want: bool) -> None:
    assert is_same_json(one, other) is want
    assert is_same_json(other, one) is want


def turned(value: Any) -> Any:
    """Return the same value with the keys of each object in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_the_order_of_keys_says_nothing(value: Any) -> None:
    assert is_same_json(json.dumps(value), json.dumps(turned(value), indent=1, ensure_ascii=False))
