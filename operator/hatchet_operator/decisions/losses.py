"""What the death of a worker means for each step that it had, and how those that may have caused it are tried again.

    the Pod was taken away                        ─► Disruption: nobody's fault, with a generous bound of its own
    the step was not begun                        ─► NotStarted: given to another, nothing is lost
    it only waited for children, others ran       ─► Bystander: not its fault, not counted
    it has stood its trial, others that ran not   ─► Cleared: likewise
    else                                          ─► Crash: counted, and a suspect from now on

A suspect is tried apart: on a worker where nothing else runs, with nothing given to it besides, until it has run for
longer than it had when its worker died. So the guilty one takes nobody with it, and the others lose one attempt.
Those that began last are tried first: they are the likelier cause, and sooner through. Where no worker is without
steps for some minutes, as many are tried at a time as have stood their trial beside them, so that a death that was no
step's fault holds back long steps for minutes and not for hours. What a suspect is stands in
its status, so the next operator goes on with the same trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile

from hatchet_operator.resources.reasons import LossKind
from hatchet_operator.resources.run import StepStatus

PATIENCE = timedelta(seconds=10), timedelta(minutes=2)
"""How long a suspect waits for a worker where nothing runs, then for one where nothing runs that was lost before."""
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
        is_waiting: Whether all that it did was to wait for its children.
        stood_its_trial: Whether it was a suspect, and was tried for long enough.
    """

    id: str
    may_have_begun: bool = True
    is_waiting: bool = False
    stood_its_trial: bool = False

    @property
    def unless_likelier(self) -> LossKind:
        """What it is if there was a likelier cause; the more innocent, the further back in `_LIKELIEST_FIRST`."""
        if self.is_waiting:
            return LossKind.BYSTANDER
        return LossKind.CLEARED if self.stood_its_trial else LossKind.CRASH


def kinds_of_loss(lost: Sequence[LostAttempt], *, disrupted: bool) -> dict[str, LossKind]:
    """Say what the death of their worker means for each of its attempts.

    Args:
        lost: All that it had.
        disrupted: Its Pod was taken away, by somebody or for somebody else's sake.
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
    """Take a step that ends its workers before they can say that it has begun for what it is."""
    in_a_row = takewhile(lambda lost: lost.kind is LossKind.NOT_STARTED, reversed(state.lost_workers))
    if kind is LossKind.NOT_STARTED and sum(1 for _ in in_a_row) >= _MOST_NOT_STARTED:
        return LossKind.CRASH
    return kind


def trial_of(state: StepStatus) -> timedelta | None:
    """Say how long a step that may have ended its last worker is tried apart; None: it is no suspect."""
    told = (LossKind.CRASH, LossKind.CLEARED)  # the others say nothing of the step
    last = next((lost for lost in reversed(state.lost_workers) if lost.kind in told), None)
    if last is None or last.kind is not LossKind.CRASH or last.attempt != state.attempt:
        return None
    ran = max(last.at - last.started_at, timedelta()) if last.started_at else timedelta()
    return min(ran * 1.5 + _MARGIN, _LONGEST_TRIAL)
