"""The JSON Schema of a workflow's input, as it is registered for forms."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from hatchet_sdk import Context, Hatchet, Workflow
from hatchet_sdk._client.validation import MAX_SCHEMA
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk._runner.registration import put_workflow_request

hatchet = Hatchet()  # for its decorators
WORDS = {f"word-{number}" for number in range(50)}


class Order(BaseModel):
    id: int = Field(description="As the shop counts them.", ge=1)
    words: set[str] = WORDS
    more: set[str] | None = WORDS


class OfNoSchema(BaseModel):
    call: Callable[[], None]


class OfOddDefault(BaseModel):
    odd: Any = object()


class OfManyWords(BaseModel):
    text: str = Field(description="x" * MAX_SCHEMA)


def registered(model: type[BaseModel] | None) -> str | None:
    @hatchet.workflow(input_validator=model)
    class Pay:
        @hatchet.step()
        def charge(self, context: Context) -> None: ...

    opts = put_workflow_request(definition_of(Pay()), prefix="").opts
    return opts.input_json_schema if opts.HasField("input_json_schema") else None


def test_a_model_is_described_with_its_constraints() -> None:
    schema = json.loads(registered(Order) or "")
    assert schema["required"] == ["id"]
    assert schema["properties"]["id"] == {
        "description": "As the shop counts them.",
        "minimum": 1,
        "title": "Id",
        "type": "integer",
    }


def test_each_process_registers_the_default_of_a_set_in_the_same_order() -> None:
    properties = json.loads(registered(Order) or "")["properties"]
    assert properties["words"]["default"] == properties["more"]["default"] == sorted(WORDS)


def test_the_model_of_a_typed_class_is_registered_too() -> None:
    @hatchet.workflow()
    class Typed(Workflow[Order]):
        @hatchet.step()
        def charge(self, context: Context) -> None: ...

    assert put_workflow_request(definition_of(Typed()), prefix="").opts.input_json_schema == registered(Order)


def test_a_default_that_is_no_json_is_left_out_without_a_warning() -> None:
    assert json.loads(registered(OfOddDefault) or "")["properties"] == {"odd": {"title": "Odd"}}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param(OfNoSchema, 'the input of workflow "Pay" has no JSON schema', id="it has none"),
        pytest.param(OfManyWords, f"is too long for a form: .* characters, {MAX_SCHEMA} fit", id="it is too long"),
    ],
)
def test_what_has_no_schema_is_registered_without(
    model: type[BaseModel], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hatchet_sdk"):
        assert registered(model) is None
    assert re.search(said, caplog.text)


def test_a_workflow_without_a_model_says_nothing() -> None:
    assert registered(None) is None
