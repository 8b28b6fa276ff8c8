"""The step graph that a run executes: a registered definition, checked, with a person's overrides over it."""

from dataclasses import dataclass
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter

from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.reasons import Execution, ScheduleTimeoutCounts
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition, WorkflowSpec

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
        pool: Whose workers registered it.
        schedule_timeout: How long a step may wait for a worker.
        counts: Which waiting the schedule timeout means.
        priority: Of runs that set none.
        execution: Where the steps run.
        pod_overrides: What pods made for runs have other than the pool's template.
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

    def step(self, name: str) -> StepDefinition | None:
        candidates = (*self.steps, self.on_failure) if self.on_failure else self.steps
        return next((step for step in candidates if step.name == name), None)


def check_definition(definition: WorkflowDefinition) -> None:
    """Refuse a definition whose steps do not form a graph.

    Raises:
        InvalidDefinitionError: No steps, two of one name, an unknown parent or a cycle.
    """
    where = f'workflow "{definition.name}"'
    names = [step.name for step in definition.steps]
    if not names:
        raise InvalidDefinitionError(f"{where} has no steps; expected at least one")
    if definition.on_failure:
        names.append(definition.on_failure.name)
    for name in names:
        if names.count(name) > 1:
            raise InvalidDefinitionError(f'{where} has two steps named "{name}"; expected each name once')
    known = {step.name for step in definition.steps}
    for step in definition.steps:
        for parent in step.parents:
            if parent not in known:
                raise InvalidDefinitionError(
                    f'{where}: step "{step.name}" names parent "{parent}", which is not defined '
                    f"(defined: {', '.join(sorted(known))})"
                )
    _ordered(definition)


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
    """Return the steps that a person overrides and nobody registered."""
    known = {step.name for step in definition.steps}
    if definition.on_failure:
        known.add(definition.on_failure.name)
    return sorted(set(spec.steps) - known)


def effective_graph(
    workflow: str, spec: WorkflowSpec, definition: WorkflowDefinition, *, revision: str, pool: str | None
) -> Graph:
    """Lay a person's spec over what a worker registered.

    Raises:
        InvalidDefinitionError: The definition is no graph.
    """
    check_definition(definition)
    return Graph(
        workflow=workflow,
        revision=revision,
        steps=tuple(_overridden(step, spec) for step in _ordered(definition)),
        on_failure=_overridden(definition.on_failure, spec) if definition.on_failure else None,
        pool=pool,
        schedule_timeout=spec.schedule_timeout if spec.schedule_timeout is not None else definition.schedule_timeout,
        counts=spec.schedule_timeout_counts,
        priority=spec.priority or definition.default_priority or DEFAULT_PRIORITY,
        execution=spec.execution,
        pod_overrides=spec.pod_overrides,
    )


def _overridden(step: StepDefinition, spec: WorkflowSpec) -> StepDefinition:
    overrides = spec.steps.get(step.name)
    if overrides is None:
        return step
    changes = {name: value for name in type(overrides).model_fields if (value := getattr(overrides, name)) is not None}
    return step.model_copy(update=changes)
