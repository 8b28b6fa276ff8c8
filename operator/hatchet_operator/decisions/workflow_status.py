"""What the status of a Workflow says, in words and conditions."""

from dataclasses import dataclass
from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions, with_readiness
from hatchet_operator.decisions.crons import cron_problem
from hatchet_operator.decisions.expressions import CONCURRENCY, EVENT_FILTER, IDEMPOTENCY, expression_problem
from hatchet_operator.decisions.graph import InvalidDefinitionError, check_definition, unknown_overrides
from hatchet_operator.decisions.step_limits import limits_problem
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """Which workers could take a workflow's steps now.

    Attributes:
        workers: How many connected workers offer it; if that differs by step, the fewest.
        connected: How many connected workers its pool has, whatever they offer.
    """

    workers: int
    connected: int


def with_conditions(
    workflow: Workflow,
    status: WorkflowStatus,
    now: datetime,
    *,
    conflict: str | None = None,
    offer: Offer | None = None,
) -> WorkflowStatus:
    """Return a status with the conditions that follow from it; see `workflow_conditions`."""
    conditions = workflow_conditions(
        workflow.model_copy(update={"status": status}), now, conflict=conflict, offer=offer
    )
    told = {} if offer is None else {"workers": offer.workers}
    return status.model_copy(
        update={"conditions": conditions, "observed_generation": workflow.metadata.generation or None, **told}
    )


def workflow_conditions(
    workflow: Workflow, now: datetime, *, conflict: str | None = None, offer: Offer | None = None
) -> tuple[Condition, ...]:
    """Return the conditions as they should be.

    Args:
        workflow: The workflow.
        now: The transition time of those that change.
        conflict: Why workers of the pool that a person chose can't be given its steps.
        offer: Which workers could take its steps; None: not known yet, or each run has a pod of its own.
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
    elif workflow.spec.on_failure is not None and status.definition is not None and not status.definition.on_failure:
        message = "spec.onFailure says when the on-failure step runs, but the workflow registered none"
        valid = Aspect(ConditionType.VALID, False, Reason.UNKNOWN_STEP, message)
    elif (problem := _expression_problem(workflow) or _limits_problem(workflow) or _cron_problem(workflow)) is not None:
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_SPEC, problem)
    elif conflict is not None:
        message = f'spec.pool is "{workflow.spec.pool}", where {conflict}'
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_SPEC, message)
    offered = _offered(workflow, offer)
    # Without any worker all is well: a run causes one to start. If all lack its code, none would ever take a run.
    needed = (offered,) if offered is not None and offered.reason == Reason.NOT_OFFERED else ()
    aspects = with_readiness((registered, valid, *needed), stalled=None if valid.is_true else valid)
    if offered is not None and not needed:
        aspects = (*aspects, offered)
    return make_conditions(aspects, before=status.conditions, generation=workflow.metadata.generation, now=now)


def _offered(workflow: Workflow, offer: Offer | None) -> Aspect | None:
    if offer is None:
        before = next((one for one in workflow.status.conditions if one.type == ConditionType.OFFERED), None)
        if before is None:
            return None
        return Aspect(ConditionType.OFFERED, before.status == "True", before.reason, before.message)
    pool = workflow.spec.pool or workflow.status.pool
    if offer.workers:
        return Aspect(ConditionType.OFFERED, True, Reason.OFFERED, f'by connected workers of pool "{pool}"')
    if not offer.connected:
        message = f'no worker of pool "{pool}" is connected; a run brings one, if the pool may have pods'
        return Aspect(ConditionType.OFFERED, False, Reason.NO_WORKER, message)
    message = (
        f'workers of pool "{pool}" are connected, but none that offers it: was it renamed, or taken out of their '
        "code? Delete this Workflow if it is not needed any more"
    )
    return Aspect(ConditionType.OFFERED, False, Reason.NOT_OFFERED, message)


def _expression_problem(workflow: Workflow) -> str | None:
    """Say what is wrong with the first invalid expression of a person, or None."""
    limits = (("spec.concurrency", limit.expression, CONCURRENCY) for limit in workflow.spec.concurrency or ())
    filters = (
        (f"spec.events[{number}].filter", trigger.filter, EVENT_FILTER)
        for number, trigger in enumerate(workflow.spec.events)
        if trigger.filter is not None
    )
    same = workflow.spec.idempotency
    keys = (("spec.idempotency", same.expression, IDEMPOTENCY),) if same is not None else ()
    for where, text, purpose in (*limits, *filters, *keys):
        if (problem := expression_problem(text, purpose)) is not None:
            return f"{where}: {problem}"
    return None


def _cron_problem(workflow: Workflow) -> str | None:
    for number, cron in enumerate(workflow.spec.crons):
        if (problem := cron_problem(cron)) is not None:
            return f"spec.crons[{number}]: {problem}"
    return None


def _limits_problem(workflow: Workflow) -> str | None:
    for step, overrides in workflow.spec.steps.items():
        if (problem := limits_problem(overrides.rate_limits or ())) is not None:
            return f"spec.steps.{step}.rateLimits: {problem}"
    return None


def _problem(definition: WorkflowDefinition) -> str | None:
    try:
        check_definition(definition)
    except InvalidDefinitionError as error:
        return str(error)
    return None
