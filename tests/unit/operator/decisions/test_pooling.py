"""Which pods a pool needs, and what a pod of it looks like."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.pooling import make_pod, trouble_of
from hatchet_operator.resources.workerpool import WorkerPool


def make_pool(replicas: int = 1, *, pod: dict[str, Any] | None = None, **metadata: Any) -> WorkerPool:
    spec = {"containers": [{"name": "worker", "image": "etl:1"}], **(pod or {})}
    return WorkerPool.model_validate(
        {
            "metadata": {"name": "main", "namespace": "default", "uid": "pool-uid"},
            "spec": {"minReplicas": replicas, "template": {"metadata": metadata, "spec": spec}},
        }
    )


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
    assert trouble_of(pod) == want


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
