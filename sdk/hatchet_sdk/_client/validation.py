"""Inputs and outputs as pydantic models, without importing pydantic: any class with ``model_validate`` may be one."""

import json
import logging
import reprlib
import warnings
from typing import Any, Protocol, Self, TypeVar

from hatchet_sdk.errors import InvalidInput

log = logging.getLogger("hatchet_sdk")

MAX_SCHEMA = 65536
"""Characters of a schema that the operator keeps."""


class Validator(Protocol):
    """A class that builds an instance from what came as JSON, as pydantic's models do."""

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...


Model = TypeVar("Model", bound=Validator)

_MOST_PROBLEMS = 5
_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 60


def is_validator(value: object) -> bool:
    return isinstance(value, type) and callable(getattr(value, "model_validate", None))


def validated(value: dict[str, Any], model: type[Model], *, what: str) -> Model:
    """Read a value as a model.

    Raises:
        TypeError: It is not a model.
        InvalidInput: The model does not accept it; its message says in one line what is wrong where, and its
            ``__context__`` is the model's own error.
    """
    if not is_validator(model):
        raise TypeError(f"{what} was asked for as {model!r} (expected a pydantic model: a class)")
    try:
        return model.model_validate(value)
    except ValueError as error:  # pydantic's
        # Without its traceback, which leads into pydantic and says the same again.
        raise InvalidInput(f"{what} is no {model.__name__}: {_problems(error, model)}") from None


def _problems(error: ValueError, model: type[Any]) -> str:
    """Say in one line what a model does not accept: pydantic takes three for each field, and counts them first."""
    try:
        found = error.errors(include_url=False, include_context=False)  # type: ignore[attr-defined]  # pydantic has it
    except (AttributeError, TypeError):
        return str(error)
    is_secret = (getattr(model, "model_config", None) or {}).get("hide_input_in_errors", False)
    shown = "; ".join(_problem(each, with_value=not is_secret) for each in found[:_MOST_PROBLEMS])
    return shown if len(found) <= _MOST_PROBLEMS else f"{shown}; and {len(found) - _MOST_PROBLEMS} more"


def _problem(found: dict[str, Any], *, with_value: bool) -> str:
    where = ".".join(map(str, found["loc"]))
    has_value = with_value and found["type"] != "missing"  # of which pydantic gives what surrounds it
    value = f" (it is {_short.repr(found['input'])})" if has_value else ""
    return f"{where}: {found['msg']}{value}" if where else f"{found['msg']}{value}"


def schema_text(model: type[Any] | None, *, what: str) -> str | None:
    """Return the JSON Schema of what a model reads; None: it has none, or one that is too long.

    It only helps people to write an input, so whatever goes wrong here keeps no worker from starting.

    Args:
        model: See `is_validator`.
        what: What the log calls it.
    """
    make_schema = getattr(model, "model_json_schema", None)
    if make_schema is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, about defaults that it leaves out
            text = json.dumps(make_schema(), separators=(",", ":"))
    except Exception as error:  # noqa: BLE001 - user code: a field's type makes its own schema
        log.info("%s has no JSON schema, so pages have no form for it: %s", what, error)
        return None
    if len(text) > MAX_SCHEMA:
        log.info("the JSON schema of %s is too long for a form: %d characters, %d fit", what, len(text), MAX_SCHEMA)
        return None
    return text
