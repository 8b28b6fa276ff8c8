"""A pod per run: made for it, named after it, and gone with it."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import SLOW_FAN_OUT, give_pods, pods_of, start_pool
from tests.e2e.slow_fan_out import children_of, finished, make_run, output_of, start, status_of

EXAMPLE = Path(__file__).parents[2] / "examples/pod_per_run"
DEAF = Path(__file__).parent / "programs/deaf.py"
GRACE_SECONDS = 120


def pod_names(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["name"] for pod in kubectl.list("pods")}


def test_each_run_has_a_pod_of_its_own_which_goes_with_it(kubectl: Kubectl) -> None:
    give_pods(kubectl, "Crunch")
    start_pool(kubectl, EXAMPLE / "worker.py")
    pool = {pod["metadata"]["name"] for pod in pods_of(kubectl)}

    run = finished(kubectl, kubectl.create(EXAMPLE / "run.yaml"))

    assert output_of(run, "collect") == {"lines": 20_000}
    children = children_of(kubectl, run)
    assert len(children) == 3
    for child in children:
        assert child["status"]["steps"]["count"]["worker"] == child["metadata"]["name"]
    eventually(lambda: pod_names(kubectl) == pool)


def test_pods_of_runs_go_when_their_parent_is_cancelled(kubectl: Kubectl) -> None:
    give_pods(kubectl, "Child")
    start_pool(kubectl, SLOW_FAN_OUT)
    pool = pod_names(kubectl)
    parent = start(kubectl, children=3, seconds=300)
    eventually(lambda: len(pod_names(kubectl) - pool) == 3)

    kubectl("patch", "workflowrun", parent, "--type=merge", '--patch={"spec":{"cancelled":true}}')

    assert finished(kubectl, parent)["status"]["phase"] == "Cancelled"
    eventually(lambda: pod_names(kubectl) == pool)


def test_pods_whose_steps_hear_nothing_are_killed_on_timeout_and_cancel(kubectl: Kubectl) -> None:
    for workflow in ("InTime", "TooLong"):
        give_pods(kubectl, workflow)
    start_pool(kubectl, DEAF, pod={"grace_seconds": GRACE_SECONDS})
    pool = pod_names(kubectl)
    kubectl.apply_object(make_run("intime", {}, "cancelled"))
    kubectl.apply_object(make_run("toolong", {}, "late"))
    eventually(lambda: "[cancelled/work#1] asleep" in kubectl("logs", "cancelled", may_fail=True))
    eventually(lambda: status_of(kubectl, "cancelled").get("phase") == "Running")
    command = [sys.executable, "-m", "hatchet_operator", "logs", "cancelled", "--namespace", kubectl.namespace]
    assert "work#1 | asleep\n" in subprocess.run(command, check=True, capture_output=True, text=True).stdout

    kubectl("patch", "workflowrun", "cancelled", "--type=merge", '--patch={"spec":{"cancelled":true}}')

    ends = {name: finished(kubectl, name)["status"] for name in ("cancelled", "late")}
    assert {name: (status["phase"], status["reason"]) for name, status in ends.items()} == {
        "cancelled": ("Cancelled", "CancelRequested"),
        "late": ("Failed", "TimedOut"),
    }
    eventually(
        lambda: pod_names(kubectl) == pool, within_seconds=GRACE_SECONDS / 3
    )  # the kubelet would give them all of it
