"""How many pods a pool has, and what becomes of work when they change."""

from typing import Any

from tests.e2e.eventually import eventually
from tests.e2e.images import image_of
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import POOL, SLOW_FAN_OUT, make_pool, pods_of, pool_condition, start_pool, until_available
from tests.e2e.slow_fan_out import (
    assert_each_executed_once,
    assert_result_is_right,
    children_of,
    finished,
    losses_of,
    output_of,
    start,
    succeeded_children,
    until_children_succeeded,
)


def until_pods(kubectl: Kubectl, count: int, *, within_seconds: float = 120) -> None:
    eventually(lambda: len(pods_of(kubectl)) == count, within_seconds=within_seconds)


def test_a_pool_that_is_scaled_above_its_maximum_has_that_many_and_says_so(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=1, maxReplicas=2)
    kubectl("scale", f"workerpool/{POOL}", "--replicas=5")
    until_pods(kubectl, 2)
    eventually(lambda: pool_condition(kubectl, "ScalingLimited").get("reason") == "TooManyReplicas")
    until_available(kubectl)
    assert "asks for 5 pods; maxReplicas allows 2" in pool_condition(kubectl, "ScalingLimited")["message"]
    assert len(pods_of(kubectl)) == 2
    kubectl("scale", f"workerpool/{POOL}", "--replicas=1")
    eventually(lambda: not pool_condition(kubectl, "ScalingLimited"))


def test_a_pool_goes_from_zero_to_its_maximum_and_back(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=1, maxReplicas=3, slots=2, idleBeforeScaleIn="5s")
    kubectl("scale", f"workerpool/{POOL}", "--replicas=0")
    until_pods(kubectl, 0)

    start(kubectl, children=60, seconds=1)  # half a minute for the first pod alone, and the others come meanwhile
    until_pods(kubectl, 3)
    parent, children = assert_result_is_right(kubectl, children=60)

    assert len({output_of(child, "work")["worker"] for child in children}) == 3, "each pod worked"
    assert not any(losses_of(run) for run in (parent, *children))
    until_pods(kubectl, 0)


def test_kubectl_scale_sets_how_many_pods_are_kept(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=1)
    for replicas in (3, 1):
        kubectl("scale", f"workerpool/{POOL}", f"--replicas={replicas}")
        until_pods(kubectl, replicas)
    until_available(kubectl)


def test_pods_that_are_busy_stay_when_a_pool_shrinks(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=3, slots=5, idleBeforeScaleIn="1s")
    start(kubectl, children=40, seconds=2)
    until_children_succeeded(kubectl, 5)

    kubectl("scale", f"workerpool/{POOL}", "--replicas=1")

    parent, children = assert_result_is_right(kubectl, children=40)
    assert not any(losses_of(run) for run in (parent, *children))
    until_pods(kubectl, 1)


def test_a_run_finishes_with_the_definition_it_began_with_while_pods_are_replaced(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5, pod={"environment": {"WORKER_VERSION": "1"}})
    old = {pod["metadata"]["name"] for pod in pods_of(kubectl)}
    start(kubectl, children=60, seconds=1, pause=0.5)  # half a minute, of which new pods need a part to start
    until_children_succeeded(kubectl, 5)

    # Another image, too: that of an example, which the program is mounted into.
    pod = {"image": image_of("fanout"), "environment": {"WORKER_VERSION": "2"}}
    with kubectl.watched("workerpool", POOL, "{.status.readyReplicas}") as connected:
        kubectl.apply_object(make_pool(SLOW_FAN_OUT.stem, minReplicas=2, slots=5, pod=pod))
        eventually(lambda: not {pod["metadata"]["name"] for pod in pods_of(kubectl)} & old)
        assert min(map(int, connected())) == 2, "new workers were there before old ones drained"

    parent, children = assert_result_is_right(kubectl, children=60)
    assert parent["status"]["steps"].keys() == {"spawn"}
    assert not any(losses_of(run) for run in (parent, *children)), "nothing was taken from a pod that went"
    makers = {output_of(child, "work")["worker"].split("/")[0] for child in children}
    assert makers & old, "old pods worked"
    assert makers - old, "new ones took over before the run was over"
    assert {pod["spec"]["containers"][0]["image"] for pod in pods_of(kubectl)} == {image_of("fanout")}

    after = finished(kubectl, start(kubectl, "after", children=3))
    assert output_of(after, "count") == {"children": 3}


def test_a_template_that_does_not_start_is_mended_by_the_next_while_runs_go_on(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, slots=5)
    old = {pod["metadata"]["name"] for pod in pods_of(kubectl)}
    start(kubectl, children=100, seconds=1, pause=0.5)
    until_children_succeeded(kubectl, 3)

    def roll_out(**pod: Any) -> None:
        kubectl.apply_object(make_pool(SLOW_FAN_OUT.stem, minReplicas=2, slots=5, pod=pod))

    roll_out(image="localhost/no-such-image:1")
    eventually(lambda: pool_condition(kubectl, "RolledOut").get("reason") == "PodsFailing")
    said = pool_condition(kubectl, "RolledOut")
    assert said["status"] == "False"
    assert "no-such-image" in said["message"]
    assert "PodsFailing" in kubectl("get", "wp", POOL)
    eventually(lambda: "no-such-image" in kubectl("describe", "wp", POOL).partition("Events:")[2])
    available = pool_condition(kubectl, "Available")
    assert (available["status"], available["message"]) == ("True", "2 of 2 workers are connected")
    until_children_succeeded(kubectl, succeeded_children(kubectl) + 5)
    assert old < {pod["metadata"]["name"] for pod in pods_of(kubectl)}, "old pods work on beside the one that fails"

    roll_out(environment={"MENDED": "yes"})
    kubectl.wait("condition=RolledOut", f"workerpool/{POOL}", within_seconds=120)

    assert not {pod["metadata"]["name"] for pod in pods_of(kubectl)} & old
    parent, children = assert_result_is_right(kubectl, children=100)
    assert not any(losses_of(run) for run in (parent, *children)), "nothing was taken from a pod that went"
    makers = {output_of(child, "work")["worker"].split("/")[0] for child in children}
    assert makers & old, "old pods worked"


def test_each_child_runs_once_when_a_pool_grows_under_load(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=1, slots=5)
    start(kubectl, children=150, seconds=1)  # half a minute for the first pod alone, and the others come meanwhile
    until_children_succeeded(kubectl, 5)

    kubectl("scale", f"workerpool/{POOL}", "--replicas=3")

    parent, children = assert_result_is_right(kubectl, children=150)
    assert_each_executed_once(kubectl, parent, children)
    assert len({child["status"]["steps"]["work"]["worker"] for child in children_of(kubectl, parent)}) == 3
