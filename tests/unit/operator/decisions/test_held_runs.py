"""Which runs from before a start wait, and with whom."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.held_runs import (
    POSSIBLE_WORKER_RULES,
    Missing,
    Mute,
    PossibleWorkerRule,
    WaitingRun,
    possible_worker_of,
    waiting_run,
)
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import NOW, ago, later, make_graph, make_run, make_step
from tests.unit.operator.decisions.test_rejoining import ACTION, make_worker


def make_waiting(**changes: Any) -> WaitingRun:
    fields: dict[str, Any] = {"uid": "run-uid", "namespace": "default", "pool": "main"}
    return WaitingRun(**fields | changes)


UNWRITTEN = {"unpersisted": frozenset({ACTION})}
HANDED = {"handed_over": frozenset({"run-uid"})}


ABSENT, NOBODY = "the absent one", "nobody"

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "what is written down as with it": ({}, {"persisted_workers": ("main-abc",)}, ABSENT),
    "not what is with another": ({}, {"persisted_workers": ("main-xyz",)}, NOBODY),
    "nor with its namesake elsewhere": ({}, {"persisted_workers": ("main-abc",), "namespace": "b"}, NOBODY),
    "what it could have been given a moment ago": ({}, UNWRITTEN, ABSENT),
    "anything, while it is not known what the run is": ({}, {"unpersisted": None, "pool": None}, ABSENT),
    "not a run of which nothing can be out": ({}, {}, NOBODY),
    "not a step that it does not offer": ({}, {"unpersisted": frozenset({"etl:other"})}, NOBODY),
    "not a run of another pool": ({}, UNWRITTEN | {"pool": "side"}, NOBODY),
    "nor of another namespace": ({}, UNWRITTEN | {"namespace": "b"}, NOBODY),
    "not a run with a pod of its own": ({}, UNWRITTEN | {"has_own_pod": True}, NOBODY),
    "the run its pod is for": ({"run_uid": "run-uid"}, UNWRITTEN | {"has_own_pod": True}, ABSENT),
    "and no other": ({"run_uid": "other"}, UNWRITTEN, NOBODY),
    "what the last leader said that it gave to it": (HANDED, UNWRITTEN, ABSENT),
    "not what it did not say": ({"handed_over": frozenset()}, UNWRITTEN, NOBODY),
    "but what is written down counts": ({"handed_over": frozenset()}, {"persisted_workers": ("main-abc",)}, ABSENT),
    "what is written down as with a mute one": ({}, {"persisted_workers": ("mute",)}, Mute.MUTE),
    "but whoever will speak comes first": ({}, {"persisted_workers": ("mute", "main-abc")}, ABSENT),
}


def missing_of(worker: dict[str, Any]) -> Missing:
    return Missing([make_worker(**worker)], [("default", "mute")])


@pytest.mark.parametrize(("worker", "run", "want"), CASES.values(), ids=CASES.keys())
def test_a_missing_worker_may_have(worker: dict[str, Any], run: dict[str, Any], want: str) -> None:
    suspect = possible_worker_of(make_waiting(**run), missing_of(worker))
    assert suspect == {ABSENT: make_worker(**worker), NOBODY: None, Mute.MUTE: Mute.MUTE}[want]


@pytest.mark.parametrize("rule", POSSIBLE_WORKER_RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_another_would_be_suspected(rule: PossibleWorkerRule) -> None:
    others = tuple(other for other in POSSIBLE_WORKER_RULES if other is not rule)
    seen = [(make_waiting(**run), missing_of(worker)) for worker, run, _ in CASES.values()]
    assert any(possible_worker_of(run, missing) != possible_worker_of(run, missing, others) for run, missing in seen)


def test_a_mute_worker_may_have_what_is_written_down_only() -> None:
    missing = Missing(mute=[("default", "main-abc")])
    assert possible_worker_of(make_waiting(persisted_workers=("main-abc",)), missing) is Mute.MUTE
    assert possible_worker_of(make_waiting(**UNWRITTEN), missing) is None


PENDING, RUNNING, DONE, FAILED = Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED


@pytest.mark.parametrize(
    ("steps", "claimed", "want"),
    [
        pytest.param({}, (), {"first", "beside"}, id="what is ready, of a run that has just begun"),
        pytest.param({}, ("first",), {"beside"}, id="not what a worker said to have"),
        pytest.param({"first": StepStatus(phase=DONE)}, (), {"second", "beside"}, id="what follows a finished step"),
        pytest.param(
            {"first": StepStatus(phase=RUNNING, worker="w"), "beside": StepStatus(phase=DONE)},
            (),
            set(),
            id="what is written down is with that worker only",
        ),
        pytest.param(
            {"first": StepStatus(retry_at=later(300)), "beside": StepStatus(retry_at=ago(1))},
            (),
            {"beside"},
            id="not before its next attempt is due",
        ),
        pytest.param(
            {"first": StepStatus(retry_at=later(5)), "beside": StepStatus(phase=DONE)},
            (),
            {"first"},
            id="but by the clock of the last leader it may be due already",
        ),
        pytest.param(
            {"first": StepStatus(phase=FAILED), "second": StepStatus(phase=FAILED), "beside": StepStatus(phase=DONE)},
            (),
            {"clean"},
            id="the on-failure step, once another failed",
        ),
    ],
)
def test_what_may_be_out_without_a_word(steps: dict[str, StepStatus], claimed: tuple[str, ...], want: set[str]) -> None:
    graph = make_graph(
        make_step("first", action="first"),
        make_step("second", action="second", parents=("first",)),
        make_step("beside", action="beside"),
        on_failure=make_step("clean", action="clean"),
    )
    run = make_run(status=RunStatus(steps=steps))
    assert waiting_run(run, graph, claimed=claimed, now=NOW).unpersisted == frozenset(want)


def test_of_a_run_without_a_definition_anything_may_be_out() -> None:
    status = RunStatus(steps={"first": StepStatus(phase=RUNNING, worker="w")})
    seen = waiting_run(make_run(status=status), None, claimed=(), now=NOW)
    assert (seen.pool, seen.unpersisted, seen.persisted_workers) == (None, None, ("w",))
