"""Who is waited for after a start, how long, and with which runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.pooling import OperatorAccess, reach_of
from hatchet_operator.decisions.rejoining import (
    KnownWorker,
    Missing,
    Patience,
    Reach,
    WaitingRun,
    plan_rejoin,
    say_who_is_awaited,
    waiting_run,
    why_ended,
)
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import NOW, ago, later, make_graph, make_run, make_step

SECOND = timedelta(seconds=1)
PATIENCE = Patience(usual=30 * SECOND, running=120 * SECOND, lost=10 * SECOND, ending=60 * SECOND)
MAIN = ObjectRef("default", "main")
ACTION = "etl:work"


def make_worker(**changes: Any) -> KnownWorker:
    fields: dict[str, Any] = {"id": "w-1", "name": "main-abc", "pool": MAIN, "actions": frozenset({ACTION})}
    return KnownWorker(**fields | changes)


def make_waiting(**changes: Any) -> WaitingRun:
    fields: dict[str, Any] = {"uid": "run-uid", "namespace": "default", "pool": "main"}
    return WaitingRun(**fields | changes)


# --- How long

OURS = {"may_be_ended": True, "pod": "main-abc"}
HERE = {"runs_on": True}
STRANDED = {"reach": Reach.LOST}
ENDED = {"ended_for": 30 * SECOND}


@pytest.mark.parametrize(
    ("worker", "waited", "want"),
    [
        pytest.param({}, 29, "waits until 30", id="who is known has its time"),
        pytest.param({}, 30, "given up", id="and no more"),
        pytest.param(HERE, 119, "waits until 120", id="one whose container runs on has more of it"),
        pytest.param(HERE, 120, "given up", id="somebody else's pod is not ours to end"),
        pytest.param(HERE | OURS, 119, "waits until 120", id="a pod of ours that runs on is waited for"),
        pytest.param(HERE | OURS, 120, "ended until 180", id="then it is ended, and its end waited for"),
        pytest.param(OURS | ENDED, 150, "waits until 180", id="which takes a while, in which nothing of it runs on"),
        pytest.param(OURS | {"ended_for": 60 * SECOND}, 180, "given up", id="but not for ever"),
        pytest.param(OURS, 30, "given up", id="of a pod that does not run on nothing is left to end"),
        pytest.param(
            STRANDED | HERE | OURS, 9, "waits until 10", id="who can't come may do it all the same, for a while"
        ),
        pytest.param(STRANDED | HERE | OURS, 10, "ended until 70", id="then its pod is ended"),
        pytest.param(STRANDED | HERE, 10, "given up", id="unless it is not ours"),
        pytest.param({"reach": Reach.TOLD} | HERE | OURS, 119, "waits until 120", id="who is told where we are comes"),
    ],
)
def test_waiting(worker: dict[str, Any], waited: int, want: str) -> None:
    plan = plan_rejoin([make_worker(**worker)], PATIENCE, waited=waited * SECOND)
    if plan.give_up:
        assert (want, plan.waiting, plan.end, plan.look_again_after) == ("given up", (), (), None)
        return
    assert plan.look_again_after is not None
    until = waited + plan.look_again_after // SECOND
    assert (f"ended until {until}" if plan.end else f"waits until {until}") == want
    assert len(plan.waiting) == 1


def test_the_next_look_is_at_the_first_of_all_deadlines() -> None:
    workers = [make_worker(), make_worker(id="w-2", reach=Reach.LOST), make_worker(id="w-3", runs_on=True)]
    assert plan_rejoin(workers, PATIENCE, waited=4 * SECOND).look_again_after == 6 * SECOND
    assert plan_rejoin([], PATIENCE, waited=SECOND).look_again_after is None


# --- With which runs

UNWRITTEN = {"unwritten": frozenset({ACTION})}
HANDED = {"handed_over": frozenset({"run-uid"})}


@pytest.mark.parametrize(
    ("worker", "run", "want"),
    [
        pytest.param({}, {"written_with": ("main-abc",)}, True, id="what is written down as with it"),
        pytest.param({}, {"written_with": ("main-xyz",)}, False, id="not what is with another"),
        pytest.param(
            {}, {"written_with": ("main-abc",), "namespace": "b"}, False, id="nor with its namesake elsewhere"
        ),
        pytest.param({}, UNWRITTEN, True, id="what it could have been given a moment ago"),
        pytest.param({}, {"unwritten": None, "pool": None}, True, id="anything, while it is not known what the run is"),
        pytest.param({}, {}, False, id="not a run of which nothing can be out"),
        pytest.param({}, {"unwritten": frozenset({"etl:other"})}, False, id="not a step that it does not offer"),
        pytest.param({}, UNWRITTEN | {"pool": "side"}, False, id="not a run of another pool"),
        pytest.param({}, UNWRITTEN | {"namespace": "b"}, False, id="nor of another namespace"),
        pytest.param({}, UNWRITTEN | {"has_own_pod": True}, False, id="not a run with a pod of its own"),
        pytest.param({"run_uid": "run-uid"}, UNWRITTEN | {"has_own_pod": True}, True, id="the run its pod is for"),
        pytest.param({"run_uid": "other"}, UNWRITTEN, False, id="and no other"),
        pytest.param(HANDED, UNWRITTEN, True, id="what the last leader said that it gave to it"),
        pytest.param({"handed_over": frozenset()}, UNWRITTEN, False, id="not what it did not say"),
        pytest.param(
            {"handed_over": frozenset()}, {"written_with": ("main-abc",)}, True, id="but what is written down counts"
        ),
    ],
)
def test_a_missing_worker_holds(worker: dict[str, Any], run: dict[str, Any], want: bool) -> None:
    known = make_worker(**worker)
    assert Missing([known]).holds(make_waiting(**run)) == (known if want else False)


def test_a_mute_worker_may_have_what_is_written_down_only() -> None:
    missing = Missing((), [("default", "main-abc")])
    assert missing.holds(make_waiting(written_with=("main-abc",))) is True
    assert missing.holds(make_waiting(**UNWRITTEN)) is False


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
            {"first": StepStatus(retry_at=later(5)), "beside": StepStatus(retry_at=ago(1))},
            (),
            {"beside"},
            id="not before its next attempt is due",
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
    assert waiting_run(run, graph, claimed=claimed, now=NOW).unwritten == frozenset(want)


def test_of_a_run_without_a_definition_anything_may_be_out() -> None:
    status = RunStatus(steps={"first": StepStatus(phase=RUNNING, worker="w")})
    seen = waiting_run(make_run(status=status), None, claimed=(), now=NOW)
    assert (seen.pool, seen.unwritten, seen.written_with) == (None, None, ("w",))


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
    pod = {"metadata": {}, "spec": {"containers": [{"name": "worker", "env": entries}]}}
    assert reach_of(pod, ACCESS, served={"op.ns.svc:7070"}, pool=None) is want


# --- What is told


def test_whoever_waits_is_told_for_whom_and_how_long() -> None:
    worker = make_worker(name="etl", pod="main-abc", runs_on=True)
    text = 'waits up to 2m for worker "etl" of pod "main-abc", which may still have steps and did not say so yet'
    assert say_who_is_awaited(worker, PATIENCE) == text


def test_an_ended_pod_says_why() -> None:
    worker = make_worker(reach=Reach.LOST)
    text = "it did not come back within 10s: the address that it was given, a:1, leads to the operator no more"
    assert why_ended(worker, PATIENCE, address="a:1") == text
