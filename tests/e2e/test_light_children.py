"""Children that are recorded with their result: one write each, a killed operator, a retried parent."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster.kind import KindCluster
from tests.e2e.cluster.native import NativeCluster
from tests.e2e.kubectl import Kubectl
from tests.e2e.operators import container_of, until_leading
from tests.e2e.pools import executions, start_pool
from tests.e2e.slow_fan_out import assert_result_is_right, children_of, start, until_children_succeeded
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

PROGRAM = Path(__file__).parent / "programs/light.py"
CHILDREN = 60


@contextmanager
def light_runs(operator: Kubectl) -> Iterator[str]:
    """Have the release record children with their result in this block; gives the pod that leads."""
    helm = Helm(find_helm(), operator.namespace)
    upgrade = ("upgrade", RELEASE, str(CHART), "--reuse-values")
    helm(*upgrade, "--set=runs.light=true")
    try:
        yield until_leading(operator)
    finally:
        helm(*upgrade, "--set=runs.light=false")
        until_leading(operator)


def written_once(kubectl: Kubectl) -> set[str]:
    """Names of the runs whose create had their outcome: a status that is written later has an entry of its own."""
    listed = kubectl("get", "workflowruns", "--show-managed-fields", "--output=json")
    fields = {run["metadata"]["name"]: run["metadata"]["managedFields"] for run in json.loads(listed)["items"]}
    return {name for name, entries in fields.items() if all("subresource" not in entry for entry in entries)}


def test_a_retried_parent_finds_those_that_were_recorded_before_the_operator_was_killed(
    kubectl: Kubectl, operator: Kubectl, cluster: KindCluster | NativeCluster
) -> None:
    with light_runs(operator) as leader:
        start_pool(kubectl, PROGRAM, minReplicas=1)
        start(kubectl, children=CHILDREN)
        until_children_succeeded(kubectl, 10)
        recorded = {child["metadata"]["name"] for child in children_of(kubectl, kubectl.get("workflowrun", "fan-out"))}
        cluster.kill_container(container_of(operator, leader))
        parent, children = assert_result_is_right(kubectl, children=CHILDREN)
        assert len(written_once(kubectl)) > CHILDREN / 2  # the others took longer than a second
    executed = Counter(each["executed"] for each in executions(kubectl))
    assert executed.pop("fan-out") == 2, "the parent's attempts"
    assert executed.keys() == {child["metadata"]["name"] for child in children}
    again = {name for name, count in executed.items() if count > 1}
    print(f"of {CHILDREN} children {len(recorded)} were recorded before the kill, and {len(again)} ran again")
    assert not again & recorded
    assert children_of(kubectl, parent) == children, "runs like any other, also without the setting"
