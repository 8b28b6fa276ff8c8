"""Values that a structural schema admits, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from hatchet_operator_dev.apiserver.cel_rules import Rules

Json = dict[str, Any]

LONGEST_TEXT = 30  # longer ones only make the tests slow
TEXT = st.characters(exclude_categories=["Cs"])  # JSON has no lone surrogates
AMOUNTS = st.tuples(st.integers(0, 87600), st.sampled_from(["", ".5", ".999999999"])).map(
    lambda parts: "".join(map(str, parts))
)
DURATIONS = st.dictionaries(st.sampled_from(["d", "h", "m", "s", "ms"]), AMOUNTS, min_size=1).map(
    lambda parts: "".join(f"{parts[unit]}{unit}" for unit in ("d", "h", "m", "s", "ms") if unit in parts)
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(TEXT, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(TEXT, max_size=5), inner, max_size=3),
    max_leaves=5,
)


def values_of(schema: Json) -> st.SearchStrategy[Any]:
    """Generate what the schema admits, without what only a CEL rule refuses."""
    match schema.get("type"):
        case "object":
            return _objects_of(schema)
        case "array":
            keys = schema.get("x-kubernetes-list-map-keys")
            unique = (lambda item: tuple(item[key] for key in keys)) if keys else None
            return st.lists(
                values_of(schema["items"]), min_size=schema.get("minItems", 0), max_size=3, unique_by=unique
            )
        case "string":
            return _texts_of(schema)
        case "integer":
            return st.integers(schema.get("minimum", -(2**53)), schema.get("maximum", 2**53))
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case None if schema.get("x-kubernetes-int-or-string") and "x-kubernetes-validations" in schema:
            rules = Rules(schema["x-kubernetes-validations"])
            return DURATIONS.filter(lambda text: not rules.check(text, None, ""))
        case None if schema.get("x-kubernetes-int-or-string"):
            return st.integers(-(2**53), 2**53) | (
                st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii"))
                if "pattern" in schema
                else _texts_of(schema)
            )
        case None:
            return ANYTHING
        case unknown:
            raise NotImplementedError(unknown)


def _objects_of(schema: Json) -> st.SearchStrategy[Json]:
    if extra := schema.get("additionalProperties"):
        return st.dictionaries(st.text(TEXT, max_size=5), values_of(extra), max_size=3)
    fields = {name: values_of(field) for name, field in schema.get("properties", {}).items()}
    required = schema.get("required", ())
    return st.fixed_dictionaries(
        {name: values for name, values in fields.items() if name in required},
        optional={name: values for name, values in fields.items() if name not in required},
    )


def _texts_of(schema: Json) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("format") == "date-time":
        times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
        return times.map(datetime.isoformat)
    longest = schema.get("maxLength", LONGEST_TEXT)
    return st.text(TEXT, min_size=schema.get("minLength", 0), max_size=min(longest, LONGEST_TEXT))
