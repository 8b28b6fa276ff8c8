"""Operators that die in the middle of a fan-out: nothing is lost, and nothing runs twice."""

import pytest

from tests.e2e.cluster.kind import KindCluster
from tests.e2e.cluster.native import NativeCluster
from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.operators import container_of, leader_of, operator_pods, restarts_of, until_leading
from tests.e2e.pools import SLOW_FAN_OUT, start_pool
from tests.e2e.slow_fan_out import assert_each_executed_once, assert_result_is_right, start, until_children_succeeded


@pytest.mark.parametrize("all_of_them", [False, True], ids=["the leader", "both operators"])
def test_each_child_runs_once_when_the_pod_is_deleted_by_force(
    kubectl: Kubectl, operator: Kubectl, all_of_them: bool
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    leader = until_leading(operator)
    start(kubectl, children=60, seconds=1, pause=0.1)
    until_children_succeeded(kubectl, 5)

    victims = operator_pods(operator) if all_of_them else [leader]
    operator("delete", "pod", *victims, "--grace-period=0", "--force")

    assert_each_executed_once(kubectl, *assert_result_is_right(kubectl, children=60))
    eventually(lambda: leader_of(operator) not in victims)  # by now, or once the kubelet has ended the container


@pytest.mark.parametrize("all_of_them", [False, True], ids=["the leader", "both operators"])
def test_each_child_runs_once_when_the_process_is_killed(
    kubectl: Kubectl, operator: Kubectl, cluster: KindCluster | NativeCluster, all_of_them: bool
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    leader = until_leading(operator)
    start(kubectl, children=60, seconds=1, pause=0.1)
    until_children_succeeded(kubectl, 5)

    victims = operator_pods(operator) if all_of_them else [leader]
    before = {pod: restarts_of(operator, pod) for pod in operator_pods(operator)}
    for victim in victims:
        cluster.kill_container(container_of(operator, victim))

    assert_each_executed_once(kubectl, *assert_result_is_right(kubectl, children=60))
    want = {pod: count + 1 if pod in victims else count for pod, count in before.items()}
    eventually(lambda: {pod: restarts_of(operator, pod) for pod in before} == want)
