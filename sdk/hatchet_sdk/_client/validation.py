"""Inputs and outputs as pydantic models, without importing pydantic: any class with ``model_validate`` may be one."""

import json
import logging
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


def is_validator(value: object) -> bool:
    return isinstance(value, type) and callable(getattr(value, "model_validate", None))


def validated(value: dict[str, Any], model: type[Model], *, what: str) -> Model:
    """Read a value as a model.

    Raises:
        TypeError: It is not a model.
        InvalidInput: The model does not accept it; the message is the model's.
    """
    if not is_validator(model):
        raise TypeError(f"{what} was asked for as {model!r} (expected a pydantic model: a class)")
    try:
        return model.model_validate(value)
    except ValueError as error:  # pydantic's
        raise InvalidInput(f"{what} is no {model.__name__}: {error}") from error


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
