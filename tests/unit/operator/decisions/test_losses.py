"""Whose loss counts when a worker dies, and which steps are suspects of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.deaths import is_disruption
from hatchet_operator.decisions.losses import LostAttempt, counted_as, kinds_of_loss, trial_of
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.reasons import LossKind, Phase, Reason
from hatchet_operator.resources.run import LostWorker
from tests.unit.operator.decisions.builders import (
    NOW,
    ago,
    make_graph,
    make_live,
    make_observed_run,
    make_report,
    make_step,
    make_step_status,
    seen_pod,
)

CRASH, CLEARED, BYSTANDER, DISRUPTION, NOT_STARTED = LossKind
RUNS = LostAttempt(id="runs")
RUNS_TOO = LostAttempt(id="runs too")
WAITS = LostAttempt(id="waits", is_waiting=True)
TRIED = LostAttempt(id="tried", stood_its_trial=True)
PUSHED = LostAttempt(id="pushed", may_have_begun=False)


@pytest.mark.parametrize(
    ("lost", "disrupted", "want"),
    [
        pytest.param([RUNS], False, [CRASH], id="it was alone"),
        pytest.param([RUNS, RUNS_TOO], False, [CRASH, CRASH], id="either may be the cause"),
        pytest.param([RUNS, WAITS], False, [CRASH, BYSTANDER], id="a step that waits for children is none"),
        pytest.param([WAITS], False, [CRASH], id="unless there is no other"),
        pytest.param([RUNS, TRIED], False, [CRASH, CLEARED], id="nor is one that stood its trial"),
        pytest.param([TRIED, WAITS], False, [CRASH, BYSTANDER], id="which is likelier than one that waits"),
        pytest.param([RUNS, PUSHED], False, [CRASH, NOT_STARTED], id="what had not begun lost nothing"),
        pytest.param([PUSHED, WAITS], False, [NOT_STARTED, CRASH], id="and is no cause"),
        pytest.param([RUNS, WAITS, PUSHED], True, [DISRUPTION, DISRUPTION, NOT_STARTED], id="the Pod was taken away"),
    ],
)
def test_whose_loss_counts(lost: list[LostAttempt], disrupted: bool, want: list[LossKind]) -> None:
    assert list(kinds_of_loss(lost, disrupted=disrupted).values()) == want


def make_lost(kind: LossKind = CRASH, *, ran: float = 10, attempt: int = 0) -> LostWorker:
    return LostWorker(at=ago(5), started_at=ago(5 + ran), kind=kind, attempt=attempt)


@pytest.mark.parametrize(
    ("lost", "attempt", "want_seconds"),
    [
        pytest.param([], 0, None, id="it lost nobody"),
        pytest.param([make_lost()], 0, 17, id="it ran for 10 s"),
        pytest.param([make_lost(ran=0)], 0, 2, id="it had just begun"),
        pytest.param([make_lost(ran=3600)], 0, 60, id="it ran for an hour"),
        pytest.param([make_lost(), make_lost(BYSTANDER)], 0, 17, id="it only waited since"),
        pytest.param([make_lost(), make_lost(CLEARED)], 0, None, id="it stood its trial since"),
        pytest.param([make_lost(), make_lost(CLEARED), make_lost()], 0, 17, id="and is a suspect once more"),
        pytest.param([make_lost(), make_lost(DISRUPTION)], 0, 17, id="its next Pod was taken away"),
        pytest.param([make_lost(), make_lost(NOT_STARTED)], 0, 17, id="the next worker left before it began"),
        pytest.param([make_lost(DISRUPTION)], 0, None, id="a Pod that is taken away is no hint"),
        pytest.param([make_lost()], 1, None, id="it failed by itself since"),
    ],
)
def test_how_long_a_suspect_is_tried_apart(lost: list[LostWorker], attempt: int, want_seconds: float | None) -> None:
    state = make_step_status(lost_workers=tuple(lost), attempt=attempt)
    assert trial_of(state) == (timedelta(seconds=want_seconds) if want_seconds is not None else None)


@pytest.mark.parametrize(("before", "want"), [(0, NOT_STARTED), (2, NOT_STARTED), (3, CRASH)])
def test_a_step_that_ends_its_workers_before_they_can_say_that_it_began_is_counted_in_the_end(
    before: int, want: LossKind
) -> None:
    state = make_step_status(lost_workers=(make_lost(), *[make_lost(NOT_STARTED)] * before))
    assert counted_as(NOT_STARTED, state) is want


@pytest.mark.parametrize(
    ("kind", "before", "most", "want"),
    [
        pytest.param(CRASH, {"losses": 1}, None, (Phase.PENDING, 2, 0), id="the second crash"),
        pytest.param(CRASH, {"losses": 2}, None, (Phase.FAILED, 3, 0), id="the third"),
        pytest.param(CRASH, {"losses": 2, "disruptions": 4}, 5, (Phase.PENDING, 3, 4), id="of a step that may have 5"),
        pytest.param(CRASH, {}, 0, (Phase.FAILED, 1, 0), id="of one that must not be given out again"),
        pytest.param(BYSTANDER, {"losses": 2}, None, (Phase.PENDING, 2, 0), id="somebody else's"),
        pytest.param(CLEARED, {"losses": 2}, None, (Phase.PENDING, 2, 0), id="of a likelier one"),
        pytest.param(BYSTANDER, {}, 0, (Phase.FAILED, 0, 0), id="whatever it was, once is once"),
        pytest.param(DISRUPTION, {"losses": 2, "disruptions": 3}, 1, (Phase.PENDING, 2, 4), id="taken away"),
        pytest.param(DISRUPTION, {"disruptions": 4}, None, (Phase.FAILED, 0, 5), id="too often"),
        pytest.param(DISRUPTION, {}, 0, (Phase.FAILED, 0, 1), id="taken away, and once is once"),
        pytest.param(NOT_STARTED, {"losses": 2}, 0, (Phase.PENDING, 2, 0), id="it had not begun"),
    ],
)
def test_what_a_loss_costs(
    kind: LossKind, before: dict[str, Any], most: int | None, want: tuple[Phase, int, int]
) -> None:
    seen = make_observed_run(
        graph=make_graph(make_step(max_reassignments=most)),
        steps={"work": make_step_status(**before)},
        live={"work": make_live(started_at=ago(7))},
        reports={"work": make_report(Outcome.LOST, loss=kind, error="its container ended (exit code 137, OOMKilled)")},
    )
    status = plan_run(seen, NOW).status
    assert status is not None
    step = status.steps["work"]
    assert (step.phase, step.losses, step.disruptions) == want
    assert step.attempt == 0, "no retry is used"
    (lost,) = step.lost_workers
    assert (lost.worker, lost.started_at, lost.kind) == ("pod-1", ago(7), kind)
    assert lost.why == "its container ended (exit code 137, OOMKilled)"
    assert "OOMKilled" in (step.error or "")
    if step.phase is Phase.FAILED:
        assert (status.reason, step.reason) == (Reason.WORKER_LOST, Reason.WORKER_LOST)
        assert "OOMKilled" in (status.message or "")


def test_the_last_workers_that_were_lost_are_told() -> None:
    before = tuple(make_lost(DISRUPTION, attempt=number) for number in range(8))
    seen = make_observed_run(
        steps={"work": make_step_status(lost_workers=before, worker="w" * 253)},
        reports={"work": make_report(Outcome.LOST, error="x" * 9999)},
    )
    status = plan_run(seen, NOW).status
    assert status is not None
    told = status.steps["work"].lost_workers
    assert told[:-1] == before[1:]
    assert len(told[-1].why) == 512


def test_what_must_not_be_executed_twice_is_not_given_out_where_nobody_knows_whether_it_runs() -> None:
    seen = make_observed_run(
        graph=make_graph(make_step(max_reassignments=0)), reports={"work": make_report(Outcome.UNKNOWN)}
    )
    status = plan_run(seen, NOW).status
    assert status is not None
    assert (status.phase, status.reason) == (Phase.FAILED, Reason.WORKER_LOST)


TERMINATING = {"deletionTimestamp": "2026-01-01T12:00:00Z"}
TARGETED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]


def ended(reason: str) -> list[dict[str, Any]]:
    return [{"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": reason}}}]


@pytest.mark.parametrize(
    ("metadata", "status", "deleted", "want"),
    [
        pytest.param({}, {"containerStatuses": ended("Error")}, False, False, id="its container ended"),
        pytest.param(TERMINATING, {"containerStatuses": ended("Error")}, False, True, id="killed when it was deleted"),
        pytest.param({}, {}, True, True, id="deleted by force"),
        pytest.param({}, {"phase": "Failed", "conditions": TARGETED}, False, True, id="evicted by the kubelet"),
        pytest.param({}, {"phase": "Failed", "reason": "Evicted"}, False, False, id="for a limit of its own"),
        pytest.param(
            {}, {"conditions": [{"type": "DisruptionTarget", "status": "False"}]}, False, False, id="spared in the end"
        ),
        pytest.param(
            TERMINATING, {"containerStatuses": ended("OOMKilled"), "conditions": TARGETED}, False, False, id="memory"
        ),
    ],
)
def test_what_is_nobodys_fault(metadata: dict[str, Any], status: dict[str, Any], deleted: bool, want: bool) -> None:
    pod = seen_pod({"metadata": metadata, "status": status})
    assert is_disruption(pod, deleted=deleted) is want
