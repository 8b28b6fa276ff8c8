"""Pods that can't be had or kept: pool and runs say why, in the words of whoever refused or ended them."""

import re
from pathlib import Path

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.pools import (
    POOL,
    SLOW_FAN_OUT,
    give_pods,
    give_program,
    make_pool,
    pods_of,
    pool_condition,
    start_pool,
    until_available,
)
from tests.e2e.slow_fan_out import assert_result_is_right, finished, make_run, start, status_of

PROGRAMS = Path(__file__).parent / "programs"


AT_ONCE = {"number": 0, "seconds": 0}


def apply_pool_with(kubectl: Kubectl, **pod: object) -> None:
    """Have the pool make pods with these fields; no more of them than runs need."""
    pool = make_pool(SLOW_FAN_OUT.stem, maxReplicas=1)
    pool["spec"]["template"]["spec"].update(pod)
    kubectl.apply_object(pool)


def remove_gates(kubectl: Kubectl, pod: str) -> None:
    kubectl("patch", "pod", pod, "--type=json", '--patch=[{"op": "remove", "path": "/spec/schedulingGates"}]')


def message_of(kubectl: Kubectl, run: str) -> str:
    """What a run says; an empty text: nothing."""
    return str(status_of(kubectl, run).get("message", ""))


def events_of(kubectl: Kubectl, name: str) -> list[Json]:
    return [event for event in kubectl.list("events") if event["involvedObject"]["name"] == name]


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

    kubectl("patch", "quota", "full", '--patch={"spec": {"hard": {"pods": "9"}}}')
    until_available(kubectl)
    assert finished(kubectl, waiting)["status"]["phase"] == "Succeeded"


def test_a_pool_says_that_its_template_has_a_field_that_no_pod_has(kubectl: Kubectl) -> None:
    pool = make_pool(give_program(kubectl, SLOW_FAN_OUT))
    pool["spec"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Never"
    kubectl.apply_object(pool)

    want = 'strict decoding error: unknown field "spec.containers[0].imagePulPolicy"'
    eventually(lambda: want in pool_condition(kubectl, "Available").get("message", ""))
    valid = pool_condition(kubectl, "Valid")
    assert (valid["status"], valid["reason"]) == ("False", "InvalidSpec")
    kubectl.apply_object(make_pool(SLOW_FAN_OUT.stem))
    until_available(kubectl)


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


def test_pool_and_runs_say_what_keeps_their_pods_from_being_scheduled(kubectl: Kubectl) -> None:
    give_pods(kubectl, "Child")
    give_program(kubectl, SLOW_FAN_OUT)
    gated = "SchedulingGated: Scheduling is blocked due to non-empty scheduling gates: example.com/license"
    apply_pool_with(kubectl, schedulingGates=[{"name": "example.com/license"}])
    eventually(lambda: gated in pool_condition(kubectl, "Available").get("message", ""))
    remove_gates(kubectl, pods_of(kubectl)[0]["metadata"]["name"])
    until_available(kubectl)
    kubectl.apply_object(make_run("child", AT_ONCE, "gated"))
    eventually(lambda: f"pod gated: {gated}" in message_of(kubectl, "gated"))
    remove_gates(kubectl, "gated")
    assert finished(kubectl, "gated")["status"]["phase"] == "Succeeded"

    apply_pool_with(kubectl, nodeSelector={"example.com/disk": "none"})
    kubectl("delete", "pods", "--all", "--wait=false")
    kubectl.apply_object(make_run("child", AT_ONCE, "alone"))
    start(kubectl, "pooled", children=0)
    fits_nowhere = re.compile(r"Unschedulable: 0/\d+ nodes are available: .*didn't match Pod's node affinity/selector")
    eventually(lambda: fits_nowhere.search(pool_condition(kubectl, "Available").get("message", "")))
    runs = ("alone", "pooled")
    eventually(lambda: all(fits_nowhere.search(message_of(kubectl, run)) for run in runs))
    apply_pool_with(kubectl)
    assert [finished(kubectl, run)["status"]["phase"] for run in runs] == ["Succeeded", "Succeeded"]


def test_a_pod_that_somebody_deletes_is_told_and_its_place_is_the_oldest_runs(kubectl: Kubectl) -> None:
    give_pods(kubectl, "Child")
    start_pool(kubectl, SLOW_FAN_OUT, pod={"grace_seconds": 300})
    kubectl("create", "quota", "full", "--hard=pods=2")
    eventually(lambda: kubectl.get("quota", "full").get("status", {}).get("used", {}).get("pods") == "1")
    kubectl.apply_object(make_run("child", {"number": 0, "seconds": 290}, "first"))
    eventually(lambda: status_of(kubectl, "first").get("phase") == "Running")
    line = ("z", "y", "x")
    for name in line:
        kubectl.apply_object(make_run("child", AT_ONCE, name))
    eventually(lambda: all("exceeded quota: full" in message_of(kubectl, name) for name in line))

    kubectl("delete", "pod", "first", "--wait=false")

    eventually(lambda: "pod first is being deleted, and what runs in it has until" in message_of(kubectl, "first"))
    assert status_of(kubectl, "first")["reason"] == "PodEnding"
    kubectl("patch", "workflowrun", "first", "--type=merge", '--patch={"spec": {"cancelled": true}}')
    ended = {name: finished(kubectl, name)["status"] for name in ("first", *line)}
    assert [status["phase"] for status in ended.values()] == ["Cancelled", *["Succeeded"] * len(line)]
    assert sorted(line, key=lambda name: ended[name]["finishedAt"]) == [*line]


def test_a_pool_says_what_its_worker_said_when_it_crashed(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "program-broken", "--from-literal=broken.py=raise SystemExit('no database')")
    kubectl.apply_object(make_pool("broken"))

    def says_why() -> bool:
        available = pool_condition(kubectl, "Available")
        return available.get("reason") == "PodsFailing" and "no database" in available["message"]

    eventually(says_why)
    eventually(lambda: kubectl.list("pods")[0]["status"]["containerStatuses"][0]["restartCount"] >= 2)
    assert len(kubectl.list("pods")) == 1, "the kubelet's back-off is enough: no pod is made instead of another"


def test_runs_say_that_their_pods_were_evicted_for_what_they_wrote(kubectl: Kubectl) -> None:
    give_pods(kubectl, "Alone")
    pool = make_pool(give_program(kubectl, PROGRAMS / "fills_disk.py"))
    spec = pool["spec"]["template"]["spec"]
    spec["volumes"].append({"name": "scratch", "emptyDir": {"sizeLimit": "5Mi"}})
    spec["containers"][0]["volumeMounts"].append({"name": "scratch", "mountPath": "/scratch"})
    kubectl.apply_object(pool)
    until_available(kubectl)
    before = {pod["metadata"]["name"] for pod in pods_of(kubectl)}

    runs = ("fill", "alone")
    for run in runs:
        kubectl.apply_object(make_run(run, {"bytes": 20_000_000}, run))

    def step_of(run: str) -> Json:
        step: Json = status_of(kubectl, run).get("steps", {}).get("work", {})
        return step

    # By default the kubelet measures once a minute what a pod wrote.
    eventually(lambda: all(step_of(run).get("losses") for run in runs), within_seconds=240)
    why = 'Evicted: Usage of EmptyDir volume "scratch" exceeds the limit "5Mi".'
    for run in runs:
        error = step_of(run)["error"]
        assert error.startswith("its worker died"), error
        assert error.endswith(why), error
    ended = {f"pod {name} was ended: {why}" for name in before}
    eventually(lambda: ended <= {each["message"] for each in events_of(kubectl, POOL) if each["reason"] == "PodEnded"})
    eventually(lambda: before.isdisjoint(pod["metadata"]["name"] for pod in pods_of(kubectl)))
    until_available(kubectl)


def test_a_run_that_takes_more_memory_than_its_pod_has_ends_and_says_so(kubectl: Kubectl) -> None:
    pool = make_pool(give_program(kubectl, PROGRAMS / "eats_memory.py"))
    pool["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "150Mi"}}
    kubectl.apply_object(pool)
    until_available(kubectl)

    kubectl.apply_object(make_run("eat", {"bytes": 1_000_000_000}, "greedy"))

    status = finished(kubectl, "greedy")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "WorkerLost")
    assert "its worker died 3 times while the step ran" in status["message"]
    assert status["message"].endswith("(exit code 137, OOMKilled)")
