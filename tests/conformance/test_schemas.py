"""Schemas of custom resources: defaults, pruning, validation and its words, CEL rules."""

from __future__ import annotations

import json

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import Api, Json


async def test_defaults_are_filled_in_at_every_level_that_is_there(api: Api) -> None:
    spec = (await api.create(WIDGETS, make_widget("a", parts=[{"name": "x"}]))).ok()["spec"]
    assert spec == {
        "title": "a widget",
        "color": "red",
        "size": 1,
        "stopped": False,
        "limits": {"retries": 3, "mode": "fast"},
        "parts": [{"name": "x", "count": 1}],
    }


async def test_a_default_replaces_null_but_not_a_value(api: Api) -> None:
    spec = (await api.create(WIDGETS, make_widget("a", color=None, size=0, limits={"retries": 0}))).ok()["spec"]
    assert spec["color"] == "red"
    assert spec["size"] == 0
    assert spec["limits"] == {"retries": 0, "mode": "fast"}


async def test_null_is_kept_where_it_is_allowed_and_dropped_elsewhere(api: Api) -> None:
    spec = (await api.create(WIDGETS, make_widget("a", note=None, host=None))).ok()["spec"]
    assert spec["note"] is None
    assert "host" not in spec


async def test_unknown_fields_are_pruned(api: Api) -> None:
    widget = make_widget("a", unknown=1, limits={"unknown": 2}, parts=[{"name": "x", "unknown": 3}]) | {"extra": {}}
    created = (await api.create(WIDGETS, widget)).ok(201)
    assert "extra" not in created
    assert "unknown" not in created["spec"]
    assert created["spec"]["limits"] == {"retries": 3, "mode": "fast"}
    assert created["spec"]["parts"] == [{"name": "x", "count": 1}]


async def test_strict_field_validation_refuses_unknown_fields(api: Api) -> None:
    answer = await api.create(WIDGETS, make_widget("a", unknown=1), fieldValidation="Strict")
    status = answer.refused(400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.unknown"' in status["message"]


async def test_warning_field_validation_names_unknown_fields_in_a_header(api: Api) -> None:
    answer = await api.create(WIDGETS, make_widget("a", unknown=1), fieldValidation="Warn")
    answer.ok(201)
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.unknown\\""'


async def test_free_objects_keep_everything(api: Api) -> None:
    free: Json = {"a": [1, "two", None, {"b": True}], "n": None, "f": 1.5, "e": {}, "l": [], "ü": "✓"}
    (await api.create(WIDGETS, make_widget("a", free=free))).ok()
    assert (await api.get(WIDGETS, "a")).ok()["spec"]["free"] == free


@pytest.mark.parametrize(
    ("number", "want"),
    [
        pytest.param(2**53 + 1, 2**53 + 1, id="an integer above 2^53"),
        pytest.param(2**63 - 1, 2**63 - 1, id="the largest integer of 64 bits"),
        pytest.param(-(2**63), -(2**63), id="the smallest integer of 64 bits"),
        pytest.param(0.1, 0.1, id="a fraction"),
        pytest.param(1e300, 1e300, id="a large float"),
    ],
)
async def test_numbers_in_free_objects(api: Api, number: float, want: float) -> None:
    created = (await api.create(WIDGETS, make_widget("a", free={"n": number}))).ok()
    assert created["spec"]["free"]["n"] == want
    assert (await api.get(WIDGETS, "a")).ok()["spec"]["free"]["n"] == want


async def test_integers_beyond_64_bits_are_rounded_in_free_objects(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", free={"n": 2**63 + 1}))).ok()
    assert created["spec"]["free"]["n"] != 2**63 + 1
    assert float(created["spec"]["free"]["n"]) == 2.0**63


async def test_text_is_kept_to_the_letter(api: Api) -> None:
    text = json.dumps({"big": 2**70, "none": None, "text": 'quote " slash \\ line\n tab\t nul-free € 𝄞 </script>&'})
    (await api.create(WIDGETS, make_widget("a", free={"text": text}, host=text))).ok()
    spec = (await api.get(WIDGETS, "a")).ok()["spec"]
    assert spec["host"] == spec["free"]["text"] == text


@pytest.mark.parametrize("port", [pytest.param(80, id="an integer"), pytest.param("http", id="a string")])
async def test_int_or_string_takes_both(api: Api, port: int | str) -> None:
    assert (await api.create(WIDGETS, make_widget("a", port=port))).ok()["spec"]["port"] == port


@pytest.mark.parametrize(
    ("spec", "field", "reason", "message"),
    [
        pytest.param({"title": None}, "spec.title", "FieldValueRequired", "Required value", id="required"),
        pytest.param(
            {"color": "pink"},
            "spec.color",
            "FieldValueNotSupported",
            'Unsupported value: "pink": supported values: "red", "green", "blue"',
            id="enum",
        ),
        pytest.param(
            {"code": "ABC"},
            "spec.code",
            "FieldValueInvalid",
            "Invalid value: \"ABC\": spec.code in body should match '^[a-z]+$'",
            id="pattern",
        ),
        pytest.param(
            {"title": "x" * 21},
            "spec.title",
            "FieldValueTooLong",
            "Too long: may not be more than 20 bytes",
            id="maxLength",
        ),
        pytest.param(
            {"title": ""},
            "spec.title",
            "FieldValueInvalid",
            'Invalid value: "": spec.title in body should be at least 1 chars long',
            id="minLength",
        ),
        pytest.param(
            {"size": 1001},
            "spec.size",
            "FieldValueInvalid",
            "Invalid value: 1001: spec.size in body should be less than or equal to 1000",
            id="maximum",
        ),
        pytest.param(
            {"size": -1},
            "spec.size",
            "FieldValueInvalid",
            "Invalid value: -1: spec.size in body should be greater than or equal to 0",
            id="minimum",
        ),
        pytest.param(
            {"size": "1"},
            "spec.size",
            "FieldValueTypeInvalid",
            'Invalid value: "string": spec.size in body must be of type integer: "string"',
            id="a string for an integer",
        ),
        pytest.param(
            {"size": 1.5},
            "spec.size",
            "FieldValueTypeInvalid",
            'Invalid value: "number": spec.size in body must be of type integer: "number"',
            id="a fraction for an integer",
        ),
        pytest.param(
            {"stopped": "yes"},
            "spec.stopped",
            "FieldValueTypeInvalid",
            'Invalid value: "string": spec.stopped in body must be of type boolean: "string"',
            id="a string for a boolean",
        ),
        pytest.param(
            {"port": True},
            "spec.port",
            "FieldValueTypeInvalid",
            'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"',
            id="a boolean for int-or-string",
        ),
        pytest.param(
            {"free": "text"},
            "spec.free",
            "FieldValueTypeInvalid",
            'Invalid value: "string": spec.free in body must be of type object: "string"',
            id="a string for an object",
        ),
        pytest.param(
            {"at": "yesterday"},
            "spec.at",
            "FieldValueTypeInvalid",
            'Invalid value: "yesterday": spec.at in body must be of type date-time: "yesterday"',
            id="format date-time",
        ),
        pytest.param(
            {"labels": {"x": "toolong"}},
            "spec.labels.x",
            "FieldValueTooLong",
            "Too long: may not be more than 5 bytes",
            id="a value of a map",
        ),
        pytest.param(
            {"labels": dict.fromkeys("abcd", "")},
            "spec.labels",
            "FieldValueTooMany",
            "Too many: 4: must have at most 3 items",
            id="maxProperties",
        ),
        pytest.param(
            {"tags": ["a", "b", "c", "d"]},
            "spec.tags",
            "FieldValueTooMany",
            "Too many: 4: must have at most 3 items",
            id="maxItems",
        ),
        pytest.param(
            {"tags": ["a", "a"]}, "spec.tags[1]", "FieldValueDuplicate", 'Duplicate value: "a"', id="a set has no twins"
        ),
        pytest.param(
            {"parts": [{"name": "x"}, {"name": "x"}]},
            "spec.parts[1]",
            "FieldValueDuplicate",
            'Duplicate value: {"name":"x"}',
            id="a list map has no twins",
        ),
        pytest.param(
            {"parts": [{"count": 1}]}, "spec.parts[0].name", "FieldValueRequired", "Required value", id="in an item"
        ),
    ],
)
async def test_what_breaks_the_schema_is_refused_by_field(
    api: Api, spec: Json, field: str, reason: str, message: str
) -> None:
    widget = make_widget("a", **spec)
    widget["spec"] = {key: value for key, value in widget["spec"].items() if value is not None}
    status = (await api.create(WIDGETS, widget)).refused(422, "Invalid")
    assert 'Widget.conformance.test "a" is invalid: ' in status["message"]
    assert f"{field}: {message}" in status["message"]
    assert (reason, field) in [(cause["reason"], cause["field"]) for cause in status["details"]["causes"]]


async def test_every_broken_field_is_named_at_once(api: Api) -> None:
    status = (await api.create(WIDGETS, make_widget("a", color="pink", size=-1))).refused(422, "Invalid")
    assert {cause["field"] for cause in status["details"]["causes"]} >= {"spec.color", "spec.size"}
    assert status["message"].startswith('Widget.conformance.test "a" is invalid: [spec.')


async def test_a_missing_spec_is_named(api: Api) -> None:
    status = (await api.create(WIDGETS, WIDGETS.make("a"))).refused(422, "Invalid")
    assert "spec: Required value" in status["message"]


async def test_a_broken_rule_says_its_message(api: Api) -> None:
    status = (await api.create(WIDGETS, make_widget("a", least=2, most=1))).refused(422, "Invalid")
    assert 'spec: Invalid value: "object": least must not exceed most' in status["message"] or (
        "least must not exceed most" in status["message"]
    )
    cause = status["details"]["causes"][0]
    assert (cause["field"], cause["reason"]) == ("spec", "FieldValueInvalid")


async def test_a_rule_can_compute_its_message_field_and_reason(api: Api) -> None:
    status = (await api.create(WIDGETS, make_widget("a", port=80, host=""))).refused(422, "Invalid")
    assert "spec.host: Required value: port 80 needs a host" in status["message"]
    cause = status["details"]["causes"][0]
    assert (cause["field"], cause["reason"]) == ("spec.host", "FieldValueRequired")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        pytest.param({"fixed": {"x": 1}}, {"fixed": {"x": 2}}, "fixed is immutable", id="an immutable field changes"),
        pytest.param({"fixed": {"x": 1}}, {"fixed": None}, "fixed is immutable", id="an immutable field is removed"),
        pytest.param({}, {"fixed": {"x": 1}}, "fixed is immutable", id="an immutable field is added"),
        pytest.param({"fixed": {"x": 1}}, {"fixed": {"y": 2}}, "fixed is immutable", id="an immutable field grows"),
        pytest.param({"stopped": True}, {"stopped": False}, "stopped cannot be taken back", id="true goes to false"),
        pytest.param({"stopped": True}, {"stopped": None}, "stopped cannot be taken back", id="true goes to default"),
        pytest.param({"counter": 2}, {"counter": 1}, "counter only goes up", id="a counter goes down"),
    ],
)
async def test_a_transition_that_a_rule_forbids_is_refused(api: Api, before: Json, after: Json, message: str) -> None:
    created = (await api.create(WIDGETS, make_widget("a", **before))).ok()
    status = (await api.merge_patch(WIDGETS, "a", {"spec": after})).refused(422, "Invalid")
    assert message in status["message"]
    assert (await api.get(WIDGETS, "a")).ok() == created


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"fixed": {"x": 1}}, {"size": 2}, id="another field changes"),
        pytest.param({"fixed": {"x": [1, {"y": 2.5}]}}, {"fixed": {"x": [1, {"y": 2.5}]}}, id="an equal value"),
        pytest.param({}, {"stopped": True}, id="false goes to true"),
        pytest.param({"counter": 1}, {"counter": 1, "size": 2}, id="a counter stays"),
        pytest.param({"counter": 1}, {"counter": 5}, id="a counter goes up"),
        pytest.param({}, {"counter": 0}, id="a counter appears"),
        pytest.param({"counter": 5}, {"counter": None}, id="a counter disappears, for a rule of a field cannot see it"),
    ],
)
async def test_a_transition_that_the_rules_allow_is_made(api: Api, before: Json, after: Json) -> None:
    (await api.create(WIDGETS, make_widget("a", **before))).ok()
    (await api.merge_patch(WIDGETS, "a", {"spec": after})).ok(200)


async def test_rules_hold_for_put_and_json_patch_too(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", counter=2))).ok()
    created["spec"]["counter"] = 1
    (await api.put(WIDGETS, created)).refused(422, "Invalid")
    patch: list[Json] = [{"op": "replace", "path": "/spec/counter", "value": 1}]
    (await api.json_patch(WIDGETS, "a", patch)).refused(422, "Invalid")
