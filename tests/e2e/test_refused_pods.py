"""Pods that can't be had: the pool says why in the words of whoever refused, and goes on when the reason is gone."""

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import POOL, SLOW_FAN_OUT, make_pool, pool_condition, start_pool, until_available
from tests.e2e.slow_fan_out import assert_result_is_right, finished, start, status_of


def test_a_pool_and_its_runs_say_that_a_quota_refuses_pods(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    kubectl("create", "quota", "full", "--hard=pods=1")
    eventually(lambda: kubectl.get("quota", "full").get("status", {}).get("used", {}).get("pods") == "1")

    kubectl("scale", f"workerpool/{POOL}", "--replicas=2")

    eventually(lambda: "exceeded quota: full" in pool_condition(kubectl, "Available").get("message", ""))
    available = pool_condition(kubectl, "Available")
    assert (available["status"], available["reason"]) == ("False", "FailedCreate")
    assert pool_condition(kubectl, "Valid")["status"] == "True"
    start(kubectl, children=5)
    assert_result_is_right(kubectl, children=5)  # by the pod that is there

    kubectl("patch", "quota", "full", '--patch={"spec": {"hard": {"pods": "0"}}}')
    eventually(lambda: kubectl.get("quota", "full")["status"]["hard"]["pods"] == "0")
    kubectl("delete", "pods", "--all")
    waiting = start(kubectl, "waiting", children=0)
    eventually(lambda: "exceeded quota: full" in status_of(kubectl, waiting).get("message", ""))
    assert status_of(kubectl, waiting)["phase"] == "Pending"

    kubectl("delete", "quota", "full")
    until_available(kubectl)
    assert finished(kubectl, waiting)["status"]["phase"] == "Succeeded"


def test_a_pool_and_its_runs_say_that_an_image_is_missing(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    program = SLOW_FAN_OUT.stem
    kubectl("scale", f"workerpool/{POOL}", "--replicas=0")
    eventually(lambda: not kubectl.list("pods"))

    kubectl.apply_object(make_pool(program, {"image": "localhost/no-such-image:1"}, minReplicas=0, maxReplicas=1))
    start(kubectl, children=5)

    def pool_says_why() -> bool:
        available = pool_condition(kubectl, "Available")
        said = (available.get("status"), available.get("reason"))
        return said == ("False", "PodsFailing") and "no-such-image" in available["message"]

    eventually(pool_says_why)
    eventually(lambda: "no-such-image" in kubectl.get("workflowrun", "fan-out")["status"].get("message", ""))
    said = kubectl.get("workflowrun", "fan-out")["status"]
    assert said["phase"] == "Pending", said

    kubectl.apply_object(make_pool(program, minReplicas=0, maxReplicas=1))
    assert_result_is_right(kubectl, children=5)


def test_a_pool_says_what_its_worker_said_when_it_crashed(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "program-broken", "--from-literal=broken.py=raise SystemExit('no database')")
    kubectl.apply_object(make_pool("broken"))

    def says_why() -> bool:
        available = pool_condition(kubectl, "Available")
        return available.get("reason") == "PodsFailing" and "no database" in available["message"]

    eventually(says_why)
    eventually(lambda: kubectl.list("pods")[0]["status"]["containerStatuses"][0]["restartCount"] >= 2)
    assert len(kubectl.list("pods")) == 1, "the kubelet's back-off is enough: no pod is made instead of another"
