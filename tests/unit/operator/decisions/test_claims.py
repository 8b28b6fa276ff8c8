"""What a worker may hold that says so, and what is lost without a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.claims import (
    CLAIM_RULES,
    LOSS_RULES,
    Answers,
    AssignedTo,
    Claim,
    ClaimRule,
    ClaimState,
    ClaimVerdict,
    Loss,
    LossRule,
    claim_state_after,
    gives_way,
    is_sent_again,
    judge,
    loss_by_death,
    loss_with,
    losses_of,
)
from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import NOW, make_run

# --- Claims

CLAIMS: dict[str, tuple[Claim, ClaimVerdict]] = {
    "what nobody knows is stopped": (Claim(is_current=False), ClaimVerdict.STOP),
    "so is what is over, whoever had it": (
        Claim(is_current=False, assigned_to=AssignedTo.CLAIMANT, is_persisted=True, is_of_its_pool=True),
        ClaimVerdict.STOP,
    ),
    "what it was given it keeps": (Claim(is_current=True, assigned_to=AssignedTo.CLAIMANT), ClaimVerdict.KEEP),
    "also when its pool has the workflow no more": (
        Claim(is_current=True, assigned_to=AssignedTo.CLAIMANT, is_for_other_run=True, is_being_reassigned=True),
        ClaimVerdict.KEEP,
    ),
    "what another has is that one's": (
        Claim(is_current=True, assigned_to=AssignedTo.ANOTHER, is_persisted=True, is_of_its_pool=True),
        ClaimVerdict.STOP,
    ),
    "a pod for one run has nothing of others": (
        Claim(is_current=True, is_for_other_run=True, is_persisted=True, is_of_its_pool=True),
        ClaimVerdict.STOP,
    ),
    "what goes out anew is not its own any more": (
        Claim(is_current=True, is_being_reassigned=True, is_persisted=True, is_of_its_pool=True),
        ClaimVerdict.STOP,
    ),
    "what is written down as with it is its own": (Claim(is_current=True, is_persisted=True), ClaimVerdict.ADOPT),
    "so is what its pool may have": (Claim(is_current=True, is_of_its_pool=True), ClaimVerdict.ADOPT),
    "what its pool may not have is stopped": (Claim(is_current=True), ClaimVerdict.STOP),
}


@pytest.mark.parametrize(("claim", "want"), CLAIMS.values(), ids=CLAIMS.keys())
def test_a_claim(claim: Claim, want: ClaimVerdict) -> None:
    assert judge(claim) is want


@pytest.mark.parametrize("rule", CLAIM_RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_another_verdict_would_come(rule: ClaimRule) -> None:
    others = tuple(other for other in CLAIM_RULES if other is not rule)
    assert any(judge(claim) is not judge(claim, others) for claim, _ in CLAIMS.values())


@given(
    st.builds(
        Claim,
        is_current=st.booleans(),
        assigned_to=st.sampled_from(AssignedTo),
        is_for_other_run=st.booleans(),
        is_being_reassigned=st.booleans(),
        is_persisted=st.booleans(),
        is_of_its_pool=st.booleans(),
    )
)
def test_whatever_else_is_known_no_attempt_is_with_two_workers_and_none_that_is_over_goes_on(claim: Claim) -> None:
    verdict = judge(claim)
    if claim.assigned_to is AssignedTo.ANOTHER or not claim.is_current:
        assert verdict is ClaimVerdict.STOP
    assert (verdict is ClaimVerdict.KEEP) == (claim.is_current and claim.assigned_to is AssignedTo.CLAIMANT)


@pytest.mark.parametrize(
    ("before", "says", "want"),
    [
        pytest.param(ClaimState.AWAITED, True, ClaimState.MADE, id="who was waited for says what it has"),
        pytest.param(ClaimState.AWAITED, False, ClaimState.NEVER, id="or will never"),
        pytest.param(ClaimState.MADE, False, ClaimState.MADE, id="of who came later nothing has to be said"),
        pytest.param(ClaimState.NEVER, True, ClaimState.MADE, id="who speaks after all has spoken"),
    ],
)
def test_word(before: ClaimState, says: bool, want: ClaimState) -> None:
    assert claim_state_after(before, says=says) is want


@pytest.mark.parametrize(
    ("is_claimed", "was_sent", "has_begun", "want"),
    [
        pytest.param(True, True, False, False, id="it has it"),
        pytest.param(False, True, False, True, id="it never came"),
        pytest.param(None, True, False, True, id="it said nothing of it"),
        pytest.param(None, True, True, False, id="it said that it began"),
        pytest.param(None, False, True, True, id="it was not sent yet"),
        pytest.param(True, False, False, True, id="though it was, by another"),
    ],
)
def test_what_is_sent_again(is_claimed: bool | None, was_sent: bool, has_begun: bool, want: bool) -> None:
    assert is_sent_again(is_claimed=is_claimed, was_sent=was_sent, has_begun=has_begun) is want


@pytest.mark.parametrize(
    ("outcome", "is_being_written", "want"),
    [
        pytest.param(None, False, True, id="there is none"),
        pytest.param(Outcome.LOST, False, True, id="its worker was silent, and comes late"),
        pytest.param(Outcome.UNKNOWN, False, True, id="nobody was there to ask"),
        pytest.param(Outcome.LOST, True, False, id="it goes out anew"),
        pytest.param(Outcome.COMPLETED, False, False, id="a worker said so"),
    ],
)
def test_what_gives_way_to_the_word_of_a_worker(outcome: Outcome | None, is_being_written: bool, want: bool) -> None:
    report = Report(attempt_id="a", outcome=outcome, at=NOW) if outcome is not None else None
    assert gives_way(report, is_being_written=is_being_written) is want


# --- Losses

DIED = Loss(outcome=Outcome.LOST, why="its Pod was deleted")
MAYBE = Loss(outcome=Outcome.UNKNOWN)
ANSWERS = Answers(
    lost={("default", "dead"): DIED},
    mute={("default", "mute")},
    known={("default", "back"), ("default", "mute"), ("default", "dead")},
)

LOSSES: dict[str, tuple[str, Loss | None]] = {
    "with a worker that died": ("dead", DIED),
    "with one that does not say what it has": ("mute", MAYBE),
    "with one that was gone before": (
        "gone",
        Loss(outcome=Outcome.UNKNOWN, why='worker "gone" was gone when this operator started'),
    ),
    "not with one that is back": ("back", None),
}


@pytest.mark.parametrize(("worker", "want"), LOSSES.values(), ids=LOSSES.keys())
def test_a_step_is_lost(worker: str, want: Loss | None) -> None:
    assert loss_with(("default", worker), ANSWERS) == want


@pytest.mark.parametrize("rule", LOSS_RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_another_loss_would_come(rule: LossRule) -> None:
    others = tuple(other for other in LOSS_RULES if other is not rule)
    workers = [("default", worker) for worker, _ in LOSSES.values()]
    assert any(loss_with(worker, ANSWERS) != loss_with(worker, ANSWERS, others) for worker in workers)


def test_losses_of_a_run_are_of_what_is_out_as_is_written_down_and_of_what_the_last_leader_said() -> None:
    steps = {
        "out": StepStatus(phase=Phase.RUNNING, worker="dead"),
        "back": StepStatus(phase=Phase.RUNNING, worker="back"),
        "done": StepStatus(phase=Phase.SUCCEEDED, worker="dead"),
        "queued": StepStatus(phase=Phase.PENDING),
    }
    run = make_run(status=RunStatus(steps=steps))
    assert losses_of(run, ANSWERS, {"queued": MAYBE}) == {"out": DIED, "queued": MAYBE}


def test_a_death_that_is_nobodys_fault_counts_against_no_step() -> None:
    assert loss_by_death("x", is_nobodys_fault=True).outcome is Outcome.UNKNOWN
    assert loss_by_death("x", is_nobodys_fault=False).outcome is Outcome.LOST
