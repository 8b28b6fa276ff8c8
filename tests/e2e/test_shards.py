"""Three operators that share six shards: one dies in a fan-out of two namespaces, and nothing runs twice."""

from collections import Counter
from collections.abc import Iterator

import pytest

from hatchet_operator.decisions.shards import shard_of
from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.operators import DEPLOYMENT, operator_pods, until_leading
from tests.e2e.pools import SLOW_FAN_OUT, start_pool
from tests.e2e.slow_fan_out import assert_each_executed_once, assert_result_is_right, start, until_children_succeeded
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

SHARDS = 6


def leaders(operator: Kubectl) -> list[str]:
    """Return the pod that leads each shard."""
    leases = {lease["metadata"]["name"]: lease["spec"] for lease in operator.list("leases")}
    specs = [leases.get(f"{RELEASE}-shard-{shard}", {}) for shard in range(SHARDS)]
    return [(spec.get("holderIdentity") or "").partition("_")[0] for spec in specs]


def until_shared(operator: Kubectl) -> None:
    """Wait until three pods lead two shards each."""
    operator("rollout", "status", DEPLOYMENT, "--timeout=240s")

    def shared() -> bool:
        return Counter(leaders(operator)) == dict.fromkeys(operator_pods(operator), 2)

    eventually(shared)


@pytest.fixture
def sharded(operator: Kubectl) -> Iterator[None]:
    """Have the release deal six shards to three operators, and afterwards be as it was."""
    helm = Helm(find_helm(), operator.namespace)
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", f"--set=replicas=3,shards={SHARDS}")
    try:
        until_shared(operator)
        yield
    finally:
        helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=replicas=2,shards=1")
        until_leading(operator)


@pytest.mark.usefixtures("sharded")
def test_each_child_runs_once_when_one_of_three_operators_is_deleted_by_force(
    operator: Kubectl, kubectl: Kubectl, elsewhere: Kubectl
) -> None:
    places = (kubectl, elsewhere)
    for place in places:
        start_pool(place, SLOW_FAN_OUT, minReplicas=1, slots=10)
    for place in places:
        start(place, children=40, seconds=1, pause=0.1)
    for place in places:
        until_children_succeeded(place, 5)
    victim = leaders(operator)[shard_of(kubectl.namespace, SHARDS)]
    operator("delete", "pod", victim, "--grace-period=0", "--force")
    for place in places:
        assert_each_executed_once(place, *assert_result_is_right(place, children=40))
    until_shared(operator)
    assert victim not in leaders(operator)
