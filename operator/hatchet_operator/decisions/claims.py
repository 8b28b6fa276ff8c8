"""Claims: the attempts that a worker says it has when it reconnects, which of them it keeps, and what is lost.

a worker claims an attempt ───────────────── CLAIM_RULES ─► stop: cancelled, its result would be discarded
                                                        ├─► keep: this operator assigned it to that worker
                                                        └─► adopt: assigned by an earlier leader, it continues
a status says that a worker has a step ───── LOSS_RULES ──► lost: that worker will never report it
                                                        └─► not lost: its worker has claimed it, or still may
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun

WorkerName = tuple[str, str]
"""Namespace and name of a worker, as statuses of runs refer to it."""


class ClaimState(StrEnum):
    """Whether a worker has claimed its attempts from before the start."""

    AWAITED = "awaited"  # it was registered before the start, and has not reconnected yet
    MADE = "made"  # it listed them, or it registered after the start and has none
    NEVER = "never"  # it reconnected, but its SDK (a published one) lists nothing


def claim_state_after(before: ClaimState, *, says: bool) -> ClaimState:
    """Return a worker's claim state after it opened a stream.

    Args:
        before: Its state until now.
        says: Whether it listed its attempts, or they are known from statuses.
    """
    return ClaimState.NEVER if before is ClaimState.AWAITED and not says else ClaimState.MADE


# --- Claims


class AssignedTo(StrEnum):
    """The worker to which this operator has assigned a claimed attempt."""

    NOBODY = "nobody"  # it is queued, or not wanted yet
    CLAIMANT = "claimant"
    ANOTHER = "another"


class ClaimVerdict(StrEnum):
    """The outcome of a claim."""

    STOP = "stop"
    KEEP = "keep"
    ADOPT = "adopt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An attempt that a worker claims to have, and what is known about it.

    Attributes:
        is_current: It is the current attempt of an unfinished step of a known run.
        assigned_to: The worker that has it, as far as this operator knows.
        is_for_other_run: The worker's Pod was created for another run.
        is_being_reassigned: It counts as lost, and a status that gives it a new id is being written.
        is_persisted: The run's status says that the claiming worker has it.
        is_of_its_pool: The run's attempts go to the worker's pool.
    """

    is_current: bool
    assigned_to: AssignedTo = AssignedTo.NOBODY
    is_for_other_run: bool = False
    is_being_reassigned: bool = False
    is_persisted: bool = False
    is_of_its_pool: bool = False


NO_CLAIM = Claim(is_current=False)
"""The claim of an attempt that is unknown, or over."""


ClaimRule = Callable[[Claim], ClaimVerdict | None]


def stop_what_is_over(claim: Claim) -> ClaimVerdict | None:
    return None if claim.is_current else ClaimVerdict.STOP


def keep_what_it_was_given(claim: Claim) -> ClaimVerdict | None:
    return ClaimVerdict.KEEP if claim.assigned_to is AssignedTo.CLAIMANT else None


def stop_what_another_has(claim: Claim) -> ClaimVerdict | None:
    return ClaimVerdict.STOP if claim.assigned_to is AssignedTo.ANOTHER else None


def stop_what_its_pod_is_not_for(claim: Claim) -> ClaimVerdict | None:
    return ClaimVerdict.STOP if claim.is_for_other_run else None


def stop_what_is_being_reassigned(claim: Claim) -> ClaimVerdict | None:
    return ClaimVerdict.STOP if claim.is_being_reassigned else None


def adopt_what_is_persisted(claim: Claim) -> ClaimVerdict | None:
    """Adopt what the status confirms, even if the workflow belongs to another pool by now."""
    return ClaimVerdict.ADOPT if claim.is_persisted else None


def adopt_what_is_of_its_pool(claim: Claim) -> ClaimVerdict | None:
    """Adopt what no status confirms: the last leader may have ended before it wrote one."""
    return ClaimVerdict.ADOPT if claim.is_of_its_pool else None


CLAIM_RULES: tuple[ClaimRule, ...] = (
    stop_what_is_over,
    keep_what_it_was_given,
    stop_what_another_has,
    stop_what_its_pod_is_not_for,
    stop_what_is_being_reassigned,
    adopt_what_is_persisted,
    adopt_what_is_of_its_pool,
)


def judge(claim: Claim, rules: tuple[ClaimRule, ...] = CLAIM_RULES) -> ClaimVerdict:
    """Decide about a claim by the first rule that has an opinion; without one the attempt is stopped."""
    return next((verdict for rule in rules if (verdict := rule(claim)) is not None), ClaimVerdict.STOP)


def is_sent_again(*, is_claimed: bool | None, was_sent: bool, has_begun: bool) -> bool:
    """Whether an assigned attempt is sent again on a worker's new stream: it may have been lost with the old one.

    Args:
        is_claimed: Whether the worker claims it; None: it lists nothing.
        was_sent: It was put on an earlier stream.
        has_begun: The worker reported that it started.
    """
    if not was_sent:
        return True
    return not has_begun if is_claimed is None else not is_claimed


def gives_way(report: Report | None, *, is_being_written: bool) -> bool:
    """Whether a worker's own report replaces the one that is kept: only an inferred one that is not being written."""
    return report is None or (report.is_assumed and not is_being_written)


# --- Losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """The end of an attempt that its worker will not report.

    Attributes:
        outcome: LOST, which counts as a loss, or UNKNOWN, which does not.
        why: Reason that the run's status shows; None: it shows none.
    """

    outcome: Outcome
    why: str | None = None


def loss_by_death(why: str, *, is_nobodys_fault: bool) -> Loss:
    """Return the loss of whatever a worker had that died before it claimed anything.

    Args:
        why: Why it died.
        is_nobodys_fault: Kubernetes, a person or this operator ended it, and none of its steps did.
    """
    return Loss(outcome=Outcome.UNKNOWN if is_nobodys_fault else Outcome.LOST, why=why)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What is known of the workers from before the start.

    Attributes:
        lost: Those that will never claim anything, each with the loss of what it had.
        mute: Those that are back, but whose SDK claims nothing.
        known: All that are registered, without those that were given up.
    """

    lost: Mapping[WorkerName, Loss]
    mute: Collection[WorkerName]
    known: Collection[WorkerName]


LossRule = Callable[[WorkerName, Answers], Loss | None]


def lose_with_its_worker(worker: WorkerName, answers: Answers) -> Loss | None:
    return answers.lost.get(worker)


def lose_what_a_mute_worker_may_have(worker: WorkerName, answers: Answers) -> Loss | None:
    """Reassign it under a new id: the old attempt may still run, but only the new one counts."""
    return Loss(outcome=Outcome.UNKNOWN) if worker in answers.mute else None


def lose_with_a_worker_that_was_gone(worker: WorkerName, answers: Answers) -> Loss | None:
    if worker in answers.known:
        return None
    return Loss(outcome=Outcome.UNKNOWN, why=f'worker "{worker[1]}" was gone when this operator started')


LOSS_RULES: tuple[LossRule, ...] = (
    lose_with_its_worker,
    lose_what_a_mute_worker_may_have,
    lose_with_a_worker_that_was_gone,
)


def loss_with(worker: WorkerName, answers: Answers, rules: tuple[LossRule, ...] = LOSS_RULES) -> Loss | None:
    """Return how a step ended that, according to its status, a worker has; None: it is not lost."""
    return next((loss for rule in rules if (loss := rule(worker, answers)) is not None), None)


def losses_of(run: WorkflowRun, answers: Answers, unpersisted: Mapping[str, Loss]) -> dict[str, Loss]:
    """Return, by step, the losses of a run from before the start: of steps that no worker will report.

    Args:
        run: As it was persisted.
        answers: What is known of the workers.
        unpersisted: Losses of attempts that only the last leader's handover mentions, by step.
    """
    losses = dict(unpersisted)
    for step, worker in persisted_assignments(run).items():
        if (loss := loss_with((run.ref.namespace, worker), answers)) is not None:
            losses[step] = loss
    return losses


def persisted_assignments(run: WorkflowRun) -> dict[str, str]:
    """Return the worker of each step that is assigned, according to the status."""
    return {
        step: state.worker
        for step, state in run.status.steps.items()
        if state.phase is Phase.RUNNING and state.worker is not None
    }
