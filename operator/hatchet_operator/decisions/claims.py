"""What a worker may keep of the attempts that it claims when it connects; and what is considered lost without a claim.

a worker claims to have an attempt ───── CLAIM_RULES ─► stop: it has it in vain
                                                    ├─► keep: it is known to have it
                                                    └─► adopt: it continues with it
a step is persisted as with a worker ─── LOSS_RULES ──► lost: no worker will finish it
                                                    └─► not lost: its worker has answered
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun

WorkerName = tuple[str, str]
"""Namespace and name of a worker, as in the statuses of runs."""


class Word(StrEnum):
    """Whether a worker said which attempts it has from before the start."""

    AWAITED = "awaited"  # it was registered before, and has not come back yet
    SAID = "said"  # it said so, or it has nothing from before
    NEVER = "never"  # it came back, and is of a kind that does not say so


def word_of(before: Word, *, says: bool) -> Word:
    """Return a worker's word when it listens.

    Args:
        before: What it was until now.
        says: Whether it has now said what it has, or that is known anyway.
    """
    return Word.NEVER if before is Word.AWAITED and not says else Word.SAID


# --- Claims


class Holder(StrEnum):
    """Which worker has an attempt, as far as this operator knows."""

    NOBODY = "nobody"  # it is in the queue, or not wanted yet
    CLAIMANT = "claimant"
    ANOTHER = "another"


class Verdict(StrEnum):
    """The outcome of a claim."""

    STOP = "stop"
    KEEP = "keep"
    ADOPT = "adopt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An attempt that a worker claims to have, and what is known about it.

    Attributes:
        is_current: It is the current attempt of an unfinished step of a known run.
        holder: Which worker has it.
        is_for_other_run: The worker's Pod was made for another run.
        goes_out_anew: It was considered lost and will be reassigned, and that is being written.
        is_written_down: The run's status says that the worker has it.
        is_of_its_pool: Attempts of the run are for the worker's pool.
    """

    is_current: bool
    holder: Holder = Holder.NOBODY
    is_for_other_run: bool = False
    goes_out_anew: bool = False
    is_written_down: bool = False
    is_of_its_pool: bool = False


NO_CLAIM = Claim(is_current=False)
"""A claim to something that is unknown, or over."""


ClaimRule = Callable[[Claim], Verdict | None]


def stop_what_is_over(claim: Claim) -> Verdict | None:
    return None if claim.is_current else Verdict.STOP


def keep_what_it_was_given(claim: Claim) -> Verdict | None:
    return Verdict.KEEP if claim.holder is Holder.CLAIMANT else None


def stop_what_another_has(claim: Claim) -> Verdict | None:
    return Verdict.STOP if claim.holder is Holder.ANOTHER else None


def stop_what_its_pod_is_not_for(claim: Claim) -> Verdict | None:
    return Verdict.STOP if claim.is_for_other_run else None


def stop_what_goes_out_anew(claim: Claim) -> Verdict | None:
    return Verdict.STOP if claim.goes_out_anew else None


def adopt_what_is_written_down(claim: Claim) -> Verdict | None:
    """Adopt what the status says; its workflow may belong to another pool by now."""
    return Verdict.ADOPT if claim.is_written_down else None


def adopt_what_is_of_its_pool(claim: Claim) -> Verdict | None:
    """Adopt what is its pool's; what was assigned a moment before the last operator ended is not persisted."""
    return Verdict.ADOPT if claim.is_of_its_pool else None


CLAIM_RULES: tuple[ClaimRule, ...] = (
    stop_what_is_over,
    keep_what_it_was_given,
    stop_what_another_has,
    stop_what_its_pod_is_not_for,
    stop_what_goes_out_anew,
    adopt_what_is_written_down,
    adopt_what_is_of_its_pool,
)


def judge(claim: Claim, rules: tuple[ClaimRule, ...] = CLAIM_RULES) -> Verdict:
    """Decide about a claim: the first rule that has an opinion applies; what none allows is stopped."""
    return next((verdict for rule in rules if (verdict := rule(claim)) is not None), Verdict.STOP)


def is_sent_again(*, is_claimed: bool | None, was_sent: bool, has_begun: bool) -> bool:
    """Whether a listening worker is sent an attempt again: on a broken stream it may not have arrived.

    Args:
        is_claimed: Whether it claims to have it; None: it does not say what it has.
        was_sent: It was put on a stream.
        has_begun: The worker said that it started.
    """
    if not was_sent:
        return True
    return not has_begun if is_claimed is None else not is_claimed


def gives_way(report: Report | None, *, is_being_written: bool) -> bool:
    """Whether a worker's claim overrides a report: only one that was assumed, unless it is being written."""
    return report is None or (report.is_assumed and not is_being_written)


# --- Losses


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """How an attempt ended whose worker will not report it.

    Attributes:
        outcome: How.
        why: Shown to people; None: nothing is shown.
    """

    outcome: Outcome
    why: str | None = None


def loss_by_death(why: str, *, is_nobodys_fault: bool) -> Loss:
    """Return the loss of the attempts of a worker that died before it said which they are.

    Args:
        why: Why it died.
        is_nobodys_fault: Kubernetes, a person or this operator ended it.
    """
    return Loss(outcome=Outcome.UNKNOWN if is_nobodys_fault else Outcome.LOST, why=why)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What is known of the workers from before the start.

    Attributes:
        lost: Those that will never answer, each with the loss of what it had.
        mute: Those that are back, and do not say what they have.
        known: All that are known, except for those that were given up.
    """

    lost: Mapping[WorkerName, Loss]
    mute: Collection[WorkerName]
    known: Collection[WorkerName]


LossRule = Callable[[WorkerName, Answers], Loss | None]


def lose_with_its_worker(worker: WorkerName, answers: Answers) -> Loss | None:
    return answers.lost.get(worker)


def lose_what_a_mute_worker_may_have(worker: WorkerName, answers: Answers) -> Loss | None:
    """Reassign it under another id, so that both may run, and only the new one counts."""
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
    """Return how a step ended that is persisted as with a worker; None: it is not lost."""
    return next((loss for rule in rules if (loss := rule(worker, answers)) is not None), None)


def losses_of(run: WorkflowRun, answers: Answers, unwritten: Mapping[str, Loss]) -> dict[str, Loss]:
    """Return the losses of those steps of a run from before the start that no worker will finish.

    Args:
        run: As it was persisted.
        answers: What is known of the workers.
        unwritten: By step, losses of attempts that the run's status does not mention.
    """
    losses = dict(unwritten)
    for step, worker in written_with(run).items():
        if (loss := loss_with((run.ref.namespace, worker), answers)) is not None:
            losses[step] = loss
    return losses


def written_with(run: WorkflowRun) -> dict[str, str]:
    """Return which steps are assigned to which workers, according to the status."""
    return {
        step: state.worker
        for step, state in run.status.steps.items()
        if state.phase is Phase.RUNNING and state.worker is not None
    }
