"""When a run gets a pod of its own, when that is deleted or killed, and what it looks like."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.pooling import OperatorAccess, make_pod, pool_template_of
from hatchet_operator.decisions.run_pods import (
    RunPodsPlan,
    RunPodView,
    make_run_pod,
    pause_after,
    plan_run_pods,
    run_pod_name,
)
from hatchet_operator.resources.pod_overrides import PodOverrides
from tests.unit.operator.decisions.builders import make_run, seen_pod
from tests.unit.operator.decisions.test_pooling import make_pool

GRACE = timedelta(seconds=1)
HALF = timedelta(seconds=0.5)
LONG = timedelta(minutes=5)


def plan(*pods: RunPodView, final: bool = False, queued: bool = True) -> RunPodsPlan:
    return plan_run_pods(pods, final=final, queued=queued, cancel_grace=GRACE)


def starting(name: str = "a", **changes: Any) -> RunPodView:
    return RunPodView(**{"name": name, **changes})


def working(name: str = "a", **changes: Any) -> RunPodView:
    return RunPodView(**{"name": name, "connected": True, "attempts": 1, **changes})


def ended(name: str = "a", *, ended_for: timedelta = LONG, **changes: Any) -> RunPodView:
    return RunPodView(**{"name": name, "ended_for": ended_for, **changes})


@pytest.mark.parametrize(
    ("pods", "queued", "want"),
    [
        pytest.param((), True, True, id="an attempt waits and no pod is there"),
        pytest.param((), False, False, id="nothing waits"),
        pytest.param((starting(),), True, False, id="one is coming"),
        pytest.param((working(),), True, False, id="one is there"),
        pytest.param((starting(deleting=True),), True, True, id="the one that is there goes"),
        pytest.param((ended(),), True, True, id="the one that was there ended"),
        pytest.param((ended(), starting("b", number=1)), True, False, id="one ended and the next is coming"),
        pytest.param((working(lost=True),), True, True, id="its worker is dead"),
        pytest.param((working(draining=True, stopping_for=HALF),), True, True, id="an attempt was told to stop there"),
        pytest.param((starting(trouble="ErrImagePull"),), True, False, id="the kubelet tries again by itself"),
        pytest.param(
            (starting(trouble="ErrImagePull", current=False),), True, True, id="the template was mended meanwhile"
        ),
    ],
)
def test_a_pod_is_made(pods: tuple[RunPodView, ...], queued: bool, want: bool) -> None:
    assert plan(*pods, queued=queued).create is want


@pytest.mark.parametrize(
    ("pods", "final", "want"),
    [
        pytest.param((working(),), True, ("a",), id="the run is over"),
        pytest.param((ended(), working("b")), True, ("a", "b"), id="all of them"),
        pytest.param((working(deleting=True),), True, (), id="it goes already"),
        pytest.param((working(stopping_for=HALF),), True, (), id="an attempt may still end by itself"),
        pytest.param((working(),), False, (), id="the run goes on"),
        pytest.param((ended(), ended("b", number=1)), False, ("a",), id="the last log is kept, earlier ones are not"),
        pytest.param((working(draining=True, attempts=0),), False, ("a",), id="nothing is left in it, nothing comes"),
        pytest.param((working(draining=True),), False, (), id="another step of the run still runs in it"),
        pytest.param((starting(trouble="x", current=False),), False, ("a",), id="it can't start, and is out of date"),
        pytest.param((working(trouble="x", current=False),), False, (), id="a worker that is there is not out of date"),
    ],
)
def test_a_pod_is_deleted(pods: tuple[RunPodView, ...], final: bool, want: tuple[str, ...]) -> None:
    assert plan(*pods, final=final).delete == want


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize(
    ("pod", "want"),
    [
        pytest.param(working(stopping_for=GRACE), ("a",), id="an attempt did not end within the grace"),
        pytest.param(working(stopping_for=GRACE, deleting=True), ("a",), id="also while the pod goes the slow way"),
        pytest.param(working(stopping_for=HALF), (), id="the grace is not over"),
        pytest.param(working(lost=True), ("a",), id="its worker is dead"),
        pytest.param(working(), (), id="it works"),
    ],
)
def test_a_pod_is_killed(pod: RunPodView, final: bool, want: tuple[str, ...]) -> None:
    assert plan(pod, final=final).kill == want


@pytest.mark.parametrize("final", [True, False])
def test_the_end_of_the_grace_is_looked_at(final: bool) -> None:
    assert plan(working(stopping_for=HALF), final=final).recheck_after == GRACE - HALF


def test_the_next_pod_after_a_crash_waits_a_little() -> None:
    want = plan(ended(number=3, ended_for=timedelta(seconds=2)))
    assert (want.create, want.recheck_after) == (False, timedelta(seconds=6))


def test_pauses_grow_up_to_a_minute() -> None:
    assert [pause_after(number).total_seconds() for number in (0, 1, 2, 5, 6, 99)] == [1, 2, 4, 32, 60, 60]


PODS = st.lists(
    st.builds(
        RunPodView,
        name=st.uuids().map(str),
        number=st.integers(0, 5),
        deleting=st.booleans(),
        current=st.booleans(),
        connected=st.booleans(),
        draining=st.booleans(),
        attempts=st.integers(0, 2),
        lost=st.booleans(),
        stopping_for=st.none() | st.timedeltas(timedelta(), 2 * GRACE),
        ended_for=st.none() | st.timedeltas(timedelta(), LONG),
        trouble=st.none() | st.just("x"),
    ),
    max_size=6,
)


@given(PODS, st.booleans(), st.booleans())
def test_no_plan_contradicts_itself(pods: list[RunPodView], final: bool, queued: bool) -> None:
    want = plan(*pods, final=final, queued=queued)
    assert not set(want.delete) & set(want.kill)
    assert not (final and want.create)
    by_name = {pod.name: pod for pod in pods}
    if not final:  # work is never thrown away, but for what was told to stop or is dead
        assert all(by_name[name].attempts == 0 or by_name[name].ended_for is not None or
                   (not by_name[name].connected and by_name[name].trouble) for name in want.delete)  # fmt: skip
    else:
        gone = {*want.delete, *want.kill, *(pod.name for pod in pods if pod.deleting)}
        assert all(pod.name in gone or pod.stopping_for is not None for pod in pods)


# --- What it looks like

TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}


def make(number: int = 0, overrides: dict[str, Any] | None = None, pod: dict[str, Any] | None = None) -> dict[str, Any]:
    return make_run_pod(
        make_pool(pod=pod),
        OperatorAccess(grpc_address="10.0.0.1:7070"),
        make_run(),
        number=number,
        overrides=PodOverrides.model_validate(overrides) if overrides is not None else None,
    )


def test_it_is_the_runs() -> None:
    metadata = make()["metadata"]
    assert metadata["name"] == "etl-7"
    assert "generateName" not in metadata
    assert metadata["labels"]["hatchet-operator.dev/pool"] == "main"
    assert metadata["labels"]["hatchet-operator.dev/run-uid"] == "run-uid"
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("WorkflowRun", "run-uid", True)


def test_it_lives_once() -> None:
    assert make(pod={"restartPolicy": "Always"})["spec"]["restartPolicy"] == "Never"


def test_it_is_the_pools_template_without_overrides() -> None:
    spec = make(pod={"nodeSelector": {"disk": "ssd"}})["spec"]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert "resources" not in spec["containers"][0]


def test_overrides_reach_the_worker_and_stand_beside_the_template() -> None:
    template = {
        "containers": [
            {"name": "worker", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}},
            {"name": "sidecar"},
        ],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot"}],
    }
    overrides = {
        "resources": {"requests": {"memory": "8Gi", "cpu": 2}},
        "nodeSelector": {"gpu": "true"},
        "tolerations": [TOLERATION],
    }
    spec = make(overrides=overrides, pod=template)["spec"]
    assert [container.get("resources") for container in spec["containers"]] == [
        {"requests": {"memory": "8Gi", "cpu": 2}},
        None,
    ]
    assert spec["nodeSelector"] == {"disk": "ssd", "gpu": "true"}
    assert spec["tolerations"] == [{"key": "spot"}, TOLERATION]


def test_nothing_else_reaches_the_pod() -> None:
    overrides = {"hostNetwork": True, "serviceAccountName": "admin", "containers": [{"name": "mine"}]}
    assert make(overrides=overrides)["spec"] == make()["spec"]


def test_pods_made_from_something_else_can_be_told_apart() -> None:
    def template_of(**given: Any) -> str:
        return str(make(**given)["metadata"]["labels"]["hatchet-operator.dev/template"])

    assert template_of() == template_of(number=1)
    assert len({template_of(), template_of(overrides={"nodeSelector": {"a": "b"}}), template_of(pod={"a": 1})}) == 3


def test_it_is_known_which_template_of_the_pool_its_code_is_of() -> None:
    of_the_pool = pool_template_of(seen_pod(make_pod(make_pool(), OperatorAccess(grpc_address="10.0.0.1:7070"))))
    assert pool_template_of(seen_pod(make(overrides={"nodeSelector": {"a": "b"}}))) == of_the_pool
    assert pool_template_of(seen_pod(make(pod={"a": 1}))) != of_the_pool


@pytest.mark.parametrize(
    ("run", "number", "want"),
    [
        pytest.param("etl-7", 0, "etl-7", id="the run's own name"),
        pytest.param("etl-7", 2, "etl-7-2", id="a later one"),
        pytest.param("a" * 253, 12, "a" * 250 + "-12", id="a long name is cut"),
        pytest.param("a" * 250 + ".bc", 1, "a" * 250 + "-1", id="not before a dot"),
    ],
)
def test_names(run: str, number: int, want: str) -> None:
    assert run_pod_name(run, number) == want
