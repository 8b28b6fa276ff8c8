"""What is said of an input that its model does not accept."""

from typing import Any, Self

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from hatchet_sdk import InvalidInput
from hatchet_sdk._client.validation import validated


class Line(BaseModel):
    price: float

    @field_validator("price")
    @classmethod
    def positive(cls, price: float) -> float:
        if price <= 0:
            raise ValueError("a price is more than 0")
        return price


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: int
    lines: list[Line] = []


class Login(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    pin: int


class Own:
    @classmethod
    def model_validate(cls, obj: Any) -> Self:
        raise ValueError(f"{len(obj)} is too few")


@pytest.mark.parametrize(
    ("model", "value", "want"),
    [
        pytest.param(Order, {}, "id: Field required", id="a missing field, without all that is there"),
        pytest.param(
            Order,
            {"id": 1, "lines": [{"price": 1}, {"price": -1}]},
            "lines.1.price: Value error, a price is more than 0 (it is -1)",
            id="the user's own check, with the place",
        ),
        pytest.param(
            Order, {"id": 1, "idd": "x" * 99}, f"idd: Extra inputs are not permitted (it is '{'x' * 27}...{'x' * 28}')",
            id="a long value is cut",
        ),
        pytest.param(
            Order,
            {"id": 1, "lines": [{"price": "a"}] * 7},
            "; ".join(
                f"lines.{number}.price: Input should be a valid number, unable to parse string as a number (it is 'a')"
                for number in range(5)
            )
            + "; and 2 more",
            id="of many the first",
        ),
        pytest.param(
            Login,
            {"pin": "12e4"},
            "pin: Input should be a valid integer, unable to parse string as an integer",
            id="a model that hides values",
        ),
        pytest.param(Own, {}, "0 is too few", id="a class of one's own"),
    ],
)  # fmt: skip
def test_it_is_one_line_with_each_field(model: type[Any], value: dict[str, Any], want: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        validated(value, model, what="the input of run r")
    assert str(raised.value) == f"the input of run r is no {model.__name__}: {want}"


def test_the_model_s_own_error_can_be_asked() -> None:
    with pytest.raises(InvalidInput) as raised:
        validated({"id": "a"}, Order, what="it")
    assert isinstance(raised.value.__context__, ValidationError)
    assert raised.value.__suppress_context__, "its traceback leads into pydantic, and says the same again"
