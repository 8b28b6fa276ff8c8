"""The cluster's own record keepers are away for half a minute, in the middle of a fan-out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.cluster.kind import KindCluster
from tests.e2e.cluster.native import NativeCluster
from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl, new_namespace
from tests.e2e.operators import until_leading
from tests.e2e.pools import SLOW_FAN_OUT, pods_of, start_pool
from tests.e2e.slow_fan_out import assert_each_executed_once, assert_result_is_right, start, until_children_succeeded

OUTAGE_SECONDS = 30

pytestmark = pytest.mark.timeout(600)  # after an outage Kubernetes' own controllers take up to a minute to come back


@contextmanager
def killed(cluster: KindCluster | NativeCluster, kubectl: Kubectl, *components: str) -> Iterator[None]:
    """Kill components; at the end of the block they are started, and the API server answers again."""
    for component in components:
        cluster.kill(component)
    try:
        yield
    finally:
        for component in components:
            cluster.start(component)
        eventually(lambda: kubectl("get", "--raw=/readyz", may_fail=True) == "ok")


def until_controllers_are_back(kubectl: Kubectl) -> None:
    """Wait for Kubernetes' own controllers, which try ever more rarely while nobody answers: later tests need them."""
    with new_namespace("after-outage"):
        pass  # it has its service account
    kubectl("delete", "workflowrun", "fan-out")
    eventually(lambda: not kubectl.list("workflowruns"))  # the collector has been here
    kubectl("delete", "pods", "--all")

    def new_pods_run() -> bool:
        pods = pods_of(kubectl)
        return len(pods) == 2 and all(pod["status"].get("phase") == "Running" for pod in pods)

    eventually(new_pods_run)


@pytest.mark.parametrize(
    "components",
    [
        pytest.param(["apiserver"], id="the API server"),
        pytest.param(["apiserver", "etcd"], id="the API server and etcd"),
    ],
)
def test_each_of_100_children_runs_once_when_the_record_is_away(
    kubectl: Kubectl, operator: Kubectl, cluster: KindCluster | NativeCluster, components: list[str]
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=10)
    until_leading(operator)
    start(kubectl, children=100, seconds=1, pause=0.1)
    until_children_succeeded(kubectl, 10)

    with killed(cluster, kubectl, *components):
        time.sleep(OUTAGE_SECONDS)  # what is tested: leases expire, calls are held open, watches break

    assert_each_executed_once(kubectl, *assert_result_is_right(kubectl, children=100))
    until_controllers_are_back(kubectl)


def test_each_of_100_children_runs_once_when_etcd_is_killed_and_comes_back_at_once(
    kubectl: Kubectl, operator: Kubectl, cluster: KindCluster | NativeCluster
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=10)
    until_leading(operator)
    start(kubectl, children=100, seconds=1, pause=0.1)
    until_children_succeeded(kubectl, 10)

    with killed(cluster, kubectl, "etcd"):
        pass

    assert_each_executed_once(kubectl, *assert_result_is_right(kubectl, children=100))
    until_controllers_are_back(kubectl)
