"""What administrators do: they drain nodes, delete namespaces and restart the operator under load."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.operators import (
    DEPLOYMENT,
    errors_in_log,
    is_evicted,
    leader_of,
    metric,
    operator_pods,
    until_leading,
)
from tests.e2e.pools import SLOW_FAN_OUT, pods_of, start_pool, until_no_worker_is_left
from tests.e2e.slow_fan_out import (
    assert_each_executed_once,
    assert_result_is_right,
    finished,
    losses_of,
    make_run,
    start,
    until_children_succeeded,
)

NOW = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
FINISHED: Json = {
    "phase": "Succeeded",
    "reason": "Completed",
    "startedAt": NOW,
    "finishedAt": NOW,
    "duration": "0.004s",
    "steps": {
        "spawn": {"phase": "Succeeded", "startedAt": NOW, "finishedAt": NOW, "worker": "w", "output": '{"numbers": []}'}
    },
    "conditions": [
        {"type": kind, "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": NOW}
        for kind in ("Finished", "Succeeded")
    ],
}


def test_a_fan_out_goes_on_after_its_node_was_drained(kubectl: Kubectl, operator: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    leader = until_leading(operator)
    (standby,) = set(operator_pods(operator)) - {leader}
    start(kubectl, children=60, seconds=1)
    until_children_succeeded(kubectl, 10)
    node = pods_of(kubectl)[0]["spec"]["nodeName"]

    try:
        # Of the operators one has to stay where it is, on the only node that there is; a drain would wait for ever.
        others = "--pod-selector=app.kubernetes.io/name!=hatchet-operator"
        kubectl("drain", node, "--force", "--ignore-daemonsets", "--delete-emptydir-data", others)
        eventually(lambda: is_evicted(operator, leader))
        assert not is_evicted(operator, standby), "the budget keeps one"
        eventually(lambda: leader_of(operator) == standby)
    finally:
        kubectl("uncordon", node)

    _, children = assert_result_is_right(kubectl, children=60)
    assert sum(losses_of(child) for child in children) <= 10, "what two workers had, at most once each"
    until_leading(operator)


def test_a_namespace_that_is_deleted_in_the_middle_of_a_fan_out_goes_as_a_whole(
    kubectl: Kubectl, operator: Kubectl
) -> None:
    leader = until_leading(operator)
    until_no_worker_is_left(operator)  # one that has not come over to a new leader yet would be counted later
    eventually(lambda: metric(operator, leader, "hatchet_operator_workers_connected") == 0)
    begun = datetime.now(UTC).isoformat()
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    start(kubectl, children=60, seconds=1)
    until_children_succeeded(kubectl, 10)
    assert metric(operator, leader, "hatchet_operator_workers_connected") == 2

    kubectl("delete", "namespace", kubectl.namespace, "--timeout=140s")

    eventually(lambda: metric(operator, leader, "hatchet_operator_workers_connected") == 0)
    assert until_leading(operator) == leader, "it did not crash"
    assert errors_in_log(operator, leader, since=begun) == []
    eventually(lambda: kubectl.namespace not in operator("logs", leader, "--since=10s"))  # nothing is tried for ever


def test_a_restart_of_the_deployment_is_not_noticed(kubectl: Kubectl, operator: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    until_leading(operator)
    start(kubectl, children=60, seconds=1, pause=0.1)
    until_children_succeeded(kubectl, 5)

    operator("rollout", "restart", DEPLOYMENT)

    assert_each_executed_once(kubectl, *assert_result_is_right(kubectl, children=60))
    until_leading(operator)


@pytest.mark.timeout(900)  # 5000 runs are made one by one
def test_an_operator_that_finds_5000_finished_runs_is_ready_in_seconds_and_writes_to_none(
    kubectl: Kubectl, operator: Kubectl
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    operator("scale", DEPLOYMENT, "--replicas=0")
    operator("wait", "--for=delete", "pods", "--selector=app.kubernetes.io/name=hatchet-operator", "--timeout=120s")
    asyncio.run(create_finished_runs(kubectl.namespace, 5000))
    before = versions_of_runs(kubectl)
    assert len(before) == 5000

    operator("scale", DEPLOYMENT, "--replicas=2")
    leader = until_leading(operator)
    eventually(lambda: "operator ready" in times_of(operator("logs", leader)))
    said = times_of(operator("logs", leader))
    # By the operator's own clock: how long the cluster needs to start the pod is not the question.
    assert said["operator ready"] - said["leading"] < timedelta(seconds=30)

    finished(kubectl, start(kubectl, children=10))
    after = versions_of_runs(kubectl)
    assert {name: after[name] for name in before} == before


def times_of(log: str) -> dict[str, datetime]:
    """Return when an operator said what, for the last time."""
    said = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {line["message"]: datetime.strptime(line["time"], "%Y-%m-%d %H:%M:%S,%f") for line in said}


async def create_finished_runs(namespace: str, count: int) -> None:
    """Make runs as the operator leaves them; it must be away, or it would take them for new ones."""
    numbers = iter(range(count))
    async with Api(find_endpoint(None), may_write=always) as api:

        async def create_one_by_one() -> None:
            for number in numbers:
                body = make_run("parent", {"children": 0}, f"finished-{number}")
                run = await api.create(RUNS, namespace, body)
                run["status"] = FINISHED
                await api.replace(RUNS, namespace, run["metadata"]["name"], run, subresource="status")

        async with asyncio.TaskGroup() as writers:
            for _ in range(16):
                writers.create_task(create_one_by_one())


def versions_of_runs(kubectl: Kubectl) -> dict[str, str]:
    columns = "NAME:.metadata.name,VERSION:.metadata.resourceVersion"
    lines = kubectl("get", "workflowruns", "--no-headers", f"--output=custom-columns={columns}").splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}
