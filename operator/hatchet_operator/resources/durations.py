"""The field type of durations in our resources."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from hatchet_operator.durations import EXAMPLES, format_duration, parse_duration

# Each unit once, in this order: then a sum that CEL can't hold (292 years) can't be written, and the API server never
# answers with the words of its engine. CEL's duration() knows no days: they are taken off before.
_FORM = (
    r"^([0-9]{1,5}([.][0-9]{1,9})?d)?([0-9]{1,6}([.][0-9]{1,9})?h)?([0-9]{1,8}([.][0-9]{1,9})?m)?"
    r"([0-9]{1,9}([.][0-9]{1,9})?s)?([0-9]{1,12}([.][0-9]{1,9})?ms)?$"
)
_IS_FORM = f"type(self) == string && self != '' && self.matches('{_FORM}')"
# getSeconds() cuts, hence the second more: what is taken here, parse_duration() takes too.
_IS_SHORT = (
    "!self.contains('d') ? duration(self) <= duration('87600h') "
    ": self.endsWith('d') ? double(self.split('d')[0]) <= 3650.0 "
    ": double(self.split('d')[0]) * 86400.0 + double(duration(self.split('d')[1]).getSeconds()) + 1.0 <= 315360000.0"
)
_RULES = [
    {
        "rule": _IS_FORM,
        "message": "is not a duration; expected numbers with units, the largest first (d, h, m, s, ms), e.g. "
        f"{EXAMPLES}",
    },
    {
        "rule": f"!({_IS_FORM}) || ({_IS_SHORT})",
        "message": 'is longer than ten years; expected at most "3650d"',
    },
]
_MORE_THAN_ZERO = {
    "rule": "type(self) != string || self.matches('[1-9]') || !self.matches('^[0-9]')",
    "message": f"is zero; expected more than zero, e.g. {EXAMPLES}",
}


def _to_timedelta(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, timedelta):
        return value
    raise ValueError(f"{value!r} is not a duration; expected a text such as {EXAMPLES}")


def _schema(*rules: dict[str, str]) -> dict[str, Any]:
    # An integer is let through to the rules, whose words help more than "must be of type string".
    return {"x-kubernetes-int-or-string": True, "maxLength": 64, "x-kubernetes-validations": list(rules)}


def text_of_duration(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return JSON schema of the text if a structural schema is a duration's, for those who know no CEL."""
    if _RULES[0] not in schema.get("x-kubernetes-validations", ()):
        return None
    return {"type": "string", "pattern": _FORM, "minLength": 1}


Duration = Annotated[
    timedelta,
    BeforeValidator(_to_timedelta),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Field(json_schema_extra=_schema(*_RULES)),
]
"""A timedelta whose JSON form is a duration's text."""

PositiveDuration = Annotated[Duration, Field(json_schema_extra=_schema(*_RULES, _MORE_THAN_ZERO))]
"""One that the API server refuses if it is zero; read it may be, as workers may have registered it."""
