"""Whether a worker could mistake one step for another.

A worker knows a step only by its action id, which clients build from names: ``<workflow>:<step>``, in lower case. So
workflow "a:b" with step "c" and workflow "a" with step "b:c" share an id, and what can't be told apart is refused at
registration. An id that is not built from names was chosen by its author, who may well use one function for two steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hatchet_operator.resources.names import action_id
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition


@dataclass(frozen=True, slots=True)
class OfferedStep:
    """A step as a worker offers it.

    Attributes:
        workflow: Object name of its Workflow.
        exact: Name of the workflow as code spells it.
        step: Name of the step.
        action: Its action id.
    """

    workflow: str
    exact: str
    step: str
    action: str

    def __str__(self) -> str:
        return f'step "{self.step}" of workflow "{self.exact}"'

    @property
    def is_named_so(self) -> bool:
        return self.action == action_id(self.exact, self.step)


def offered_steps(workflow: str, definition: WorkflowDefinition) -> list[OfferedStep]:
    """Return the steps of a definition, including the on-failure step and the one that names its group."""
    steps: tuple[StepDefinition, ...] = definition.steps
    if definition.on_failure is not None:
        steps = (*steps, definition.on_failure)
    if definition.group_key is not None:
        steps = (*steps, definition.group_key)
    return [OfferedStep(workflow, definition.name, step.name, step.action) for step in steps]


def action_conflict(
    mine: Iterable[OfferedStep], others: Iterable[OfferedStep]
) -> tuple[OfferedStep, OfferedStep] | None:
    """Return two steps that a worker could not tell apart: one of ``mine``, and another of these or of ``others``."""
    known: dict[str, OfferedStep] = {}
    for step in others:
        if step.is_named_so or step.action not in known:
            known[step.action] = step
    for step in mine:
        other = known.setdefault(step.action, step)
        if (other.workflow, other.step) != (step.workflow, step.step) and (step.is_named_so or other.is_named_so):
            return step, other
        if step.is_named_so:
            known[step.action] = step
    return None


def conflict_message(one: OfferedStep, other: OfferedStep) -> str:
    """Say which two can't be told apart, and how to resolve that."""
    way_out = "rename one of them"
    if one.workflow != other.workflow:
        way_out += f' (if no code has workflow "{other.exact}" any more: kubectl delete wf {other.workflow})'
    return (
        f'{one} and {other} are both the action "{one.action}", since workflow and step are joined by ":" and compared '
        f"in lower case; a worker could not tell them apart: {way_out}"
    )
