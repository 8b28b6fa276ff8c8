"""What the status of a run says while it waits, and when it says something new."""

from datetime import datetime

from hatchet_operator.decisions.observed import ObservedRun
from hatchet_operator.decisions.step_rules import StepsPlan
from hatchet_operator.decisions.suspension import MESSAGE as SUSPENDED_MESSAGE
from hatchet_operator.resources.reasons import Reason

_LONGEST_MESSAGE = 2000
_TROUBLE = "no worker is there to take it: "
_GIVES_UP = "; it gives up at"
_STARTING = "workers are on their way: "


def why_it_waits(
    seen: ObservedRun, steps: StepsPlan, now: datetime
) -> tuple[Reason | None, str | None, datetime | None]:
    """Return reason, message, and when to write new words: the kubelet's change with each of its tries."""
    if steps.paused:
        return Reason.PAUSED, steps.paused[:_LONGEST_MESSAGE], None
    if seen.run.spec.suspended:
        return Reason.SUSPENDED, SUSPENDED_MESSAGE, None
    if steps.suspended:
        workflow = seen.run.spec.workflow
        return (
            Reason.WORKFLOW_SUSPENDED,
            f'workflow "{workflow}" is suspended: no step starts until its spec.suspended is false',
            None,
        )
    if steps.awaits is not None:
        return Reason.WAITING_FOR_WORKER, steps.awaits[:_LONGEST_MESSAGE], None
    old = seen.run.status
    if steps.trouble is None and steps.starting is None:
        if steps.ending is not None:
            return Reason.POD_ENDING, steps.ending[:_LONGEST_MESSAGE], None
        if steps.limited is not None:
            return _why_limited(seen, steps, now)
        if steps.busy is None:
            return None, None, None
        # Told once: how many run and wait changes all the time, and a queue may be long. The pool has the numbers.
        return Reason.WAITING_FOR_SLOT, old.message if old.reason == Reason.WAITING_FOR_SLOT else steps.busy, None
    message = f"{_TROUBLE}{steps.trouble}" if steps.trouble else f"{_STARTING}{steps.starting}"
    message = message[:_LONGEST_MESSAGE]
    if steps.gives_up_at is not None:
        message += f"{_GIVES_UP} {steps.gives_up_at:%H:%M:%S} UTC (schedule timeout)"
    is_first = steps.trouble is not None and (old.message or "").startswith(_STARTING)
    if old.reason == Reason.WAITING_FOR_WORKER and old.message != message and not is_first:
        tell_at = seen.waiting_told_at + seen.policy.waiting_told_every if seen.waiting_told_at else now
        if now < tell_at:
            return Reason.WAITING_FOR_WORKER, old.message, tell_at
    return Reason.WAITING_FOR_WORKER, message, None


def _why_limited(seen: ObservedRun, steps: StepsPlan, now: datetime) -> tuple[Reason, str | None, datetime | None]:
    """Report it again once in a while: how much is used, and when units are replenished, changes with every window."""
    old, message = seen.run.status, (steps.limited or "")[:_LONGEST_MESSAGE]
    if steps.gives_up_at is not None:
        message += f"{_GIVES_UP} {steps.gives_up_at:%H:%M:%S} UTC (schedule timeout)"
    turned = (steps.gives_up_at is None) != (_GIVES_UP not in (old.message or ""))
    if old.reason == Reason.WAITING_FOR_RATE_LIMIT and old.message != message and not turned:
        tell_at = seen.waiting_told_at + seen.policy.waiting_told_every if seen.waiting_told_at else now
        if now < tell_at:
            return Reason.WAITING_FOR_RATE_LIMIT, old.message, tell_at
    return Reason.WAITING_FOR_RATE_LIMIT, message, None
