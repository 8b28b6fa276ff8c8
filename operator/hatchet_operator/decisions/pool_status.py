"""What the status of a WorkerPool says, in words and conditions."""

from dataclasses import dataclass
from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions, with_readiness
from hatchet_operator.decisions.scaling import PoolPlan
from hatchet_operator.decisions.waiting import PoolLoad
from hatchet_operator.resources import labels
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.workerpool import PoolStatus, WorkerPool


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why no pod is created for a pool.

    Attributes:
        message: Says so, mostly in the API server's words.
        is_of_spec: The pool's template makes no valid pod; otherwise something else is in the way, such as a quota.
        generation: The pool's; if its spec changes, it is tried again at once.
        until: The event loop's time before which it is not tried again.
        lacking: A CRD is missing, without which the pool's workers have nothing to do.
    """

    message: str
    is_of_spec: bool
    generation: int
    until: float
    lacking: bool = False

    @property
    def reason(self) -> Reason:
        if self.lacking:
            return Reason.DEFINITION_MISSING
        return Reason.INVALID_SPEC if self.is_of_spec else Reason.FAILED_CREATE


def pool_status(pool: WorkerPool, plan: PoolPlan, refusal: Refusal | None, load: PoolLoad, now: datetime) -> PoolStatus:
    """Return a pool's status, from its plan and what the API server refused."""
    if refusal is None:
        available = Aspect(ConditionType.AVAILABLE, plan.available, plan.reason, plan.message)
    elif plan.available and not refusal.lacking:  # old pods keep working while no new one can be created
        message = f"{plan.message}, but {refusal.message}"
        available = Aspect(ConditionType.AVAILABLE, True, plan.reason, message)
    else:
        available = Aspect(ConditionType.AVAILABLE, False, refusal.reason, refusal.message)
    rolled_out = Aspect(ConditionType.ROLLED_OUT, plan.rollout is Reason.ROLLED_OUT, plan.rollout, plan.rollout_message)
    if refusal is not None and plan.rollout is not Reason.ROLLED_OUT:
        rolled_out = Aspect(ConditionType.ROLLED_OUT, False, refusal.reason, refusal.message)
    if refusal is not None and refusal.is_of_spec:
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_SPEC, refusal.message)
    else:
        valid = Aspect(ConditionType.VALID, True, Reason.VALID)
    aspects = with_readiness(
        (available, rolled_out, valid),
        stalled=None if valid.is_true else valid,
        reconciling=rolled_out if valid.is_true and rolled_out.reason == Reason.ROLLING_OUT else None,
    )
    if (capped := _capped(pool)) is not None:
        aspects = (*aspects, capped)
    return PoolStatus(
        replicas=plan.replicas,
        desired_replicas=plan.desired,
        ready_replicas=plan.ready,
        queued=load.queued,
        running=load.running,
        slots=load.slots,
        oldest_queued_at=load.oldest,
        selector=f"{labels.POOL}={pool.metadata.name}",
        conditions=make_conditions(
            aspects, before=pool.status.conditions, generation=pool.metadata.generation, now=now
        ),
        observed_generation=pool.metadata.generation or None,
    )


def _capped(pool: WorkerPool) -> Aspect | None:
    """Say that fewer pods are kept than requested, for example by an HPA that does not know the maximum."""
    asked, most = pool.spec.min_replicas, pool.spec.largest
    if asked <= most:
        return None
    message = f"minReplicas, which kubectl scale and an HPA set, asks for {asked} pods; maxReplicas allows {most}"
    return Aspect(ConditionType.SCALING_LIMITED, True, Reason.TOO_MANY_REPLICAS, message)
