"""Types and bounds, compiled from a schema into closures that say what is wrong with a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.field_paths import Path, path_text
from hatchet_operator_dev.apiserver.shaping import Schema, is_nullable
from hatchet_operator_dev.apiserver.status import FieldError

Checker = Callable[[Any, Path, list[FieldError]], None]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def checker_of(schema: Schema) -> Checker | None:
    """Compile the validation of a value; ``None`` if every value passes."""
    parts: list[Checker] = [
        part
        for make in (_enum_checker, _text_checker, _number_checker, _array_checker, _object_checker, _logic_checker)
        if (part := make(schema)) is not None
    ]
    wanted = schema.get("type")
    nullable = is_nullable(schema)
    if schema.get("x-kubernetes-int-or-string"):
        return _int_or_string_checker(parts, nullable)
    if wanted is None:
        return _in_turn(parts)

    exact = TYPES[wanted][0]

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if type(value) is not exact and not _has_type(value, wanted):
            if value is None and nullable:
                return
            found, where = _type_name(value), path_text(path)
            errors.append(status.type_invalid(where, found, f'{where} in body must be of type {wanted}: "{found}"'))
            return
        for part in parts:
            part(value, path, errors)

    return check


def accept(_value: Any, _path: Path, _errors: list[FieldError]) -> None:
    return


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for name in ("object", "array", "string", "integer", "number"):
        if isinstance(value, TYPES[name]):
            return name
    raise AssertionError(f"not a JSON value: {value!r}")


def _has_type(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[wanted])


def _in_turn(parts: list[Checker]) -> Checker | None:
    if len(parts) < 2:
        return parts[0] if parts else None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        for part in parts:
            part(value, path, errors)

    return check


def _int_or_string_checker(parts: list[Checker], nullable: bool) -> Checker:
    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if value is None and nullable:
            return
        if not isinstance(value, int | str) or isinstance(value, bool):
            found, where = _type_name(value), path_text(path)
            errors.append(
                status.type_invalid(where, found, f'{where} in body must be of type integer,string: "{found}"')
            )
            return
        for part in parts:
            part(value, path, errors)

    return check


def _enum_checker(schema: Schema) -> Checker | None:
    choices = schema.get("enum")
    if choices is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if value not in choices:
            errors.append(status.not_supported(path_text(path), value, choices))

    return check


def _text_checker(schema: Schema) -> Checker | None:
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    pattern = schema.get("pattern")
    matches = re.compile(pattern).search if pattern else None
    format_holds = _FORMATS.get(schema.get("format", "")) if schema.get("type") == "string" else None
    if not low and high is None and matches is None and format_holds is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if not isinstance(value, str):
            return
        if high is not None and len(value) > high:
            errors.append(status.too_long(path_text(path), high))
        if len(value) < low:
            where = path_text(path)
            errors.append(status.invalid(where, value, f"{where} in body should be at least {low} chars long"))
        if matches is not None and matches(value) is None:
            where = path_text(path)
            errors.append(status.invalid(where, value, f"{where} in body should match '{pattern}'"))
        if format_holds is not None and not format_holds(value):
            where = path_text(path)
            errors.append(
                status.type_invalid(where, value, f'{where} in body must be of type {schema["format"]}: "{value}"')
            )

    return check


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return holds


_DURATION = re.compile(r"^[-+]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*)$")

_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _parses(datetime.fromisoformat),
    "date": _parses(date.fromisoformat),
    "duration": lambda text: _DURATION.match(text) is not None,
    "uuid": lambda text: re.fullmatch(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", text) is not None,
}


def _number_checker(schema: Schema) -> Checker | None:
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    above, below = bool(schema.get("exclusiveMinimum")), bool(schema.get("exclusiveMaximum"))
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if low is None and high is None and step is None and bits is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        where = path_text(path)
        if low is not None and (value <= low if above else value < low):
            bound = "greater than" if above else "greater than or equal to"
            errors.append(status.invalid(where, value, f"{where} in body should be {bound} {low}"))
        if high is not None and (value >= high if below else value > high):
            bound = "less than" if below else "less than or equal to"
            errors.append(status.invalid(where, value, f"{where} in body should be {bound} {high}"))
        if step is not None and value % step != 0:
            errors.append(status.invalid(where, value, f"{where} in body should be a multiple of {step}"))
        if bits is not None and not -(2**bits) <= value < 2**bits:
            message = f"Checked value must be of type integer with format {schema['format']} in {where}"
            errors.append(status.invalid("<nil>", "", message))

    return check


def _array_checker(schema: Schema) -> Checker | None:
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    item_checker = checker_of(schema["items"]) if isinstance(schema.get("items"), dict) else None
    identity = item_identity(schema)
    if not low and high is None and item_checker is None and identity is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if not isinstance(value, list):
            return
        if high is not None and len(value) > high:
            errors.append(status.too_many(path_text(path), len(value), high))
        if len(value) < low:
            where = path_text(path)
            errors.append(status.invalid(where, len(value), f"{where} in body should have at least {low} items"))
        if item_checker is not None:
            for index, item in enumerate(value):
                item_checker(item, (path, f"[{index}]"), errors)
        if identity is not None:
            seen: list[Any] = []
            for index, item in enumerate(value):
                key = identity(item)
                if seen.count(key) == 1:
                    errors.append(status.duplicate(path_text((path, f"[{index}]")), key))
                seen.append(key)

    return check


def item_identity(schema: Schema) -> Callable[[Any], Any] | None:
    match schema.get("x-kubernetes-list-type"):
        case "set":
            return lambda item: item
        case "map":
            keys = schema["x-kubernetes-list-map-keys"]
            return lambda item: {key: item[key] for key in keys if key in item} if isinstance(item, dict) else item
    return None


def _object_checker(schema: Schema) -> Checker | None:
    needed: list[str] = schema.get("required", [])
    low, high = schema.get("minProperties", 0), schema.get("maxProperties")
    below = {
        name: checker
        for name, part in schema.get("properties", {}).items()
        if (checker := checker_of(part)) is not None
    }
    extra = schema.get("additionalProperties")
    extra_checker = checker_of(extra) if isinstance(extra, dict) else None
    if not (needed or low or high is not None or below or extra_checker):
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        if not isinstance(value, dict):
            return
        for name in needed:
            if name not in value:
                errors.append(status.required(path_text((path, f".{name}"))))
        if high is not None and len(value) > high:
            errors.append(status.too_many(path_text(path), len(value), high))
        if len(value) < low:
            where = path_text(path)
            errors.append(status.invalid(where, len(value), f"{where} in body should have at least {low} properties"))
        if extra_checker is not None:
            for name, item in value.items():
                extra_checker(item, (path, f".{name}"), errors)
            return
        for name, item in value.items():
            checker = below.get(name)
            if checker is not None:
                checker(item, (path, f".{name}"), errors)

    return check


def _logic_checker(schema: Schema) -> Checker | None:
    branches = {
        word: [checker_of(part) or accept for part in schema[word]]
        for word in ("allOf", "anyOf", "oneOf")
        if schema.get(word)
    }
    refused = checker_of(schema["not"]) or accept if schema.get("not") else None
    if not branches and refused is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        for branch in branches.get("allOf", ()):
            branch(value, path, errors)
        for word, wanted in (("anyOf", "at least one schema"), ("oneOf", "one and only one schema")):
            if word not in branches:
                continue
            mistakes = [mistakes_in(branch, value, path) for branch in branches[word]]
            passed = sum(not found for found in mistakes)
            if passed and (word == "anyOf" or passed == 1):
                continue
            message = f'"{path_text(path)}" must validate {wanted} ({word})'
            if word == "oneOf":
                message += f". Found {passed} valid alternatives" if passed else ". Found none valid"
            errors.append(status.invalid("<nil>", "", message))
            if not passed:
                closest: list[FieldError] = sorted(mistakes, key=len)[0]
                errors.extend(closest)
        if refused is not None and not mistakes_in(refused, value, path):
            errors.append(status.invalid("<nil>", "", f'"{path_text(path)}" must not validate the schema (not)'))

    return check


def mistakes_in(checker: Checker, value: Any, path: Path) -> list[FieldError]:
    errors: list[FieldError] = []
    checker(value, path, errors)
    return errors
