"""Patches as tables: an object, a patch, and the object that results; arguments are never changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hatchet_operator_dev.apiserver.patches import apply, json_patch, merge_patch, strategic_merge
from hatchet_operator_dev.apiserver.status import ApiError


@pytest.mark.parametrize(
    ("patch", "want"),
    [
        pytest.param({"a": 2}, {"a": 2, "b": {"c": [1]}}, id="a value is replaced"),
        pytest.param({"a": None}, {"b": {"c": [1]}}, id="null removes"),
        pytest.param({"missing": None}, {"a": 1, "b": {"c": [1]}}, id="null for what is absent does nothing"),
        pytest.param({"b": {"d": 1}}, {"a": 1, "b": {"c": [1], "d": 1}}, id="objects are merged"),
        pytest.param({"b": {"c": []}}, {"a": 1, "b": {"c": []}}, id="lists are replaced"),
        pytest.param({"a": {"x": {"y": None}}}, {"a": {"x": {}}, "b": {"c": [1]}}, id="an object replaces a value"),
    ],
)
def test_merge_patch(patch: Any, want: Any) -> None:
    target = {"a": 1, "b": {"c": [1]}}
    before = copy.deepcopy((target, patch))
    assert merge_patch(target, patch) == want
    assert (target, patch) == before


def test_json_patch_applies_its_operations_in_order() -> None:
    target = {"a": [1, 2], "b": 1}
    operations = [
        {"op": "test", "path": "/b", "value": 1},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "remove", "path": "/b"},
        {"op": "copy", "from": "/a/0", "path": "/c"},
    ]
    assert json_patch(target, operations) == {"a": [1, 2, 3], "c": 1}
    assert target == {"a": [1, 2], "b": 1}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        pytest.param([{"op": "test", "path": "/a", "value": 2}], 422, id="a test that fails"),
        pytest.param([{"op": "remove", "path": "/missing"}], 422, id="a path that does not exist"),
        pytest.param([{"op": "replace", "path": "/a/b/c", "value": 1}], 422, id="a path through a number"),
        pytest.param([{"op": "explode", "path": "/a"}], 400, id="an unknown operation"),
        pytest.param({"a": 1}, 400, id="not a list"),
        pytest.param([1], 400, id="a list of numbers"),
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(operations: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, operations)
    assert refused.value.code == code


POD: dict[str, Any] = {
    "metadata": {"finalizers": ["a"]},
    "spec": {
        "containers": [{"name": "one", "image": "x", "env": [{"name": "A", "value": "1"}]}, {"name": "two"}],
        "args": ["keep"],
    },
}


@pytest.mark.parametrize(
    ("patch", "path", "want"),
    [
        pytest.param(
            {"spec": {"containers": [{"name": "one", "image": "y"}]}},
            ("spec", "containers"),
            [{"name": "one", "image": "y", "env": [{"name": "A", "value": "1"}]}, {"name": "two"}],
            id="containers merge by name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "one", "env": [{"name": "B", "value": "2"}]}]}},
            ("spec", "containers", 0, "env"),
            [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            id="keyed lists in keyed lists merge",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "two", "$patch": "delete"}]}},
            ("spec", "containers"),
            POD["spec"]["containers"][:1],
            id="an item is deleted by directive",
        ),
        pytest.param(
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "three"}]}},
            ("spec", "containers"),
            [{"name": "three"}],
            id="a list is replaced by directive",
        ),
        pytest.param({"spec": {"args": ["new"]}}, ("spec", "args"), ["new"], id="lists without key are replaced"),
        pytest.param(
            {"metadata": {"finalizers": ["b", "a"]}}, ("metadata", "finalizers"), ["a", "b"], id="finalizers are a set"
        ),
        pytest.param(
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
            ("metadata", "finalizers"),
            [],
            id="a value is deleted from a set",
        ),
        pytest.param({"spec": {"$patch": "replace", "x": 1}}, ("spec",), {"x": 1}, id="an object is replaced"),
        pytest.param(
            {"spec": {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}},
            ("spec", "containers", 0, "name"),
            "two",
            id="an order is set",
        ),
    ],
)
def test_strategic_merge(patch: Any, path: tuple[Any, ...], want: Any) -> None:
    before = copy.deepcopy(POD)
    found: Any = strategic_merge(POD, patch)
    for key in path:
        found = found[key]
    assert found == want
    assert before == POD


SCHEMA = {
    "properties": {
        "spec": {
            "properties": {
                "map": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {}},
                "atomic": {"items": {}},
            }
        }
    }
}


@pytest.mark.parametrize(
    ("applied", "previous", "want"),
    [
        pytest.param({"a": 2}, None, {"a": 2, "other": 1, "map": [{"k": "x"}]}, id="others' fields stay"),
        pytest.param(
            {"b": 1}, {"a": 1}, {"b": 1, "other": 1, "map": [{"k": "x"}]}, id="what is no longer applied goes"
        ),
        pytest.param(
            {"map": [{"k": "y"}]},
            None,
            {"a": 1, "other": 1, "map": [{"k": "x"}, {"k": "y"}]},
            id="map lists are merged",
        ),
        pytest.param(
            {"map": [{"k": "y"}]},
            {"map": [{"k": "x"}]},
            {"a": 1, "other": 1, "map": [{"k": "y"}]},
            id="an item that is no longer applied goes",
        ),
    ],
)
def test_apply(applied: Any, previous: Any, want: Any) -> None:
    live = {"spec": {"a": 1, "other": 1, "map": [{"k": "x"}]}}
    assert apply(live, {"spec": applied}, {"spec": previous}, SCHEMA) == {"spec": want}
