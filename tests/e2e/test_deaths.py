"""Workers die of what they execute, or are taken away: the kubelet's words are told, and the right steps pay for it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.pools import give_program, make_pool, pods_of, start_pool, until_available
from tests.e2e.slow_fan_out import children_of, finished, make_run, status_of

POISON = Path(__file__).parent / "programs/poison.py"
OOM = "(exit code 137, OOMKilled)"


def test_a_parent_is_told_of_a_child_that_takes_too_much_memory(kubectl: Kubectl) -> None:
    begins_late = {"environment": {"BEGINS_AFTER_SECONDS": "6"}}  # when its Pod has said all that it has to say
    pool = make_pool(give_program(kubectl, POISON), pod=begins_late)
    pool["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "96Mi"}}
    kubectl.apply_object(pool)
    until_available(kubectl)
    (pod,) = (pod["metadata"]["name"] for pod in pods_of(kubectl))

    kubectl.apply_object(make_run("parent", {"bytes": 1_000_000_000}, "poison"))

    run = finished(kubectl, "poison", within_seconds=300)
    (child,) = children_of(kubectl, run)
    lost = child["status"]["steps"]["work"]["lostWorkers"]
    assert [(each["worker"], each["kind"]) for each in lost] == [(pod, "Crash")] * 3
    assert all(each["why"].endswith(OOM) for each in lost), lost
    assert f"its worker died 3 times while the step ran; its container ended {OOM}" in child["status"]["message"]
    step = run["status"]["steps"]["spawn"]
    assert step["reason"] == "StepFailed", step
    assert step["losses"] <= 1, "the first child may end the worker before its parent awaits it"
    assert "OOMKilled" in step["error"]
    assert OOM in kubectl("describe", "workflowrun", child["metadata"]["name"])


def test_evictions_are_told_and_fail_nobody(kubectl: Kubectl, tmp_path: Path) -> None:
    start_pool(kubectl, POISON, pod={"grace_seconds": 1})
    kubectl.apply_object(make_run("parent", {"seconds": 20}, "evicted"))
    for evictions in range(1, 4):
        evict(kubectl, eventually(lambda: is_working_in(kubectl, "evicted")), tmp_path)
        eventually(partial(is_told_of, kubectl, "evicted", evictions))

    run = finished(kubectl, "evicted")
    (child,) = children_of(kubectl, run)
    for step in (run["status"]["steps"]["spawn"], child["status"]["steps"]["work"]):
        assert (step["phase"], step["losses"], step["disruptions"]) == ("Succeeded", 0, 3), step
        assert {each["kind"] for each in step["lostWorkers"]} == {"Disruption"}
        assert "EvictionByEvictionAPI" in step["lostWorkers"][0]["why"]


def steps_of(kubectl: Kubectl, run: str) -> dict[str, Any]:
    steps: dict[str, Any] = status_of(kubectl, run).get("steps", {})
    return steps


def is_told_of(kubectl: Kubectl, run: str, disruptions: int) -> bool:
    return bool(steps_of(kubectl, run)["spawn"].get("disruptions") == disruptions)


def is_working_in(kubectl: Kubectl, parent: str) -> str:
    """Return the pod in which a run and its child are executed, once both are; else nothing."""
    children: list[Json] = children_of(kubectl, kubectl.get("workflowrun", parent))
    steps = [*steps_of(kubectl, parent).values()]
    steps += [step for child in children for step in child.get("status", {}).get("steps", {}).values()]
    running = {step["worker"] for step in steps if step["phase"] == "Running"}
    pods = {pod["metadata"]["name"] for pod in pods_of(kubectl)}
    is_so = len(steps) == 2 and all(step["phase"] == "Running" for step in steps) and running <= pods
    return running.pop() if is_so and len(running) == 1 else ""


def evict(kubectl: Kubectl, pod: str, directory: Path) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    file = directory / "eviction.json"
    file.write_text(json.dumps(eviction))
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "--filename", str(file))
