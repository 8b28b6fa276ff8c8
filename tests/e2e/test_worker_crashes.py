"""Workers that die while they have work: only what they had runs again."""

from collections.abc import Callable

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import SLOW_FAN_OUT, executions, kill_worker, pods_of, start_pool
from tests.e2e.slow_fan_out import (
    assert_result_is_right,
    children_of,
    losses_of,
    lost_workers_of,
    output_of,
    start,
    until_children_succeeded,
)


def delete_by_force(kubectl: Kubectl, pod: str) -> None:
    kubectl("delete", "pod", pod, "--grace-period=0", "--force")


def makers_of(kubectl: Kubectl, parent: str, pod: str) -> set[str]:
    """Return the workers of a pod that children of a parent have succeeded with."""
    children = children_of(kubectl, kubectl.get("workflowrun", parent))
    done = [child for child in children if child.get("status", {}).get("phase") == "Succeeded"]
    makers: set[str] = {output_of(child, "work")["worker"] for child in done}
    return {maker for maker in makers if maker.startswith(f"{pod}/")}


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(kill_worker, id="kill -9 of its process"),
        pytest.param(delete_by_force, id="its pod is deleted by force"),
    ],
)
@pytest.mark.parametrize("has_parent", [False, True], ids=["with children", "with children and their parent"])
def test_only_what_a_dead_worker_had_runs_again(
    kubectl: Kubectl, kill: Callable[[Kubectl, str], None], has_parent: bool
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=4)
    # The first are done soon; those after them run while the test looks around, which takes a slow machine ten seconds.
    parent = start(kubectl, children=30, seconds=[1] * 10 + [6] * 20)
    until_children_succeeded(kubectl, 5)
    (parents_pod,) = {each["worker"].split("/")[0] for each in executions(kubectl) if each["executed"] == parent}
    pods = [pod["metadata"]["name"] for pod in pods_of(kubectl)]
    victim = next(pod for pod in pods if (pod == parents_pod) == has_parent)
    dead = eventually(lambda: next(iter(makers_of(kubectl, parent, victim)), None))  # that has finished a child, too

    kill(kubectl, victim)

    run, children = assert_result_is_right(kubectl, children=30)
    again = [each["executed"] for each in executions(kubectl) if each["worker"] != dead]
    makers = {child["metadata"]["name"]: output_of(child, "work")["worker"] for child in children}
    assert dead in makers.values()
    # What the dead worker finished did not run again, and everything else ran once on those that lived.
    assert sorted(again) == sorted([*(name for name, maker in makers.items() if maker != dead), *[parent]])
    lost = [child for child in children if lost_workers_of(child)]
    assert 0 < len(lost) <= 4, "as many as the dead worker had slots"
    assert lost_workers_of(run) == (1 if has_parent else 0)
    assert {lost_workers_of(child) for child in lost} == {1}
    assert losses_of(run) == 0, "it waited, and had no part in it"
    assert {losses_of(child) for child in lost} == ({1} if kill is kill_worker else {0}), "a deletion is no crash"
