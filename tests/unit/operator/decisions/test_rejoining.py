"""Who is waited for after a start, and how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.pooling import OperatorAccess, reach_of
from hatchet_operator.decisions.rejoining import (
    ABSENCE_RULES,
    Absence,
    AbsenceRule,
    KnownWorker,
    Reach,
    RejoinTimeouts,
    plan_rejoin,
    prospect_of,
    say_who_is_awaited,
    why_ended,
)
from hatchet_operator.resources.names import ObjectRef
from tests.unit.operator.decisions.builders import seen_pod

SECOND = timedelta(seconds=1)
PATIENCE = RejoinTimeouts(usual=30 * SECOND, running=120 * SECOND, lost=10 * SECOND, ending=60 * SECOND)
MAIN = ObjectRef("default", "main")
ACTION = "etl:work"


def make_worker(**changes: Any) -> KnownWorker:
    fields: dict[str, Any] = {"id": "w-1", "name": "main-abc", "pool": MAIN, "actions": frozenset({ACTION})}
    return KnownWorker(**fields | changes)


# --- How long

OURS = {"may_be_ended": True, "pod": "main-abc"}
HERE = {"runs_on": True}
STRANDED = {"reach": Reach.LOST}
ENDED = {"ended_for": 30 * SECOND}

CASES: dict[str, tuple[dict[str, Any], int, str]] = {
    "who is known has its time": ({}, 29, "waits until 30"),
    "and no more": ({}, 30, "given up"),
    "one whose container runs on has more of it": (HERE, 119, "waits until 120"),
    "somebody else's pod is not ours to end": (HERE, 120, "given up"),
    "a pod of ours that runs on is waited for": (HERE | OURS, 119, "waits until 120"),
    "then it is ended, and its end waited for": (HERE | OURS, 120, "ended until 180"),
    "which takes a while, in which nothing of it runs on": (OURS | ENDED, 150, "waits until 180"),
    "but not for ever": (OURS | {"ended_for": 60 * SECOND}, 180, "given up"),
    "nor is it ended twice": (HERE | OURS | {"ended_for": 60 * SECOND}, 180, "given up"),
    "of a pod that does not run on nothing is left to end": (OURS, 30, "given up"),
    "who can't come may do it all the same, for a while": (STRANDED | HERE | OURS, 9, "waits until 10"),
    "then its pod is ended": (STRANDED | HERE | OURS, 10, "ended until 70"),
    "unless it is not ours": (STRANDED | HERE, 10, "given up"),
    "who is told where we are comes": ({"reach": Reach.TOLD} | HERE | OURS, 119, "waits until 120"),
}


@pytest.mark.parametrize(("worker", "waited", "want"), CASES.values(), ids=CASES.keys())
def test_waiting(worker: dict[str, Any], waited: int, want: str) -> None:
    plan = plan_rejoin([make_worker(**worker)], PATIENCE, waited=waited * SECOND)
    if plan.give_up:
        assert (want, plan.waiting, plan.end, plan.recheck_after) == ("given up", (), (), None)
        return
    assert plan.recheck_after is not None
    until = waited + plan.recheck_after // SECOND
    assert (f"ended until {until}" if plan.end else f"waits until {until}") == want
    assert len(plan.waiting) == 1


@pytest.mark.parametrize("rule", ABSENCE_RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_another_fate_would_come(rule: AbsenceRule) -> None:
    others = tuple(other for other in ABSENCE_RULES if other is not rule)
    absences = [
        Absence(worker=make_worker(**worker), timeouts=PATIENCE, waited=waited * SECOND)
        for worker, waited, _ in CASES.values()
    ]
    assert any(prospect_of(absence) != prospect_of(absence, others) for absence in absences)


def test_the_next_look_is_at_the_first_of_all_deadlines() -> None:
    workers = [make_worker(), make_worker(id="w-2", reach=Reach.LOST), make_worker(id="w-3", runs_on=True)]
    assert plan_rejoin(workers, PATIENCE, waited=4 * SECOND).recheck_after == 6 * SECOND
    assert plan_rejoin([], PATIENCE, waited=SECOND).recheck_after is None


# --- How it finds us

ACCESS = OperatorAccess(grpc_address="op.ns.svc:7171", tls=True)
TLS = {"HATCHET_CLIENT_TLS_STRATEGY": "tls"}
FILE = {"HATCHET_CLIENT_HOST_PORT_FILE": "/f"}


@pytest.mark.parametrize(
    ("env", "want"),
    [
        pytest.param({"HATCHET_CLIENT_HOST_PORT": "op.ns.svc:7171"} | TLS, Reach.SERVED, id="it was given our address"),
        pytest.param(
            {"HATCHET_CLIENT_HOST_PORT": "op.ns.svc:7070"} | TLS, Reach.SERVED, id="or one that leads here too"
        ),
        pytest.param({"HATCHET_CLIENT_HOST_PORT": ""} | TLS, Reach.SERVED, id="it reads the address in its token"),
        pytest.param({"HATCHET_CLIENT_HOST_PORT": "a.ns.svc:7070"} | TLS, Reach.LOST, id="or one that leads elsewhere"),
        pytest.param({"HATCHET_CLIENT_HOST_PORT": "a.ns.svc:7070"} | TLS | FILE, Reach.TOLD, id="but is told of ours"),
        pytest.param(
            {"HATCHET_CLIENT_HOST_PORT": "op.ns.svc:7171", "HATCHET_CLIENT_TLS_STRATEGY": "none"} | FILE,
            Reach.LOST,
            id="it speaks no TLS",
        ),
        pytest.param({}, Reach.SERVED, id="nobody knows"),
    ],
)
def test_reach(env: dict[str, str], want: Reach) -> None:
    entries = [{"name": name, "value": value} for name, value in env.items()]
    pod = seen_pod({"spec": {"containers": [{"name": "worker", "env": entries}]}})
    assert reach_of(pod, ACCESS, served={"op.ns.svc:7070"}, pool=None) is want


# --- What is told


def test_whoever_waits_is_told_for_whom_and_how_long() -> None:
    worker = make_worker(name="etl", pod="main-abc", runs_on=True)
    text = 'waits up to 2m for worker "etl" of pod "main-abc", which may still have steps and did not say so yet'
    assert say_who_is_awaited(worker, PATIENCE) == text


def test_an_ended_pod_says_why() -> None:
    worker = make_worker(reach=Reach.LOST)
    text = "it did not come back within 10s: the address that it was given, a:1, no longer leads to the operator"
    assert why_ended(worker, PATIENCE, address="a:1") == text
