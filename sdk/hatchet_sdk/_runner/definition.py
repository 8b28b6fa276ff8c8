"""What a decorated class declares, as values, and the marks that it bears until `declaration` reads it."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatchet_sdk._client.rate_limits import RateLimit
from hatchet_sdk._client.typed import DEFINITION
from hatchet_sdk._runner.concurrency import ConcurrencyExpression, GroupMethod
from hatchet_sdk._runner.sticky import StickyStrategy
from hatchet_sdk._runner.worker_labels import DesiredWorkerLabel
from hatchet_sdk.errors import InvalidDefinition

StepFunction = Callable[..., Any]
OPTIONS = "_hatchet_step"


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What the decorator of a step says."""

    name: str
    timeout: str
    parents: Sequence[str] = ()
    retries: int
    backoff_factor: float | None
    backoff_max_seconds: int | None
    backoff_delays: Sequence[str] | None = None
    backoff_jitter: float | None = None
    max_reassignments: int | None = None
    desired_worker_labels: Mapping[str, DesiredWorkerLabel] = field(default_factory=dict)
    rate_limits: Sequence[RateLimit] = ()
    on_failure: bool = False
    run_on: str = "failure"
    group: GroupMethod | None = None  # it names the concurrency group, before all steps


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
    sticky: StickyStrategy | None = None
    concurrency: tuple[ConcurrencyExpression, ...] = ()
    group_key: Step | None = None
    on_events: tuple[str, ...] = ()
    on_crons: tuple[str, ...] = ()
    cron_input: str | None = None
    input_validator: type[Any] | None = None
    record: str | None = None

    @property
    def all_steps(self) -> tuple[Step, ...]:
        others = (self.on_failure, self.group_key)
        return (*self.steps, *(step for step in others if step is not None))


def action_id(workflow: str, step: Step) -> str:
    """Return a step's action id, as Hatchet's clients build it; it matches attempts to workers."""
    return f"{workflow.lower()}:{step.name}"


def check_distinct(workflows: Iterable[tuple[str, WorkflowDefinition]]) -> None:
    """Refuse workflows or steps that can't be told apart: attempts would go to the wrong code.

    Args:
        workflows: Each with the name it is registered under.

    Raises:
        InvalidDefinition: Two are the same on the wire; the message names both.
    """
    names: dict[str, str] = {}
    actions: dict[str, str] = {}
    for registered, definition in workflows:
        if (other := names.get(registered.lower())) is not None:
            if other == definition.name:
                raise InvalidDefinition(f'workflow "{other}" is registered twice (do so once, or rename one of two)')
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
    """Remember the decorator's options; they are read when the class is complete."""
    if not callable(function) or isinstance(function, staticmethod):
        raise InvalidDefinition(f"@hatchet.step() is on a {type(function).__name__} (expected a method: self, context)")
    try:
        setattr(function, OPTIONS, options)
    except AttributeError:
        raise InvalidDefinition(
            f"@hatchet.step() is on a {type(function).__name__}, which takes no attributes (expected a method, or a "
            "plain function around it)"
        ) from None


def mark_workflow(cls: type, definition: WorkflowDefinition) -> None:
    setattr(cls, DEFINITION, definition)


def definition_of(workflow: object) -> WorkflowDefinition:
    """Find the definition of a workflow object.

    Raises:
        TypeError: It is not an instance of a class decorated with ``@hatchet.workflow()``.
    """
    if isinstance(workflow, type):
        raise TypeError(f"register_workflow({workflow.__name__}) got the class (expected an instance: add parentheses)")
    found = vars(type(workflow)).get(DEFINITION)
    if not isinstance(found, WorkflowDefinition):
        raise TypeError(
            f"{type(workflow).__name__} is not a workflow: its class is not decorated with @hatchet.workflow() "
            "(expected an instance of one that is)"
        )
    return found
