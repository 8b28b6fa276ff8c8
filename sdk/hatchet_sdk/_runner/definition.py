"""What a decorated class says, read once and checked: after this a workflow makes sense or was refused."""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from hatchet_sdk._client.durations import duration_problem
from hatchet_sdk.errors import InvalidDefinition

StepFunction = Callable[..., Any]

_OPTIONS, _DEFINITION = "_hatchet_step", "_hatchet_workflow"
_LONGEST_NAME = 253  # of an object in Kubernetes
_LARGEST = 2**31 - 1  # what the protocol carries


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What the decorator of a step says."""

    name: str
    timeout: str
    parents: tuple[str, ...] = ()
    retries: int
    backoff_factor: float | None
    backoff_max_seconds: int | None
    max_reassignments: int | None = None
    on_failure: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a workflow; its name is lower-case, as on the wire."""

    name: str
    function: StepFunction
    parents: tuple[str, ...]
    options: StepOptions

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)


@dataclass(frozen=True, kw_only=True)
class WorkflowDefinition:
    """A workflow as its class declares it; names are without namespace."""

    name: str
    version: str
    schedule_timeout: str
    default_priority: int | None
    steps: tuple[Step, ...]
    on_failure: Step | None

    @property
    def all_steps(self) -> tuple[Step, ...]:
        return (*self.steps, self.on_failure) if self.on_failure else self.steps


def action_id(workflow: str, step: Step) -> str:
    """Name what a worker can do, as Hatchet's clients do; workers and attempts meet by it."""
    return f"{workflow.lower()}:{step.name}"


def check_distinct(workflows: Iterable[tuple[str, WorkflowDefinition]]) -> None:
    """Refuse workflows that can't be told apart, or steps of them: attempts would go to the wrong code.

    Args:
        workflows: Each with the name it is registered under.

    Raises:
        InvalidDefinition: Two are one on the wire; the message names both.
    """
    names: dict[str, str] = {}
    actions: dict[str, str] = {}
    for registered, definition in workflows:
        if (other := names.get(registered.lower())) is not None:
            raise InvalidDefinition(
                f'workflows "{other}" and "{definition.name}" are both registered as "{registered}" '
                "(names are compared in lower case, and get the namespace before them once); rename one of them"
            )
        names[registered.lower()] = definition.name
        for step in definition.all_steps:
            shown = f'step "{step.name}" of workflow "{definition.name}"'
            if (other := actions.setdefault(action_id(registered, step), shown)) != shown:
                raise InvalidDefinition(
                    f'{other} and {shown} are both "{action_id(registered, step)}" to a worker, as workflow and step '
                    'are joined by ":" and compared in lower case; rename one of them'
                )


def mark_step(function: StepFunction, options: StepOptions) -> None:
    """Remember what the decorator said; it is read when the class is complete."""
    try:
        setattr(function, _OPTIONS, options)
    except AttributeError:
        raise InvalidDefinition(
            f"@hatchet.step() is on a {type(function).__name__}, which takes no attributes (expected a method, or a "
            "plain function around it)"
        ) from None


def mark_workflow(cls: type, definition: WorkflowDefinition) -> None:
    setattr(cls, _DEFINITION, definition)


def definition_of(workflow: object) -> WorkflowDefinition:
    """Find the definition of a workflow object.

    Raises:
        TypeError: It is no instance of a class decorated with ``@hatchet.workflow()``.
    """
    if isinstance(workflow, type):
        raise TypeError(f"register_workflow({workflow.__name__}) got the class (expected an instance: add parentheses)")
    found = vars(type(workflow)).get(_DEFINITION)
    if not isinstance(found, WorkflowDefinition):
        raise TypeError(
            f"{type(workflow).__name__} is no workflow: its class is not decorated with @hatchet.workflow()"
        )
    return found


def define_workflow(
    cls: type, *, name: str, version: str, timeout: str, schedule_timeout: str, default_priority: int | None
) -> WorkflowDefinition:
    """Read a class whose steps are marked.

    Raises:
        InvalidDefinition: What it says is impossible; the message names workflow and step.
    """
    name = name or cls.__name__
    where = f'workflow "{name}"'
    _check_text(name, where)
    _check_duration(timeout, f"{where}: timeout")
    _check_duration(schedule_timeout, f"{where}: schedule_timeout")
    if default_priority is not None:
        _check_whole(default_priority, f"{where}: default_priority", expected="1 to 3")
    found = [
        _read_step(attribute, function, options, where)
        for attribute, (function, options) in _marked_functions(cls).items()
    ]
    steps = tuple(step for step in found if not step.options.on_failure)
    on_failure = [step for step in found if step.options.on_failure]
    if not steps:
        raise InvalidDefinition(f"{where} has no steps (expected at least one method decorated with @hatchet.step())")
    if len(on_failure) > 1:
        raise InvalidDefinition(f"{where} has {len(on_failure)} on-failure steps (expected at most one)")
    _check_names(found, where)
    _check_graph(steps, where)
    return WorkflowDefinition(
        name=name,
        version=version,
        schedule_timeout=schedule_timeout,
        default_priority=None if default_priority is None else min(max(default_priority, 1), 3),
        steps=steps,
        on_failure=on_failure[0] if on_failure else None,
    )


def _marked_functions(cls: type) -> dict[str, tuple[StepFunction, StepOptions]]:
    """Return the steps of a class in the order of their definition, inherited ones first, overridden ones once."""
    found: dict[str, tuple[StepFunction, StepOptions]] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            if isinstance(getattr(getattr(value, "__func__", None), _OPTIONS, None), StepOptions):
                raise InvalidDefinition(
                    f"step {cls.__name__}.{attribute} is a {type(value).__name__} (expected a method: self, context)"
                )
            if isinstance(options := getattr(value, _OPTIONS, None), StepOptions):
                found[attribute] = (value, options)
            else:
                found.pop(attribute, None)
    return found


def _read_step(attribute: str, function: StepFunction, options: StepOptions, where: str) -> Step:
    name = options.name or getattr(function, "__name__", attribute)  # partials and callable objects have none
    where = f'{where}, step "{name}"'
    _check_text(name, where)
    _check_duration(options.timeout, f"{where}: timeout")
    _check_whole(options.retries, f"{where}: retries", expected="0 or more")
    if options.retries < 0:
        raise InvalidDefinition(f"{where}: retries is {options.retries} (expected 0 or more)")
    if options.max_reassignments is not None:
        _check_whole(options.max_reassignments, f"{where}: max_reassignments", expected="0 or more")
        if options.max_reassignments < 0:
            raise InvalidDefinition(f"{where}: max_reassignments is {options.max_reassignments} (expected 0 or more)")
    if (factor := options.backoff_factor) is not None and not (
        isinstance(factor, int | float) and not isinstance(factor, bool) and math.isfinite(factor) and factor >= 1
    ):
        raise InvalidDefinition(f"{where}: backoff_factor is {factor!r} (expected a number, 1 or more)")
    if (longest := options.backoff_max_seconds) is not None:
        _check_whole(longest, f"{where}: backoff_max_seconds", expected="1 or more")
        if longest < 1:
            raise InvalidDefinition(f"{where}: backoff_max_seconds is {longest} (expected more than 0)")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise InvalidDefinition(
            f"{where} takes {inspect.signature(function)} (expected self and one argument, the context)"
        ) from None
    for parent in options.parents:
        if not isinstance(parent, str):
            given = getattr(parent, "__name__", None)
            raise InvalidDefinition(
                f"{where}: parents has {parent!r} (expected names of steps" + (f', as "{given}")' if given else ")")
            )
    parents = tuple(parent.lower() for parent in options.parents)
    return Step(name=name.lower(), function=function, parents=parents, options=options)


def _check_text(name: str, where: str) -> None:
    if not name.strip():
        raise InvalidDefinition(f"{where}: the name is empty")
    if len(name) > _LONGEST_NAME:
        raise InvalidDefinition(
            f"{where[:80]}…: the name has {len(name)} characters (expected at most {_LONGEST_NAME})"
        )


def _check_whole(value: object, what: str, *, expected: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDefinition(f"{what} is {value!r} (expected a whole number, {expected})")
    if value > _LARGEST:
        raise InvalidDefinition(f"{what} is {value} (expected at most {_LARGEST})")


def _check_duration(text: str, what: str) -> None:
    if problem := duration_problem(text, what):
        raise InvalidDefinition(problem)


def _check_names(steps: list[Step], where: str) -> None:
    first: dict[str, Step] = {}
    for step in steps:
        if (other := first.setdefault(step.name, step)) is not step:
            raise InvalidDefinition(
                f'{where}: two steps are named "{step.name}": '
                f"{_shown(other.function)} and {_shown(step.function)} (names are compared in lower case)"
            )


def _shown(function: StepFunction) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _check_graph(steps: tuple[Step, ...], where: str) -> None:
    names = {step.name for step in steps}
    for step in steps:
        for parent in step.parents:
            if parent not in names:
                raise InvalidDefinition(
                    f'{where}, step "{step.name}" names parent "{parent}", which is not defined '
                    f"(defined: {', '.join(sorted(names))})"
                )
    try:
        TopologicalSorter({step.name: step.parents for step in steps}).prepare()
    except CycleError as error:
        raise InvalidDefinition(f"{where}: steps wait for each other: {' -> '.join(reversed(error.args[1]))}") from None
