"""The step graph that a run executes: a registered definition, checked, with a person's overrides applied."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from itertools import chain

from hatchet_operator.decisions.concurrency import limits_of
from hatchet_operator.decisions.expressions import (
    CONCURRENCY,
    CONCURRENCY_BY_METHOD,
    EVENT_FILTER,
    IDEMPOTENCY,
    expression_problem,
)
from hatchet_operator.decisions.step_limits import limits_problem
from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.reasons import (
    ClientApi,
    Execution,
    OnRetriesExhausted,
    Record,
    RunOn,
    ScheduleTimeoutCounts,
    Stickiness,
)
from hatchet_operator.resources.workflow import (
    ConcurrencyLimit,
    Idempotency,
    StepDefinition,
    WorkflowDefinition,
    WorkflowSpec,
)

DEFAULT_SCHEDULE_TIMEOUT = timedelta(minutes=5)
DEFAULT_PRIORITY = 1


class InvalidDefinitionError(ValueError):
    """A definition makes no sense; the message names workflow and step, what is wrong and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What a run executes.

    Attributes:
        workflow: Object name of the Workflow.
        revision: Name of the ControllerRevision that keeps the definition.
        steps: Parents before children.
        on_failure: Runs once after the others when one of them failed.
        run_on: After which other outcomes it runs, too.
        client_api: The API version whose wording clients that await a run get.
        pool: The pool whose workers registered it.
        schedule_timeout: How long a step may wait for a worker.
        counts: Which waiting the schedule timeout counts.
        priority: The priority of runs that set none.
        execution: Where the steps run.
        pod_overrides: How pods created for runs differ from the pool's template.
        concurrency: How many runs may run at a time.
        asks_for_group: The first of the steps names the group that the run is in.
        sticky: Whether the steps of a run go to one worker.
        idempotency: What makes two runs the same one.
        record: What is recorded of children that ask for nothing else.
        pauses: Whether a run waits for a person when a step has failed without retries left.
    """

    workflow: str
    revision: str
    steps: tuple[StepDefinition, ...]
    on_failure: StepDefinition | None
    pool: str | None
    schedule_timeout: timedelta
    counts: ScheduleTimeoutCounts
    priority: int
    execution: Execution = Execution.POOL
    pod_overrides: PodOverrides | None = None
    concurrency: tuple[ConcurrencyLimit, ...] = ()
    asks_for_group: bool = False
    sticky: Stickiness = Stickiness.NONE
    run_on: RunOn = RunOn.FAILURE
    client_api: ClientApi | None = None
    pauses: bool = False
    idempotency: Idempotency | None = None
    record: Record = Record.FULL

    def step(self, name: str) -> StepDefinition | None:
        candidates = (*self.steps, self.on_failure) if self.on_failure else self.steps
        return next((step for step in candidates if step.name == name), None)


def check_definition(definition: WorkflowDefinition) -> None:
    """Refuse a definition whose steps do not form a graph.

    Raises:
        InvalidDefinitionError: No steps, two with the same name, an unknown parent or a cycle.
    """
    problem = next(
        chain(_expression_problems(definition), _name_problems(definition), _parent_problems(definition)), None
    )
    if problem is not None:
        raise InvalidDefinitionError(f'workflow "{definition.name}"{problem}')
    _ordered(definition)


def _expression_problems(definition: WorkflowDefinition) -> Iterator[str]:
    purpose = CONCURRENCY_BY_METHOD if definition.group_key else CONCURRENCY
    same = definition.idempotency
    expressions = [
        *((limit.expression, purpose) for limit in definition.concurrency or ()),
        *([(same.expression, IDEMPOTENCY)] if same is not None else []),
        *((each.expression, EVENT_FILTER) for each in definition.event_filters or () if each.expression),
    ]
    for expression, used_for in expressions:
        if (problem := expression_problem(expression, used_for)) is not None:
            yield f": {problem}"
    for step in _all_steps(definition):
        if (problem := limits_problem(step.rate_limits or ())) is not None:
            yield f': step "{step.name}": {problem}'


def _name_problems(definition: WorkflowDefinition) -> Iterator[str]:
    if not definition.steps:
        yield " has no steps; expected at least one"
    names = [step.name for step in _all_steps(definition)]
    for name in names:
        if names.count(name) > 1:
            yield f' has two steps named "{name}"; expected each name once'


def _parent_problems(definition: WorkflowDefinition) -> Iterator[str]:
    known = {step.name for step in definition.steps}
    for step in definition.steps:
        for parent in step.parents:
            if parent not in known:
                yield (
                    f': step "{step.name}" names parent "{parent}", which is not defined '
                    f"(defined: {', '.join(sorted(known))})"
                )


def _all_steps(definition: WorkflowDefinition) -> tuple[StepDefinition, ...]:
    return (*definition.steps, *((definition.on_failure,) if definition.on_failure else ()))


def _ordered(definition: WorkflowDefinition) -> tuple[StepDefinition, ...]:
    by_name = {step.name: step for step in definition.steps}
    try:
        order = TopologicalSorter({step.name: step.parents for step in definition.steps}).static_order()
        return tuple(by_name[name] for name in order)
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise InvalidDefinitionError(
            f'workflow "{definition.name}": its steps wait for each other in a cycle ({cycle}); '
            "remove one of these parents"
        ) from error


def unknown_overrides(spec: WorkflowSpec, definition: WorkflowDefinition) -> list[str]:
    """Return the steps that a person overrides but no worker registered."""
    known = {step.name for step in definition.steps}
    if definition.on_failure:
        known.add(definition.on_failure.name)
    return sorted(set(spec.steps) - known)


def effective_graph(
    workflow: str, spec: WorkflowSpec, definition: WorkflowDefinition, *, revision: str, pool: str | None
) -> Graph:
    """Apply a person's spec to what a worker registered.

    Raises:
        InvalidDefinitionError: The definition is not a graph.
    """
    check_definition(definition)
    method = definition.group_key if spec.concurrency is None else None  # a person's limits replace the worker's method
    return Graph(
        workflow=workflow,
        revision=revision,
        steps=_after(method, tuple(_overridden(step, spec) for step in _ordered(definition))),
        on_failure=_overridden(definition.on_failure, spec) if definition.on_failure else None,
        pool=pool,
        schedule_timeout=spec.schedule_timeout if spec.schedule_timeout is not None else definition.schedule_timeout,
        counts=spec.schedule_timeout_counts,
        priority=spec.priority or definition.default_priority or DEFAULT_PRIORITY,
        execution=spec.execution,
        pod_overrides=spec.pod_overrides,
        client_api=definition.client_api,
        run_on=(spec.on_failure and spec.on_failure.run_on) or definition.run_on or RunOn.FAILURE,
        asks_for_group=method is not None,
        concurrency=limits_of(spec, definition),
        sticky=spec.sticky or definition.sticky or Stickiness.NONE,
        pauses=spec.on_retries_exhausted is OnRetriesExhausted.PAUSE,
        idempotency=spec.idempotency or definition.idempotency,
        record=spec.record or definition.record or Record.FULL,
    )


def _after(first: StepDefinition | None, steps: tuple[StepDefinition, ...]) -> tuple[StepDefinition, ...]:
    """Put a step before all others."""
    if first is None:
        return steps
    return (first, *(step if step.parents else step.model_copy(update={"parents": (first.name,)}) for step in steps))


def _overridden(step: StepDefinition, spec: WorkflowSpec) -> StepDefinition:
    overrides = spec.steps.get(step.name)
    if overrides is None:
        return step
    changes = {name: value for name in type(overrides).model_fields if (value := getattr(overrides, name)) is not None}
    if "backoff_factor" in changes:  # only one of the two applies, and a person's overrides the code's
        changes.setdefault("backoff_delays", None)
    return step.model_copy(update=changes)
