"""Conditions: what a status says about an object in the form that kubectl, Helm, Flux and Argo CD read.

Those judge any object by the rules of kstatus (sigs.k8s.io/cli-utils/pkg/kstatus):

    Ready True                  Current: it is as requested
    Ready False or Unknown      InProgress: it will be, wait
    Stalled True                Failed: it will not be by itself
    Reconciling True            InProgress, whatever Ready says

A status that describes an older generation is InProgress, so each condition says which one it was decided for. An
object that nobody has looked at yet has Ready Unknown by its CRD's default, which costs no write.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.reasons import ConditionType, Reason


@dataclass(frozen=True, slots=True)
class Aspect:
    """What a condition should say."""

    kind: ConditionType
    is_true: bool
    reason: Reason | str
    message: str = ""


def with_readiness(
    aspects: tuple[Aspect, ...], *, stalled: Aspect | None, reconciling: Aspect | None = None
) -> tuple[Aspect, ...]:
    """Put Ready before the aspects that make it up: true if all of them are, otherwise it says what the first says.

    Args:
        aspects: What has to be true, the most informative first.
        stalled: Which of them will not become true by itself; None: all will.
        reconciling: Which of them is on its way to a changed spec.
    """
    first = next((aspect for aspect in aspects if not aspect.is_true), None)
    told = first or aspects[0]
    ready = Aspect(ConditionType.READY, first is None, told.reason, told.message)
    kinds = ((ConditionType.STALLED, stalled), (ConditionType.RECONCILING, reconciling))
    return (ready, *aspects, *(Aspect(kind, True, of.reason, of.message) for kind, of in kinds if of is not None))


def make_conditions(
    aspects: Iterable[Aspect], *, before: Iterable[Condition], generation: int | None, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions for these aspects; one whose status is unchanged keeps the time of its transition.

    Args:
        aspects: What they say, in the order in which people read them.
        before: Those that the object has.
        generation: The generation of the object that was decided about; 0 or None: it has none.
        now: The transition time of conditions whose status has changed.
    """
    old = {condition.type: condition for condition in before}
    conditions = []
    for aspect in aspects:
        status, known = ("True" if aspect.is_true else "False"), old.get(aspect.kind)
        stays = known is not None and known.status == status
        conditions.append(
            Condition(
                type=aspect.kind,
                status=status,
                reason=aspect.reason,
                message=aspect.message,
                last_transition_time=known.last_transition_time if stays and known else now,
                observed_generation=generation or None,
            )
        )
    return tuple(conditions)
