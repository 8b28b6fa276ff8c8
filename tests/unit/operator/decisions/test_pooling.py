"""Which pods a pool needs, and what a pod of it looks like."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.pooling import PodView, make_pod, plan_pool, view_of
from hatchet_operator.resources.workerpool import WorkerPool

READY = PodView(name="ready", phase="Running", connected=True)
STARTING = PodView(name="starting")
LEAVING = PodView(name="leaving", phase="Running", connected=True, deleting=True)
FAILED = PodView(name="failed", phase="Failed")
BROKEN = PodView(name="broken", trouble="ImagePullBackOff: no such image")


def make_pool(replicas: int = 1, *, pod: dict[str, Any] | None = None, **metadata: Any) -> WorkerPool:
    spec = {"containers": [{"name": "worker", "image": "etl:1"}], **(pod or {})}
    return WorkerPool.model_validate(
        {
            "metadata": {"name": "main", "namespace": "default", "uid": "pool-uid"},
            "spec": {"minReplicas": replicas, "template": {"metadata": metadata, "spec": spec}},
        }
    )


@pytest.mark.parametrize(
    ("replicas", "pods", "want_create", "want_delete"),
    [
        pytest.param(2, [], 2, [], id="none there: all are made"),
        pytest.param(2, [READY, STARTING], 0, [], id="enough, even if one only starts"),
        pytest.param(2, [READY, LEAVING], 1, [], id="one that leaves is replaced already"),
        pytest.param(1, [FAILED], 1, ["failed"], id="one that ended is removed and replaced"),
        pytest.param(0, [READY, STARTING], 0, ["starting", "ready"], id="too many: the idlest go first"),
        pytest.param(1, [READY, STARTING], 0, ["starting"], id="a connected one stays"),
        pytest.param(1, [BROKEN], 0, [], id="one in trouble is the kubelet's to restart"),
    ],
)
def test_which_pods_a_pool_needs(replicas: int, pods: list[PodView], want_create: int, want_delete: list[str]) -> None:
    plan = plan_pool(make_pool(replicas), pods)
    assert (plan.create, list(plan.delete)) == (want_create, want_delete)


@pytest.mark.parametrize(
    ("pods", "want"),
    [
        pytest.param([READY], (True, "Available", "1 of 1 workers are connected"), id="available"),
        pytest.param([STARTING], (False, "PodsMissing", "0 of 1 workers are connected"), id="starting"),
        pytest.param(
            [BROKEN], (False, "PodsFailing", "pod broken: ImagePullBackOff: no such image"), id="the kubelet's words"
        ),
        pytest.param([LEAVING], (False, "PodsMissing", "0 of 1 workers are connected"), id="leaving"),
    ],
)
def test_what_a_pool_says_of_itself(pods: list[PodView], want: tuple[bool, str, str]) -> None:
    plan = plan_pool(make_pool(), pods)
    assert (plan.available, plan.reason, plan.message) == want


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param({}, None, id="nothing known"),
        pytest.param({"state": {"waiting": {"reason": "ContainerCreating"}}}, None, id="it starts"),
        pytest.param(
            {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}},
            "ErrImagePull: no such image",
            id="it can't start",
        ),
        pytest.param(
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"message": "ModuleNotFoundError: app"}},
            },
            "CrashLoopBackOff\nModuleNotFoundError: app",
            id="it crashed: its own last words",
        ),
    ],
)
def test_what_troubles_a_pod(status: dict[str, Any], want: str | None) -> None:
    pod = {"metadata": {"name": "a"}, "status": {"phase": "Pending", "containerStatuses": [status]}}
    assert view_of(pod, connected=False).trouble == want


def test_a_pod_is_its_template_and_knows_the_operator() -> None:
    pool = make_pool(pod={"nodeSelector": {"disk": "ssd"}}, labels={"team": "data"}, annotations={"note": "x"})
    pod = make_pod(pool, grpc_address="10.0.0.1:7070")
    worker = pod["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value") for entry in worker["env"]}
    assert worker["image"] == "etl:1"
    assert env["HATCHET_CLIENT_HOST_PORT"] == "10.0.0.1:7070"
    assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["metadata"]["labels"]["team"] == "data"
    assert pod["metadata"]["labels"]["hatchet-operator.dev/pool"] == "main"
    assert pod["metadata"]["annotations"] == {"note": "x"}
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "pool-uid"


def test_what_the_template_says_counts() -> None:
    own = {"name": "HATCHET_CLIENT_HOST_PORT", "value": "proxy:1"}
    pool = make_pool(pod={"containers": [{"name": "worker", "env": [own]}]})
    env = make_pod(pool, grpc_address="10.0.0.1:7070")["spec"]["containers"][0]["env"]
    assert [entry for entry in env if entry["name"] == own["name"]] == [own]


def test_a_template_is_not_changed_by_its_pods() -> None:
    pool = make_pool()
    before = pool.model_dump_json()
    make_pod(pool, grpc_address="a:1")
    assert pool.model_dump_json() == before
