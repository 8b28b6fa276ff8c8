"""What is read of a Pod, whatever is absent from it or odd about it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any

import pytest

from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import (
    ContainerStatus,
    Pod,
    PodCondition,
    PodOwner,
    Terminated,
    Waiting,
    literal_env,
    read_pod,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_object(*, metadata: Json | None = None, spec: Json | None = None, status: Json | None = None) -> Json:
    """Make a Pod as the API server has it, with a worker and, before it in the status, a sidecar."""
    return {
        "metadata": {"name": "a", "namespace": "shop", "uid": "uid-a", **(metadata or {})},
        "spec": {"containers": [{"name": "worker"}, {"name": "a-sidecar"}], **(spec or {})},
        "status": {"phase": "Running", **(status or {})},
    }


def test_everything_that_is_said_is_read() -> None:
    owner = {"apiVersion": "v1", "kind": "WorkerPool", "name": "main", "uid": "pool-uid", "controller": True}
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": "killed", "startedAt": "2026-01-01T12:00:00Z"}
    pod = read_pod(
        make_object(
            metadata={"labels": {"team": "data"}, "annotations": {"note": "x"}, "ownerReferences": [owner]},
            spec={"restartPolicy": "Never", "nodeName": "n1", "schedulingGates": [{"name": "example.com/quota"}]},
            status={
                "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"}],
                "containerStatuses": [
                    {"name": "a-sidecar", "restartCount": 0, "state": {"running": {"startedAt": None}}},
                    {
                        "name": "worker",
                        "restartCount": 2,
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                        "lastState": {"terminated": ended | {"finishedAt": "2026-01-01T12:00:00Z"}},
                    },
                ],
            },
        )
    )
    sidecar = ContainerStatus(name="a-sidecar", is_running=True)
    worker = ContainerStatus(
        name="worker",
        restart_count=2,
        waiting=Waiting(reason="CrashLoopBackOff", message="back-off"),
        last_terminated=Terminated(
            exit_code=137, reason="OOMKilled", message="killed", started_at=NOON, finished_at=NOON
        ),
    )
    assert pod == Pod(
        name="a",
        namespace="shop",
        uid="uid-a",
        labels={"team": "data"},
        annotations={"note": "x"},
        owners=(PodOwner(kind="WorkerPool", uid="pool-uid"),),
        worker_name="worker",
        worker_env={},
        restart_policy="Never",
        node="n1",
        scheduling_gates=("example.com/quota",),
        phase="Running",
        conditions={"Ready": PodCondition(status="False", reason="ContainersNotReady", message="m")},
        containers=(sidecar, worker),
    )
    assert pod.worker == worker, "whatever the order of the kubelet"
    assert pod.ref == ObjectRef("shop", "a")
    assert (pod.owner_uid("WorkerPool"), pod.owner_uid("WorkflowRun")) == ("pool-uid", None)


NOTHING: Json = {"metadata": {"name": "a"}}


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(NOTHING, id="an end that nobody told: its name is all that is known"),
        pytest.param(NOTHING | {"spec": None, "status": None}, id="null where an object is expected"),
        pytest.param(NOTHING | {"spec": {}, "status": {}}, id="no containers, and no word of them"),
        pytest.param(NOTHING | {"spec": {"containers": None}, "status": {"containerStatuses": None}}, id="null lists"),
        pytest.param(
            {"metadata": {"name": "a", "labels": None, "annotations": None, "ownerReferences": None}},
            id="null in the metadata",
        ),
    ],
)
def test_what_is_absent_is_empty(obj: Json) -> None:
    pod = read_pod(obj)
    assert (pod.worker, pod.phase, pod.node, pod.is_over, pod.is_being_deleted) == (None, "", None, False, False)
    assert (pod.labels, pod.annotations, pod.owners, pod.worker_env) == ({}, {}, (), {})
    assert pod.condition("Ready") == PodCondition()
    assert pod.restart_policy == "Always", "as Kubernetes has it"


def test_a_pod_that_waits_for_its_init_containers() -> None:
    ended = {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T12:00:00Z"}}
    pod = read_pod(
        make_object(
            spec={"initContainers": [{"name": "first"}, {"name": "second"}]},
            status={
                "phase": "Pending",
                "initContainerStatuses": [
                    {"name": "first", "state": ended},
                    {"name": "second", "restartCount": 3, "state": {"running": {"startedAt": "2026-01-01T12:00:00Z"}}},
                ],
                "containerStatuses": [{"name": "worker", "state": {"waiting": {"reason": "PodInitializing"}}}],
            },
        )
    )
    assert pod.init_containers == (
        ContainerStatus(name="first", terminated=Terminated(exit_code=0, finished_at=NOON)),
        ContainerStatus(name="second", restart_count=3, is_running=True, running_since=NOON),
    )
    assert pod.worker == ContainerStatus(name="worker", waiting=Waiting(reason="PodInitializing"))


def test_a_pod_that_terminates_is_not_over() -> None:
    pod = read_pod(make_object(metadata={"deletionTimestamp": "2026-01-01T12:00:00Z"}))
    assert pod.is_being_deleted
    assert pod.deletion_timestamp == NOON
    assert not pod.is_over


def test_an_evicted_pod_is_over_and_says_why() -> None:
    """The kubelet leaves out what it knew of the containers, and what it does not know is null."""
    status = {"phase": "Failed", "reason": "Evicted", "message": "low on memory", "containerStatuses": None}
    pod = read_pod(make_object(status=status))
    assert (pod.is_over, pod.reason, pod.message, pod.worker) == (True, "Evicted", "low on memory", None)


def test_of_two_conditions_of_one_type_the_first_counts() -> None:
    conditions = [{"type": "Ready", "status": "False"}, {"type": "Ready", "status": "True"}]
    assert read_pod(make_object(status={"conditions": conditions})).condition("Ready").status == "False"


@pytest.mark.parametrize(
    ("env", "want"),
    [
        pytest.param(None, {}, id="none"),
        pytest.param([{"name": "A", "value": "1"}, {"name": "B"}], {"A": "1", "B": None}, id="an empty one"),
        pytest.param([{"name": "A", "valueFrom": {}}, {"name": "A", "value": "1"}], {"A": None}, id="the first counts"),
        pytest.param({"A": "1"}, {}, id="a mapping, as some templates have it"),
        pytest.param(["A=1", 3, None, {"name": 3, "value": "1"}, {"value": "1"}], {}, id="what is no variable"),
    ],
)
def test_variables_of_a_container(env: Any, want: dict[str, str | None]) -> None:
    assert literal_env({"env": env}) == want


def test_a_pod_is_a_value() -> None:
    """Nobody changes what others have, and equal Pods are equal."""
    pod = read_pod(make_object())
    with pytest.raises(FrozenInstanceError):
        pod.phase = "Failed"  # type: ignore[misc]  # that is what is tested
    assert not hasattr(pod, "__dict__"), "thousands are kept"
    assert pod == read_pod(make_object())
