"""What the status of a Workflow says, in words and conditions."""

from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions, with_readiness
from hatchet_operator.decisions.graph import InvalidDefinitionError, check_definition, unknown_overrides
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowStatus


def with_conditions(
    workflow: Workflow, status: WorkflowStatus, now: datetime, *, conflict: str | None = None
) -> WorkflowStatus:
    conditions = workflow_conditions(workflow.model_copy(update={"status": status}), now, conflict=conflict)
    return status.model_copy(
        update={"conditions": conditions, "observed_generation": workflow.metadata.generation or None}
    )


def workflow_conditions(workflow: Workflow, now: datetime, *, conflict: str | None = None) -> tuple[Condition, ...]:
    """The conditions as they should be.

    Args:
        workflow: The workflow.
        now: For those that change.
        conflict: Why workers of the pool that a person chose can't be given its steps.
    """
    status = workflow.status
    if status.definition is None:
        message = "no worker has registered this workflow yet"
        registered = Aspect(ConditionType.REGISTERED, False, Reason.NOT_REGISTERED, message)
    else:
        message = f'registered by pool "{status.pool}"'
        registered = Aspect(ConditionType.REGISTERED, True, Reason.REGISTERED, message)
    valid = Aspect(ConditionType.VALID, True, Reason.VALID)
    if status.definition is not None and (problem := _problem(status.definition)) is not None:
        message = f"status.definition was changed by hand: {problem}; restart a worker that registers the workflow"
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_DEFINITION, message)
    elif status.definition is not None and (unknown := unknown_overrides(workflow.spec, status.definition)):
        known = ", ".join(step.name for step in status.definition.steps)
        message = f"spec.steps overrides {', '.join(unknown)}, which the workflow does not have (it has: {known})"
        valid = Aspect(ConditionType.VALID, False, Reason.UNKNOWN_STEP, message)
    elif conflict is not None:
        message = f'spec.pool is "{workflow.spec.pool}", where {conflict}'
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_SPEC, message)
    aspects = with_readiness((registered, valid), stalled=None if valid.holds else valid)
    return make_conditions(aspects, before=status.conditions, generation=workflow.metadata.generation, now=now)


def _problem(definition: WorkflowDefinition) -> str | None:
    try:
        check_definition(definition)
    except InvalidDefinitionError as error:
        return str(error)
    return None
