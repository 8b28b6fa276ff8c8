"""CRD schemas, compiled once per CRD into closures: what is pruned, defaulted and refused.

    compile_schema(openAPIV3Schema)  ->  CompiledSchema
        .shape(value)       prunes unknown fields and fills defaults, in place
        .check(value, old)  validates, rules (CEL) included

The order matters and is the server's: prune, default, validate types and bounds, and rules only when no mistake makes
them pointless. Paths of errors are linked tuples while checking, and become text only when there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.cel_rules import BadRule, Rules
from hatchet_operator_dev.apiserver.status import FieldError

Schema = dict[str, Any]
Path = tuple[Any, ...]  # (path of the parent, text that this step appends), () at the root
Shaper = Callable[[Any, "Path", list[str]], None]
Checker = Callable[[Any, Path, list[FieldError]], None]
RuleChecker = Callable[[Any, Any, Path, list[FieldError]], None]

_MISSING = object()


def path_text(path: Path) -> str:
    """Spell a path: ``spec.steps[0].name``, ``spec.map[some/key]``; the root is the empty string."""
    parts: list[str] = []
    while path:
        path, part = path
        parts.append(part)
    return "".join(reversed(parts)).removeprefix(".")


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """The schema of one version of a custom resource."""

    shape: Callable[[dict[str, Any]], list[str]]
    """Prune and default in place; returns the paths that were pruned."""
    _check: Checker
    _rules: RuleChecker | None

    def check(
        self, value: dict[str, Any], old: dict[str, Any] | None, known: list[FieldError] | None = None
    ) -> list[FieldError]:
        """Return what is wrong with ``value``, after the mistakes ``known`` already.

        A mistake that ``old`` has already, unchanged, is let through.
        """
        errors: list[FieldError] = []
        self._check(value, (), errors)
        if old is not None and errors:
            errors = _new_mistakes(errors, value, old)
        errors = [*(known or ()), *errors]
        if self._rules is not None:
            if any(error.reason in status.BLOCKING_REASONS for error in errors):
                errors.append(
                    status.invalid(
                        "<nil>",
                        None,
                        "some validation rules were not checked because the object was invalid; "
                        "correct the existing errors to complete validation",
                    )
                )
            else:
                self._rules(value, old, (), errors)
        return errors


def _new_mistakes(errors: list[FieldError], value: Any, old: Any) -> list[FieldError]:
    return [
        error
        for error in errors
        if (now := _lookup(value, error.field)) is _MISSING or now != _lookup(old, error.field)
    ]


_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def _lookup(value: Any, path: str) -> Any:
    for index, key in _STEP.findall(path):
        if isinstance(value, list) and index.isdigit() and int(index) < len(value):
            value = value[int(index)]
        elif isinstance(value, dict) and (index or key) in value:
            value = value[index or key]
        else:
            return _MISSING
    return value


def compile_schema(schema: Schema) -> CompiledSchema:
    """Compile ``openAPIV3Schema`` of a CRD version; ``None``-like empty schemas keep every field.

    Raises:
        BadRule: A CEL rule does not compile; see ``structural_errors`` for everything else.
    """
    root = dict(schema)
    # The server looks after these itself; a CRD's own words about metadata are limited to its name.
    root["properties"] = {
        **schema.get("properties", {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {
            **schema.get("properties", {}).get("metadata", {}),
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    }
    root["type"] = "object"
    shaper = _shaper(root)

    def shape(value: dict[str, Any]) -> list[str]:
        pruned: list[str] = []
        if shaper is not None:
            shaper(value, (), pruned)
        return pruned

    return CompiledSchema(shape=shape, _check=_checker(root) or _accept, _rules=_rule_checker(root))


def _accept(_value: Any, _path: Path, _errors: list[FieldError]) -> None:
    return


# --- pruning and defaults -------------------------------------------------------------------------------------------


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value


def _shaper(schema: Schema) -> Shaper | None:
    """Compile pruning and defaulting of what is *inside* a value; ``None`` if nothing can change there."""
    if schema.get("x-kubernetes-embedded-resource"):
        schema = {**schema, "properties": {**_EMBEDDED, **schema.get("properties", {})}}
    items = schema.get("items")
    if isinstance(items, dict):
        return _list_shaper(items)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return _map_shaper(extra)
    properties: dict[str, Schema] = schema.get("properties", {})
    keeps_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or extra is True
    if schema.get("type") != "object" and not properties:
        return None
    if keeps_unknown and not properties:
        return None
    return _object_shaper(properties, keeps_unknown)


_EMBEDDED: dict[str, Schema] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _object_shaper(properties: dict[str, Schema], keeps_unknown: bool) -> Shaper:
    defaults = [(name, below["default"]) for name, below in properties.items() if "default" in below]
    shapers = {name: shaper for name, below in properties.items() if (shaper := _shaper(below)) is not None}
    never_null = frozenset(name for name, below in properties.items() if not _is_nullable(below))
    known = frozenset(properties)

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if not isinstance(value, dict):
            return
        if not keeps_unknown and not value.keys() <= known:
            for name in [name for name in value if name not in known]:
                del value[name]
                pruned.append(path_text((path, f".{name}")))
        if None in value.values():
            for name in [name for name, item in value.items() if item is None and name in never_null]:
                del value[name]
        for name, default in defaults:
            if name not in value:
                value[name] = _copied(default)
        for name, shaper in shapers.items():
            below = value.get(name)
            if below is not None:
                shaper(below, (path, f".{name}"), pruned)

    return shape


def _list_shaper(items: Schema) -> Shaper | None:
    shaper = _shaper(items)
    if shaper is None:
        return None

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                shaper(item, (path, f"[{index}]"), pruned)

    return shape


def _map_shaper(extra: Schema) -> Shaper | None:
    shaper = _shaper(extra)
    default, nullable = extra.get("default", _MISSING), _is_nullable(extra)

    def shape(value: Any, path: Path, pruned: list[str]) -> None:
        if not isinstance(value, dict):
            return
        for key, item in list(value.items()):
            if item is None and not nullable:
                if default is _MISSING:
                    del value[key]
                    continue
                value[key] = item = _copied(default)
            if shaper is not None:
                shaper(item, (path, f".{key}"), pruned)

    return shape


def _is_nullable(schema: Schema) -> bool:
    return bool(schema.get("nullable"))


# --- types and bounds -----------------------------------------------------------------------------------------------

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for name in ("object", "array", "string", "integer", "number"):
        if isinstance(value, _TYPES[name]):
            return name
    raise AssertionError(f"not a JSON value: {value!r}")


def _has_type(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _checker(schema: Schema) -> Checker | None:
    """Compile the validation of a value; ``None`` if every value passes."""
    parts: list[Checker] = [
        part
        for make in (_enum_checker, _text_checker, _number_checker, _array_checker, _object_checker, _logic_checker)
        if (part := make(schema)) is not None
    ]
    wanted = schema.get("type")
    nullable = _is_nullable(schema)
    if schema.get("x-kubernetes-int-or-string"):
        return _int_or_string_checker(parts, nullable)
    if wanted is None:
        return _in_turn(parts)

    exact = _TYPES[wanted][0]

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
    item_checker = _checker(schema["items"]) if isinstance(schema.get("items"), dict) else None
    identity = _item_identity(schema)
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


def _item_identity(schema: Schema) -> Callable[[Any], Any] | None:
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
        name: checker for name, part in schema.get("properties", {}).items() if (checker := _checker(part)) is not None
    }
    extra = schema.get("additionalProperties")
    extra_checker = _checker(extra) if isinstance(extra, dict) else None
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
        word: [_checker(part) or _accept for part in schema[word]]
        for word in ("allOf", "anyOf", "oneOf")
        if schema.get(word)
    }
    refused = _checker(schema["not"]) or _accept if schema.get("not") else None
    if not branches and refused is None:
        return None

    def check(value: Any, path: Path, errors: list[FieldError]) -> None:
        for branch in branches.get("allOf", ()):
            branch(value, path, errors)
        for word, wanted in (("anyOf", "at least one schema"), ("oneOf", "one and only one schema")):
            if word not in branches:
                continue
            mistakes = [_mistakes(branch, value, path) for branch in branches[word]]
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
        if refused is not None and not _mistakes(refused, value, path):
            errors.append(status.invalid("<nil>", "", f'"{path_text(path)}" must not validate the schema (not)'))

    return check


def _mistakes(checker: Checker, value: Any, path: Path) -> list[FieldError]:
    errors: list[FieldError] = []
    checker(value, path, errors)
    return errors


# --- rules ----------------------------------------------------------------------------------------------------------


def _rule_checker(schema: Schema) -> RuleChecker | None:
    """Compile the CEL rules of a node and of everything below it; ``None`` if there are none."""
    declared = schema.get("x-kubernetes-validations")
    own = Rules(declared) if declared else None
    below = {
        name: checker
        for name, part in schema.get("properties", {}).items()
        if (checker := _rule_checker(part)) is not None
    }
    extra = schema.get("additionalProperties")
    extra_checker = _rule_checker(extra) if isinstance(extra, dict) else None
    items = schema.get("items")
    item_checker = _rule_checker(items) if isinstance(items, dict) else None
    if own is None and not below and extra_checker is None and item_checker is None:
        return None
    identity = _item_identity(schema) if schema.get("x-kubernetes-list-type") == "map" else None

    def check(value: Any, old: Any, path: Path, errors: list[FieldError]) -> None:
        if value is None:
            return
        if own is not None:
            errors.extend(own.check(value, old, path_text(path)))
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                checker = extra_checker or below.get(name)
                if checker is not None:
                    checker(item, before.get(name), (path, f".{name}"), errors)
        elif isinstance(value, list) and item_checker is not None:
            for index, item in enumerate(value):
                item_checker(item, _correlated(item, old, identity), (path, f"[{index}]"), errors)

    return check


def _correlated(item: Any, old: Any, identity: Callable[[Any], Any] | None) -> Any:
    if identity is None or not isinstance(old, list):
        return None
    return next((known for known in old if identity(known) == identity(item)), None)


# --- what a schema may look like ------------------------------------------------------------------------------------

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
    open_value = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not is_root and "type" not in schema and not open_value:
        yield status.required(f"{field}.type", "must not be empty for specified object fields")
    if isinstance(schema.get("type"), list) or schema.get("type", "object") not in _TYPES:
        yield status.not_supported(f"{field}.type", schema["type"], sorted(_TYPES))
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield status.required(f"{field}.items", "must be specified")
    if "additionalProperties" in schema and schema.get("properties"):
        yield status.forbidden_field(f"{field}.additionalProperties", "mutual exclusive with properties")
    if schema.get("additionalProperties") is False:
        yield status.forbidden_field(f"{field}.additionalProperties", "additionalProperties cannot be set to false")
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
    yield from _pattern_and_rules(schema, field)
    for word in ("allOf", "anyOf", "oneOf"):
        for index, part in enumerate(schema.get(word) or ()):
            yield from _in_logic(part, f"{field}.{word}[{index}]")
    if isinstance(schema.get("not"), dict):
        yield from _in_logic(schema["not"], f"{field}.not")
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
        checker = _checker(schema)
    except (KeyError, re.error):
        return True  # reported for what it is elsewhere
    if checker is None:
        return True
    value = _copied(schema["default"])
    shaper = _shaper(schema)
    if shaper is not None:
        shaper(value, (), [])
    return not _mistakes(checker, value, ())


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
