"""What the death of a worker means for each step that it had, and how those that may have caused it are retried.

    the Pod was taken away                        ─► Disruption: nobody's fault, with a generous bound of its own
    the step was not begun                        ─► NotStarted: reassigned, nothing is lost
    it only waited for children, others ran       ─► Bystander: not its fault, not counted
    it passed its trial, others that ran did not  ─► Cleared: not its fault, not counted
    otherwise                                     ─► Crash: counted, and a suspect from now on

A suspect gets a trial in isolation: on a worker where nothing else runs, which gets nothing else, until it has run for
longer than it had when its worker died. So the guilty one takes no other with it, and the others lose one attempt.
Those that began last are tried first: they are the likelier cause, and are through sooner. If no worker is without
steps for some minutes, as many suspects are tried beside others as have passed their trial, so that a death that was no
step's fault delays long steps for minutes and not for hours. The suspicion is part of the step's
status, so the next operator continues the same trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

from hatchet_operator.resources.reasons import LossKind
from hatchet_operator.resources.run import StepStatus

TRIAL_WAITS = timedelta(seconds=10), timedelta(minutes=2)
"""How long a suspect waits for an empty worker, then for one where nothing runs that was lost before."""
_MARGIN = timedelta(seconds=2)
_LONGEST_TRIAL = timedelta(minutes=1)
_MOST_NOT_STARTED = 3
_LIKELIEST_FIRST = (LossKind.CRASH, LossKind.CLEARED, LossKind.BYSTANDER)


@dataclass(frozen=True, kw_only=True, slots=True)
class LostAttempt:
    """An attempt that a worker had when it died.

    Attributes:
        id: Which one.
        may_have_begun: Whether the worker may have executed any of it.
        is_waiting: Whether it was only waiting for its children.
        stood_its_trial: Whether it was a suspect, and passed its trial.
    """

    id: str
    may_have_begun: bool = True
    is_waiting: bool = False
    stood_its_trial: bool = False

    @property
    def unless_likelier(self) -> LossKind:
        """The kind of loss if there was a likelier cause; the less suspicious, the later in `_LIKELIEST_FIRST`."""
        if self.is_waiting:
            return LossKind.BYSTANDER
        return LossKind.CLEARED if self.stood_its_trial else LossKind.CRASH


def kinds_of_loss(lost: Sequence[LostAttempt], *, disrupted: bool) -> dict[str, LossKind]:
    """Return what the death of a worker means for each of its attempts.

    Args:
        lost: All attempts that it had.
        disrupted: Its Pod was taken away, by somebody or in favour of another.
    """
    there = {attempt.unless_likelier for attempt in lost if attempt.may_have_begun}
    likeliest = next((kind for kind in _LIKELIEST_FIRST if kind in there), None)

    def kind_of(attempt: LostAttempt) -> LossKind:
        if not attempt.may_have_begun:
            return LossKind.NOT_STARTED
        if disrupted:
            return LossKind.DISRUPTION
        return LossKind.CRASH if attempt.unless_likelier is likeliest else attempt.unless_likelier

    return {attempt.id: kind_of(attempt) for attempt in lost}


def counted_as(kind: LossKind, state: StepStatus) -> LossKind:
    """Count a step as a crash if it keeps killing its workers before they can say that it has begun."""
    in_a_row = takewhile(lambda lost: lost.kind is LossKind.NOT_STARTED, reversed(state.lost_workers))
    if kind is LossKind.NOT_STARTED and sum(1 for _ in in_a_row) >= _MOST_NOT_STARTED:
        return LossKind.CRASH
    return kind


def trial_of(state: StepStatus) -> timedelta | None:
    """Return how long the trial of a step is that may have killed its last worker; None: it is not a suspect."""
    told = (LossKind.CRASH, LossKind.CLEARED)  # the others say nothing about the step
    last = next((lost for lost in reversed(state.lost_workers) if lost.kind in told), None)
    if last is None or last.kind is not LossKind.CRASH or last.attempt != state.attempt:
        return None
    ran = max(last.at - last.started_at, timedelta()) if last.started_at else timedelta()
    return min(ran * 1.5 + _MARGIN, _LONGEST_TRIAL)
