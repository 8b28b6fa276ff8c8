"""Inputs and outputs as pydantic models, without importing pydantic: any class with ``model_validate`` may be one."""

from typing import Any, Protocol, Self, TypeVar

from hatchet_sdk.errors import InvalidInput


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
