"""Workflows named by their class: what they take is checked by type checkers, and what they return has a type.

Only the wire's names are known here: a decorated class carries its definition, which `hatchet_sdk._runner` reads.
"""

from typing import Any, ForwardRef, Generic, get_args, get_origin

from typing_extensions import TypeVar  # with defaults, which typing's has from Python 3.13 on

from hatchet_sdk._client.validation import is_validator
from hatchet_sdk.errors import InvalidDefinition

RunResult = dict[str, dict[str, Any]]
"""What a run returns: the output of each step that has one, by the step's name."""

DEFINITION = "_hatchet_workflow"
"""The attribute in which a decorated class carries its definition."""

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT", covariant=True, default=RunResult)


class Workflow(Generic[InputT, ResultT]):
    """What a workflow takes and returns, as its base class: ``class Page(Workflow[PageInput, PageResult])``.

    Then ``spawn_workflow(Page, PageInput(…))`` is checked by type checkers, and ``await ref.result()`` is a PageResult.
    This is optional: names still work.

    Both may be pydantic models, and are then validated: the input when a step begins (as by ``input_validator``), the
    result when it is read. The result has a field for each step that returns something, by the step's name.
    """


def name_of(workflow: object) -> Any:
    """Return the name of a decorated class; anything else as it is, to be checked as a name."""
    if isinstance(workflow, type) and (definition := vars(workflow).get(DEFINITION)) is not None:
        return definition.name
    if DEFINITION in vars(type(workflow)):
        kind = type(workflow).__name__
        raise TypeError(f"the workflow is an instance of {kind} (expected the class: {kind}, without parentheses)")
    return workflow


def input_model(workflow: type) -> type[Any] | None:
    """Return the model of a class's input, if it says one that validates."""
    return _model(workflow, 0)


def result_model(workflow: object) -> type[Any] | None:
    """Return the model of what runs of a class return, if it says one that validates."""
    return _model(workflow, 1) if isinstance(workflow, type) else None


def _model(workflow: type, position: int) -> type[Any] | None:
    said = _said(workflow)[position : position + 1]
    if said and isinstance(said[0], str | ForwardRef):
        named = said[0] if isinstance(said[0], str) else said[0].__forward_arg__
        raise InvalidDefinition(
            f'class {workflow.__name__}: its base Workflow has the text "{named}" (expected the class itself, '
            "which has to be defined before)"
        )
    return said[0] if said and is_validator(said[0]) else None


def _said(workflow: type) -> tuple[Any, ...]:
    """Return what the base `Workflow` of a class, or of one of its bases, was given."""
    for base in vars(workflow).get("__orig_bases__", workflow.__bases__):
        origin = get_origin(base) or base
        if origin is Workflow:
            return get_args(base)
        if isinstance(origin, type) and (said := _said(origin)):
            given = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            return tuple(given.get(each, each) for each in said)
    return ()
