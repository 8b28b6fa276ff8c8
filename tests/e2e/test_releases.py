"""From an earlier version to this one and back, while a fan-out runs: `make e2e-upgrade`, as it takes two builds.

Order and promises are those of docs/upgrades.md: chart and CRDs, then workers; back by `helm rollback`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.images import EARLIER_TAG, EARLIER_VARIABLE, image_of, image_values
from tests.e2e.kubectl import Json, Kubectl, new_namespace
from tests.e2e.operators import DEPLOYMENT, leader_of, operator_pods
from tests.e2e.pools import POOL, SLOW_FAN_OUT, pods_of, start_pool
from tests.e2e.slow_fan_out import (
    assert_result_is_right,
    finished,
    losses_of,
    start,
    succeeded_children,
    until_children_succeeded,
)
from tests.e2e.test_upgrades import followed
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

CHILDREN = 500
SECONDS = 3  # each, ten at a time: two minutes and a half


@pytest.fixture
def earlier() -> Path:
    """The source of the earlier version."""
    folder = os.environ.get(EARLIER_VARIABLE)
    if not folder:
        pytest.skip("needs a version to come from: make e2e-upgrade FROM=REF")
    return Path(folder)


@contextmanager
def installed(chart: Path) -> Iterator[Kubectl]:
    """Have an earlier version's chart installed; the Kubectl of its namespace."""
    with new_namespace("hatchet-operator") as operator:
        helm = Helm(find_helm(), operator.namespace)
        helm("install", RELEASE, str(chart), *image_values(EARLIER_TAG))
        try:
            operator("rollout", "status", DEPLOYMENT, "--timeout=120s")
            yield operator
        finally:
            helm("uninstall", RELEASE)


def versions_of_crds(kubectl: Kubectl) -> dict[str, tuple[list[str], list[str]]]:
    """Return which versions of each of our kinds were ever stored, and which are served."""
    ours = [crd for crd in kubectl.list("crds") if crd["spec"]["group"] == "hatchet-operator.dev"]
    return {
        crd["spec"]["names"]["plural"]: (
            crd["status"]["storedVersions"],
            [version["name"] for version in crd["spec"]["versions"] if version["served"]],
        )
        for crd in ours
    }


def until_another_leads(operator: Kubectl, before: set[str]) -> float:
    """Wait until none of the operators from before is there, and one of the new ones leads; return how long it took."""
    began = time.monotonic()
    operator("rollout", "status", DEPLOYMENT, "--timeout=120s")
    eventually(lambda: leader_of(operator) in operator_pods(operator) and not before & set(operator_pods(operator)))
    return time.monotonic() - began


def give_new_workers(kubectl: Kubectl) -> None:
    """Roll out workers of this version, beside those that have work."""
    template = kubectl.get("workerpool", POOL)["spec"]["template"]
    template["spec"]["containers"][0]["image"] = image_of("worker")
    kubectl.apply_object(
        {
            "apiVersion": "hatchet-operator.dev/v1alpha1",
            "kind": "WorkerPool",
            "metadata": {"name": POOL},
            "spec": {**kubectl.get("workerpool", POOL)["spec"], "template": template},
        }
    )
    eventually(lambda: any(_image_of(pod) == image_of("worker") for pod in pods_of(kubectl)))


def _image_of(pod: Json) -> str:
    image: str = pod["spec"]["containers"][0]["image"]
    return image


@pytest.mark.timeout(1200)
def test_nothing_is_lost_on_the_way_to_this_version_and_back(earlier: Path) -> None:
    with installed(earlier / "charts/hatchet-operator") as operator, new_namespace("e2e") as kubectl:
        helm = Helm(find_helm(), operator.namespace)
        start_pool(
            kubectl, SLOW_FAN_OUT, pod={"image": image_of("worker", EARLIER_TAG)}, minReplicas=2, maxReplicas=2, slots=5
        )
        start(kubectl, "before", children=5)
        kept = finished(kubectl, "before")
        start(kubectl, children=CHILDREN, seconds=SECONDS)
        until_children_succeeded(kubectl, 10)
        with followed(kubectl) as logs:
            pods = set(operator_pods(operator))
            helm("upgrade", RELEASE, str(CHART), *image_values())
            print(f"this version leads {until_another_leads(operator, pods):.0f} s after the upgrade")
            until_children_succeeded(kubectl, succeeded_children(kubectl) + 30)
            versions = versions_of_crds(kubectl)
            give_new_workers(kubectl)
            until_children_succeeded(kubectl, succeeded_children(kubectl) + 30)

            pods = set(operator_pods(operator))
            helm("rollback", RELEASE, "1")
            print(f"the earlier one leads {until_another_leads(operator, pods):.0f} s after the rollback")
            done = succeeded_children(kubectl)
            assert done < CHILDREN, "the fan-out was over before the way back was"
            parent, children = assert_result_is_right(kubectl, children=CHILDREN, within_seconds=400)
            pause, repeated = logs.longest_pause(), logs.repeated()
        losses = {run["metadata"]["name"]: losses_of(run) for run in (parent, *children) if losses_of(run)}
        print(f"{CHILDREN} children, {done} of them before the end of the rollback; longest pause {pause:.1f} s")
        print(f"executed twice: {len(repeated)}; attempts that lost their worker: {len(losses)}")
        assert (repeated, losses) == ({}, {})
        again = kubectl.get("workflowrun", "before")
        assert (again["metadata"]["uid"], again["status"]["phase"]) == (kept["metadata"]["uid"], "Succeeded")
        print(f"versions of CRDs, stored and served: {versions}")
        assert all(stored == ["v1alpha1"] and "v1alpha1" in served for stored, served in versions.values())
