"""What a schema of a CRD may look like, and why one is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.cel_rules import BadRule, Rules
from hatchet_operator_dev.apiserver.checking import TYPES, checker_of, mistakes_in
from hatchet_operator_dev.apiserver.shaping import Schema, copied, shaper_of
from hatchet_operator_dev.apiserver.status import FieldError

_LOGIC_MAY_NOT_HAVE = ("type", "description", "default", "additionalProperties", "nullable", "title")
_REFUSED_WORDS = ("$ref", "$defs", "definitions", "dependencies", "id", "patternProperties", "additionalItems")


def structural_errors(schema: Schema, field: str) -> list[FieldError]:
    """Say why a schema is not structural, in the words of the real server; empty if it is.

    Args:
        schema: ``openAPIV3Schema`` of a CRD version.
        field: Where it stands in the CRD, for the messages.
    """
    errors = list(_structural(schema, field, is_root=True))
    if schema.get("type") != "object":
        errors.insert(0, status.invalid(f"{field}.type", schema.get("type", ""), "must be object at the root"))
    return errors


def _structural(schema: Any, field: str, *, is_root: bool = False) -> Iterator[FieldError]:
    if not isinstance(schema, dict):
        yield status.type_invalid(field, str(schema), "a schema must be an object")
        return
    yield from _refused_words(schema, field)
    yield from _about_type(schema, field, is_root=is_root)
    yield from _about_values(schema, field)
    yield from _pattern_and_rules(schema, field)
    yield from _about_logic(schema, field)
    yield from _about_parts(schema, field, is_root=is_root)


def _about_type(schema: Schema, field: str, *, is_root: bool) -> Iterator[FieldError]:
    open_value = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not is_root and "type" not in schema and not open_value:
        yield status.required(f"{field}.type", "must not be empty for specified object fields")
    if isinstance(schema.get("type"), list) or schema.get("type", "object") not in TYPES:
        yield status.not_supported(f"{field}.type", schema["type"], sorted(TYPES))
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield status.required(f"{field}.items", "must be specified")
    if "additionalProperties" in schema and schema.get("properties"):
        yield status.forbidden_field(f"{field}.additionalProperties", "mutual exclusive with properties")
    if schema.get("additionalProperties") is False:
        yield status.forbidden_field(f"{field}.additionalProperties", "additionalProperties cannot be set to false")


def _about_values(schema: Schema, field: str) -> Iterator[FieldError]:
    for word in ("exclusiveMinimum", "exclusiveMaximum"):
        if word in schema and not isinstance(schema[word], bool):
            yield status.type_invalid(f"{field}.{word}", schema[word], "must be a boolean beside minimum or maximum")
    if schema.get("uniqueItems"):
        yield status.forbidden_field(
            f"{field}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        yield status.required(
            f"{field}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"
        )
    if "default" in schema and not _is_json_of(schema):
        yield status.invalid(f"{field}.default", schema["default"], "must validate the schema it belongs to")


def _about_logic(schema: Schema, field: str) -> Iterator[FieldError]:
    for word in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(word) or ()):
            yield from _in_logic(part, f"{field}.{word}[{index}]")
    if isinstance(schema.get("not"), dict):
        yield from _in_logic(schema["not"], f"{field}.not")


def _about_parts(schema: Schema, field: str, *, is_root: bool) -> Iterator[FieldError]:
    for name, part in (schema.get("properties") or {}).items():
        if not (is_root and name == "metadata"):
            yield from _structural(part, f"{field}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        yield from _structural(schema["items"], f"{field}.items")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _structural(schema["additionalProperties"], f"{field}.additionalProperties")


def _refused_words(schema: Schema, field: str) -> Iterator[FieldError]:
    for word in _REFUSED_WORDS:
        if word in schema:
            yield status.forbidden_field(f"{field}.{word}", f"{word} is not supported")


def _in_logic(schema: Schema, field: str) -> Iterator[FieldError]:
    yield from _refused_words(schema, field)
    int_or_string = schema in ({"type": "integer"}, {"type": "string"})
    for word in _LOGIC_MAY_NOT_HAVE:
        if word in schema and not int_or_string:
            yield status.forbidden_field(f"{field}.{word}", "must be empty to be structural")
    for name, part in (schema.get("properties") or {}).items():
        yield from _in_logic(part, f"{field}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        yield from _in_logic(schema["items"], f"{field}.items")


def _is_json_of(schema: Schema) -> bool:
    try:
        checker = checker_of(schema)
    except (KeyError, re.error):
        return True  # reported for what it is elsewhere
    if checker is None:
        return True
    value = copied(schema["default"])
    shaper = shaper_of(schema)
    if shaper is not None:
        shaper(value, (), [])
    return not mistakes_in(checker, value, ())


def _pattern_and_rules(schema: Schema, field: str) -> Iterator[FieldError]:
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            yield status.invalid(f"{field}.pattern", schema["pattern"], f"must be a valid regular expression: {error}")
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        try:
            Rules([rule])
        except BadRule as error:
            yield status.invalid(
                f"{field}.x-kubernetes-validations[{index}].rule", rule.get("rule"), f"compilation failed: {error}"
            )
