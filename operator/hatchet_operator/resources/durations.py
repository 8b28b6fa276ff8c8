"""The field type of durations in our resources."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from hatchet_operator.durations import PATTERN, format_duration, parse_duration


def _to_timedelta(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_to_timedelta),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Field(
        json_schema_extra={
            "type": "string",
            "pattern": PATTERN,
            "maxLength": 64,
            "x-kubernetes-validations": [
                {
                    "rule": "duration(self) <= duration('87600h')",
                    "message": 'is longer than ten years; give at most "87600h"',
                },
            ],
        }
    ),
]
"""A timedelta whose JSON form is a Go duration."""
