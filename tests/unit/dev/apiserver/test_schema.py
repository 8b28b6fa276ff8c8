"""Schemas as tables: what is pruned, defaulted and refused, and in which words (those of the real server)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hatchet_operator_dev.apiserver.schema import compile_schema
from hatchet_operator_dev.apiserver.structural import structural_errors

TEXT: dict[str, Any] = {"type": "string"}


def of(**properties: Any) -> dict[str, Any]:
    """Make a schema whose ``spec`` has these properties."""
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


def make(spec: Any) -> dict[str, Any]:
    return {"apiVersion": "x.test/v1", "kind": "Thing", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": spec}


@pytest.mark.parametrize(
    ("properties", "spec", "want"),
    [
        pytest.param({"a": TEXT}, {"a": "x", "b": 1}, {"a": "x"}, id="an unknown field is pruned"),
        pytest.param(
            {"free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            {"free": {"x": {"y": None}}},
            {"free": {"x": {"y": None}}},
            id="a free object is kept",
        ),
        pytest.param(
            {
                "free": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {"a": TEXT}}},
                }
            },
            {"free": {"known": {"a": "x", "b": 1}, "more": 1}},
            {"free": {"known": {"a": "x"}, "more": 1}},
            id="what a free object specifies is pruned",
        ),
        pytest.param(
            {"map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": TEXT}}}},
            {"map": {"k": {"a": "x", "b": 1}}},
            {"map": {"k": {"a": "x"}}},
            id="values of a map are pruned",
        ),
        pytest.param(
            {"list": {"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}}},
            {"list": [{"b": 1}, {"a": "x"}]},
            {"list": [{}, {"a": "x"}]},
            id="items of a list are pruned",
        ),
        pytest.param({"a": TEXT | {"default": "d"}}, {}, {"a": "d"}, id="a default fills in"),
        pytest.param({"a": TEXT | {"default": "d"}}, {"a": None}, {"a": "d"}, id="a default replaces null"),
        pytest.param(
            {"a": TEXT | {"default": "d", "nullable": True}}, {"a": None}, {"a": None}, id="an allowed null stays"
        ),
        pytest.param({"a": TEXT}, {"a": None}, {}, id="a null that is not allowed is dropped"),
        pytest.param(
            {"a": {"type": "object", "properties": {"b": TEXT | {"default": "d"}}}},
            {},
            {},
            id="a default below an absent parent does nothing",
        ),
        pytest.param(
            {"a": {"type": "object", "default": {}, "properties": {"b": TEXT | {"default": "d"}}}},
            {},
            {"a": {"b": "d"}},
            id="a default below a defaulted parent fills in",
        ),
    ],
)
def test_shaping(properties: Any, spec: Any, want: Any) -> None:
    schema = of(**properties)
    before = copy.deepcopy(schema)
    obj = make(spec)
    compile_schema(schema).shape(obj)
    assert obj == make(want)
    assert schema == before


def test_defaults_are_not_shared_between_objects() -> None:
    schema = compile_schema(of(a={"type": "object", "default": {}, "x-kubernetes-preserve-unknown-fields": True}))
    first, second = make({}), make({})
    schema.shape(first)
    schema.shape(second)
    first["spec"]["a"]["x"] = 1
    assert second["spec"]["a"] == {}


def test_pruned_paths_are_told() -> None:
    obj = make({"a": [{"b": 1}]}) | {"extra": 1}
    schema = compile_schema(of(a={"type": "array", "items": {"type": "object"}}))
    assert schema.shape(obj) == ["extra", "spec.a[0].b"]


def whole(number: Any, **bounds: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"n": {"type": "integer", **bounds}}, {"n": number}


@pytest.mark.parametrize(
    ("properties", "spec", "want"),
    [
        pytest.param(*whole(3), "", id="an integer"),
        pytest.param(*whole(3.0), "", id="a whole float is an integer"),
        pytest.param(
            *whole(3.5),
            'spec.n: Invalid value: "number": spec.n in body must be of type integer: "number"',
            id="a float",
        ),
        pytest.param(
            *whole(True),
            'spec.n: Invalid value: "boolean": spec.n in body must be of type integer: "boolean"',
            id="a boolean is no integer",
        ),
        pytest.param(
            *whole(0, minimum=1),
            "spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1",
            id="below the minimum",
        ),
        pytest.param(
            *whole(1, minimum=1, exclusiveMinimum=True),
            "spec.n: Invalid value: 1: spec.n in body should be greater than 1",
            id="at an exclusive minimum",
        ),
        pytest.param(
            *whole(3, multipleOf=2),
            "spec.n: Invalid value: 3: spec.n in body should be a multiple of 2",
            id="not a multiple",
        ),
        pytest.param(
            {"a": TEXT | {"maxLength": 2}},
            {"a": "äöü"},
            "spec.a: Too long: may not be more than 2 bytes",
            id="too long",
        ),
        pytest.param(
            {"a": TEXT | {"pattern": "^[a-z]+$"}},
            {"a": "A"},
            "spec.a: Invalid value: \"A\": spec.a in body should match '^[a-z]+$'",
            id="no match",
        ),
        pytest.param(
            {"a": TEXT | {"enum": ["x", "y"]}},
            {"a": "z"},
            'spec.a: Unsupported value: "z": supported values: "x", "y"',
            id="not in an enum",
        ),
        pytest.param(
            {"a": TEXT | {"format": "date-time"}},
            {"a": "soon"},
            'spec.a: Invalid value: "soon": spec.a in body must be of type date-time: "soon"',
            id="no date",
        ),
        pytest.param({"a": TEXT | {"format": "date-time"}}, {"a": "2026-01-01T00:00:00Z"}, "", id="a date"),
        pytest.param({"a": TEXT | {"format": "duration"}}, {"a": "1h5m"}, "", id="a duration"),
        pytest.param({"p": {"x-kubernetes-int-or-string": True}}, {"p": "http"}, "", id="a string as int-or-string"),
        pytest.param(
            {"p": {"x-kubernetes-int-or-string": True}},
            {"p": True},
            'spec.p: Invalid value: "boolean": spec.p in body must be of type integer,string: "boolean"',
            id="a boolean as int-or-string",
        ),
        pytest.param(
            {"l": {"type": "array", "items": TEXT, "maxItems": 1}},
            {"l": ["a", "b"]},
            "spec.l: Too many: 2: must have at most 1 items",
            id="too many items",
        ),
        pytest.param(
            {"l": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"}},
            {"l": ["a", "b", "a", "a"]},
            'spec.l[2]: Duplicate value: "a"',
            id="a set with a duplicate",
        ),
        pytest.param(
            {"o": {"type": "object", "required": ["x"], "properties": {"x": TEXT}}},
            {"o": {}},
            "spec.o.x: Required value",
            id="a required field",
        ),
        pytest.param(
            {"m": {"type": "object", "additionalProperties": TEXT}},
            {"m": {"k": 1}},
            'spec.m.k: Invalid value: "integer": spec.m.k in body must be of type string: "integer"',
            id="a map's value",
        ),
    ],
)
def test_checking(properties: Any, spec: Any, want: str) -> None:
    errors = compile_schema(of(**properties)).check(make(spec), None)
    assert [str(error) for error in errors if error.field != "<nil>"] == ([want] if want else [])


def test_a_mistake_that_was_there_before_is_let_through() -> None:
    schema = compile_schema(of(a=TEXT | {"maxLength": 1}, b=TEXT))
    assert schema.check(make({"a": "long", "b": "new"}), make({"a": "long"})) == []
    assert len(schema.check(make({"a": "longer"}), make({"a": "long"}))) == 1


def test_rules_are_not_run_on_nonsense() -> None:
    schema = of(a=TEXT)
    schema["properties"]["spec"]["x-kubernetes-validations"] = [{"rule": "self.a == 'x'", "message": "not x"}]
    rejected = compile_schema(schema).check(make({"a": 1}), None)
    assert [error.field for error in rejected] == ["spec.a", "<nil>"]
    assert [str(error) for error in compile_schema(schema).check(make({"a": "y"}), None)] == [
        "spec: Invalid value: not x"
    ]


def test_items_of_a_map_list_are_compared_with_their_former_selves() -> None:
    items = {
        "type": "object",
        "properties": {"k": TEXT, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "only up"}],
    }
    parts = {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
    }
    schema = compile_schema(of(parts=parts))
    old = make({"parts": [{"k": "a", "n": 1}, {"k": "b", "n": 5}]})
    new = make({"parts": [{"k": "b", "n": 4}, {"k": "a", "n": 2}, {"k": "c", "n": 0}]})
    assert [str(error) for error in schema.check(new, old)] == ["spec.parts[0]: Invalid value: only up"]


@pytest.mark.parametrize(
    ("properties", "want"),
    [
        pytest.param({"a": TEXT}, "", id="a structural schema"),
        pytest.param({"a": {}}, "[a].type: Required value", id="a field without type"),
        pytest.param({"a": {"$ref": "#/x"}}, "[a].$ref: Forbidden", id="a reference"),
        pytest.param({"a": {"type": ["string", "null"]}}, "[a].type: Unsupported value", id="a list of types"),
        pytest.param({"a": {"type": "array"}}, "[a].items: Required value", id="an array without items"),
        pytest.param(
            {"a": {"type": "object", "properties": {"x": TEXT}, "additionalProperties": TEXT}},
            "[a].additionalProperties: Forbidden",
            id="a map with properties",
        ),
        pytest.param(
            {"a": {"type": "object", "additionalProperties": False}},
            "[a].additionalProperties: Forbidden",
            id="a closed object",
        ),
        pytest.param(
            {"a": TEXT | {"anyOf": [{"type": "string"}, {"description": "x"}]}},
            "[a].anyOf[1].description: Forbidden",
            id="a description in a junctor",
        ),
        pytest.param({"a": TEXT | {"default": 5}}, "[a].default: Invalid value", id="a default of another type"),
        pytest.param({"a": TEXT | {"pattern": "("}}, "[a].pattern: Invalid value", id="a broken pattern"),
        pytest.param(
            {"a": TEXT | {"x-kubernetes-validations": [{"rule": "self.("}]}},
            "[a].x-kubernetes-validations[0].rule: Invalid value",
            id="a broken rule",
        ),
    ],
)
def test_structural_schemas(properties: Any, want: str) -> None:
    errors = structural_errors(of(**properties), "schema")
    if not want:
        assert errors == []
    else:
        assert any(want in str(error) for error in errors), errors
