"""Which units of which limits an attempt needs: what a step says, evaluated for one run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hatchet_operator.decisions.expressions import RATE_LIMIT, expression_problem, key_made, number_made
from hatchet_operator.decisions.inputs import input_object
from hatchet_operator.decisions.rate_limits import Limit
from hatchet_operator.resources.nesting import read_json
from hatchet_operator.resources.rate_limit import MAX_UNITS, StepRateLimit
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

DEFAULT_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Units of one limit.

    Attributes:
        key: Which limit.
        units: How many.
        limit: What applies if there is no RateLimit with that key; None: there must be one.
    """

    key: str
    units: int
    limit: Limit | None = None


def limits_problem(limits: tuple[StepRateLimit, ...]) -> str | None:
    """Say which of a step's limits is invalid, and why, or None."""
    for number, limit in enumerate(limits):
        if (limit.key is None) == (limit.key_expression is None):
            return f"rate limit {number} needs one of key (a text) and keyExpression (CEL that makes one), and not both"
        for text in (limit.key_expression, limit.units_expression, limit.limit_expression):
            if text is not None and (problem := expression_problem(text, RATE_LIMIT)) is not None:
                return f"rate limit {number}: {problem}"
    return None


def needs_of(step: StepDefinition, run: WorkflowRun) -> tuple[Need, ...]:
    """Return what an attempt of a step needs, one for each limit; units of a limit that is named twice add up.

    Raises:
        UnusableKeyError: An expression yields nothing usable for this run; the message says which, and why.
    """
    variables: Mapping[str, Any] | None = None
    needs: dict[str, Need] = {}
    for limit in step.rate_limits or ():
        if variables is None and (limit.key_expression or limit.units_expression or limit.limit_expression):
            variables = _variables(step, run)
        need = _need(limit, variables or {})
        if need.units:
            before = needs.get(need.key)
            units = min(need.units + (before.units if before else 0), MAX_UNITS)
            needs[need.key] = Need(key=need.key, units=units, limit=need.limit or (before.limit if before else None))
    return tuple(needs.values())


def _need(limit: StepRateLimit, variables: Mapping[str, Any]) -> Need:
    expression = limit.key_expression
    key = limit.key or "" if expression is None else key_made(expression, RATE_LIMIT, variables)
    units = 1 if limit.units is None else limit.units
    if limit.units_expression is not None:
        units = number_made(limit.units_expression, RATE_LIMIT, variables, most=MAX_UNITS)
    if limit.limit_expression is None:
        return Need(key=key, units=units)
    most = number_made(limit.limit_expression, RATE_LIMIT, variables, most=MAX_UNITS)
    window = limit.window or DEFAULT_WINDOW
    return Need(key=key, units=units, limit=Limit(units=most, seconds=window.total_seconds()))


def _variables(step: StepDefinition, run: WorkflowRun) -> Mapping[str, Any]:
    return {
        "input": input_object(run.spec),
        "additional_metadata": run.spec.additional_metadata or {},
        "parents": dict(_outputs(step, run)),
    }


def _outputs(step: StepDefinition, run: WorkflowRun) -> Iterator[tuple[str, Any]]:
    for name in step.parents:
        state = run.status.steps.get(name)
        if state is not None and state.phase is Phase.SUCCEEDED:
            yield name, read_json(state.output) if state.output else {}
