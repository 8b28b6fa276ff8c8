"""The input of a run: as text, as an object, and whether two JSON texts are equivalent."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

from hatchet_operator.resources.nesting import read_json
from hatchet_operator.resources.run import RunSpec
from hatchet_sdk.payloads.reference import MARK, digest_of, reference_in


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it was written: 1 and 1.0 are different, and no digit of a long one is lost."""

    text: str


def input_text(spec: RunSpec) -> str:
    """Return the input of a run as JSON text, whichever way it was given."""
    return spec.input_json if spec.input_json is not None else orjson.dumps(spec.input or {}).decode()


def input_reference(spec: RunSpec) -> str | None:
    """Return the text of a run's input if it may be a reference to a payload; None: it is not, found at no cost."""
    if spec.input_json is not None:
        return spec.input_json
    return input_text(spec) if spec.input and MARK in spec.input else None


def input_object(spec: RunSpec) -> dict[str, Any]:
    """Return the input of a run as an object; {} if it is not one, in which case the run fails."""
    if spec.input_json is None:
        return spec.input or {}
    try:
        value = read_json(spec.input_json)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_same_json(one: str, other: str) -> bool:
    """Return whether two texts are the same value: the order of keys and white space do not matter.

    A payload is known by its digest alone, so its text has to be the same to the letter.
    """
    if one == other:
        return True
    try:
        if reference_in(one) is not None or reference_in(other) is not None:
            return digest_of(one) == digest_of(other)
        return bool(_read(one) == _read(other))
    except (ValueError, RecursionError):
        return False


def _read(text: str) -> object:
    return json.loads(text, parse_int=_Number, parse_float=_Number)
