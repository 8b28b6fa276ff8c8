"""CEL expressions of users over a run's input: checked when they are written, evaluated within a bound of time.

They are evaluated by ``common-expression-language``, which is native and maintained. It has no cost limit: loops are
refused, and `expression_costs` says what the rest may take at most before it is evaluated. The library is imported
late: it brings a command line with its drawing libraries, a quarter of a second and 11 MB for those without such an
expression.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hatchet_operator.decisions.expression_costs import (
    LONGEST_EXPRESSION,
    MOST_MICROSECONDS,
    Costs,
    costs_of,
    loop_in,
    pattern_problem,
)
from hatchet_sdk.payloads.reference import MARK

if TYPE_CHECKING:
    import cel

_LONGEST_KEY = 256
_NOT_EVALUATED = (LookupError, ArithmeticError, ValueError, TypeError, RuntimeError)
"""What the library raises: beyond a list, by zero, out of 64 bits, of the wrong type, by an unknown function, …"""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What an expression is for.

    Attributes:
        name: What messages call it.
        variables: What it may refer to.
        example: An example of one.
        given: What it is evaluated for.
    """

    name: str
    variables: tuple[str, ...]
    example: str
    given: str = "run"


CONCURRENCY = Purpose("concurrency expression", ("input", "additional_metadata"), "input.user")
CONCURRENCY_BY_METHOD = Purpose("concurrency expression", ("input", "additional_metadata", "group_key"), "group_key")
IDEMPOTENCY = Purpose("idempotency expression", ("input", "additional_metadata"), "input.order")
RATE_LIMIT = Purpose("rate limit expression", ("input", "additional_metadata", "parents"), "input.user")
EVENT_FILTER = Purpose(
    "filter", ("input", "additional_metadata", "payload", "event_id", "event_key"), "input.amount > 100", "event"
)
EVENT_KEY = Purpose("eventKey", ("input", "headers"), "'github:' + headers['x-github-event']", "delivery")


class BadExpressionError(ValueError):
    """An expression is not accepted; the message says why."""


def expression_problem(text: str, purpose: Purpose = CONCURRENCY) -> str | None:
    """Say what is wrong with an expression, or None."""
    try:
        _program(text, purpose)
    except BadExpressionError as error:
        return str(error)
    return None


class UnusableKeyError(ValueError):
    """An expression yields nothing usable for an input; the message says why."""


def group_key(text: str, *, input: dict[str, Any], metadata: dict[str, Any], told: str | None = None) -> str:
    """Return the name of the group that a run belongs to.

    Args:
        text: The expression.
        input: The run's.
        metadata: The run's.
        told: The key that the worker's method returned; None: the workflow has no such method.

    Raises:
        UnusableKeyError: The expression can't be evaluated for this run, or makes no text, number or truth value.
    """
    variables: dict[str, Any] = {"input": input, "additional_metadata": metadata}
    if told is None:
        return key_made(text, CONCURRENCY, variables)
    return key_made(text, CONCURRENCY_BY_METHOD, variables | {"group_key": told})


def key_made(text: str, purpose: Purpose, variables: Mapping[str, Any]) -> str:
    """Return the text that an expression yields for a run.

    Raises:
        UnusableKeyError: It can't be evaluated for this run, or makes no text, number or truth value.
    """
    value = _evaluate(text, purpose, variables)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} yields {_kind_of(value)} from this {purpose.given}'s input; "
            "expected a text, a number or a truth value"
        )
    key = str(value)
    if len(key) > _LONGEST_KEY:
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} yields a text of {len(key)} characters from this {purpose.given}'s input; "
            f"expected at most {_LONGEST_KEY}"
        )
    return key


def number_made(text: str, purpose: Purpose, variables: Mapping[str, Any], *, most: int) -> int:
    """Return the whole number, from 0, that an expression yields for a run.

    Raises:
        UnusableKeyError: It can't be evaluated for this run, or makes something else.
    """
    value = _evaluate(text, purpose, variables)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        shown = repr(value) if isinstance(value, bool | int | float | str) else _kind_of(value)
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} yields {shown[:100]} from this {purpose.given}'s input; "
            f"expected a whole number from 0 to {most}"
        )
    return value


def is_true(text: str, purpose: Purpose, variables: Mapping[str, Any]) -> bool:
    """Return the truth value that an expression yields.

    Raises:
        UnusableKeyError: It can't be evaluated, or makes something else.
    """
    value = _evaluate(text, purpose, variables)
    if not isinstance(value, bool):
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} yields {_kind_of(value)} from this {purpose.given}; "
            "expected true or false, as in input.amount > 100"
        )
    return value


def _evaluate(text: str, purpose: Purpose, variables: Mapping[str, Any]) -> Any:
    try:
        program, costs = _program(text, purpose)
    except BadExpressionError as error:
        raise UnusableKeyError(str(error)) from error
    given = costs.narrow(variables)
    if (took := costs.microseconds(given)) > MOST_MICROSECONDS:
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} would look at too much of this {purpose.given}'s input "
            f"({_shown_milliseconds(took)}; at most {MOST_MICROSECONDS / 1000:.0f} ms are allowed); "
            "name a smaller field of it, or put what the expression needs into additional_metadata"
        )
    try:
        return program.execute(given)
    except _NOT_EVALUATED as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0][:500]
        if MARK in (variables.get("input") or {}):
            raise UnusableKeyError(
                f"the {purpose.name} {text!r} can't be evaluated for this {purpose.given}: {what}; its input is in the "
                "payload store, where expressions don't look: put what they need into additional_metadata"
            ) from error
        way_out = "write the expression for what it is given"
        if isinstance(error, LookupError):
            way_out = f"give the {purpose.given} an input that has it, or write the expression with has(…) ? … : …"
        raise UnusableKeyError(
            f"the {purpose.name} {text!r} can't be evaluated for this {purpose.given}: {what}; {way_out}"
        ) from error


def _kind_of(value: object) -> str:
    """Say what CEL calls it, as far as that is not what Python does."""
    names = {"NoneType": "null", "dict": "a map", "str": "a text", "timedelta": "a duration", "datetime": "a timestamp"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")


def _shown_milliseconds(microseconds: float) -> str:
    return f"some {microseconds / 1000:.0f} ms" if microseconds < 60e6 else "more than a minute"


@lru_cache(maxsize=1024)
def _program(text: str, purpose: Purpose) -> "tuple[cel.Program, Costs]":
    """Compile an accepted expression: no other is ever evaluated, wherever it was written."""
    import cel

    if len(text) > LONGEST_EXPRESSION:
        raise BadExpressionError(
            f"the {purpose.name} {text[:40]!r}… has {len(text)} characters; expected at most {LONGEST_EXPRESSION}"
        )
    try:
        program = cel.compile(text)
    except ValueError as error:
        reason = str(error).splitlines()[0].removeprefix(f"Failed to parse expression '{text}': ")
        raise BadExpressionError(
            f"{purpose.name} {text!r} is not CEL ({reason}); expected something like {purpose.example}"
        ) from error
    if (loop := loop_in(text)) is not None:
        raise BadExpressionError(
            f"{purpose.name} {text!r} loops with {loop}(), which is not allowed, since it may take any time; "
            "put what it computes into the input"
        )
    if "matches" in program.functions() and (problem := pattern_problem(text)) is not None:
        raise BadExpressionError(f"{purpose.name} {text!r} has {problem}")
    if unknown := sorted(set(program.variables()) - set(purpose.variables)):
        raise BadExpressionError(
            f"{purpose.name} {text!r} names {', '.join(unknown)}, which is not there; "
            f"expected {' and '.join(filter(None, (', '.join(purpose.variables[:-1]), purpose.variables[-1])))}"
        )
    return program, costs_of(text, purpose.variables)
