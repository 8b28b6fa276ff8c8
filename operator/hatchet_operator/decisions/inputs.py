"""Whether two texts of JSON say the same."""

import json
from dataclasses import dataclass

import orjson

from hatchet_operator.resources.run import RunSpec


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it was written: 1 and 1.0 are two, and no digit of a long one is lost."""

    text: str


def input_text(spec: RunSpec) -> str:
    """Return the input of a run as JSON text, whichever way it was given."""
    return spec.input_json if spec.input_json is not None else orjson.dumps(spec.input or {}).decode()


def is_same_json(one: str, other: str) -> bool:
    """Tell whether two texts are one value: the order of keys and the white space between them say nothing."""
    if one == other:
        return True
    try:
        return bool(_read(one) == _read(other))
    except (ValueError, RecursionError):
        return False


def _read(text: str) -> object:
    return json.loads(text, parse_int=_Number, parse_float=_Number)
