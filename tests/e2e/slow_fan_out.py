"""Start a fan-out of `programs/slow_fan_out.py`, stop in its middle, and judge how it ended."""

import json
from collections import Counter
from typing import Any

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.pools import executions


def make_run(workflow: str, given: Json, name: str) -> Json:
    return {
        "apiVersion": "hatchet-operator.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {"name": name},
        "spec": {"workflow": workflow, "input": given},
    }


def start(kubectl: Kubectl, name: str = "fan-out", **given: Any) -> str:
    """Start a fan-out; ``given`` is its input, see the program. Returns its name."""
    kubectl.apply_object(make_run("parent", given, name))
    return name


def until_children_succeeded(kubectl: Kubectl, count: int, name: str = "fan-out") -> None:
    """Wait until at least so many children have succeeded; counts are written once a second."""

    def holds() -> bool:
        return succeeded_children(kubectl, name) >= count

    eventually(holds)


def succeeded_children(kubectl: Kubectl, name: str = "fan-out") -> int:
    return int(status_of(kubectl, name).get("children", {}).get("succeeded", 0))


def status_of(kubectl: Kubectl, name: str) -> Json:
    """Return what was written of a run so far; of one that waits at first nothing is."""
    status: Json = kubectl.get("workflowrun", name).get("status", {})
    return status


def finished(kubectl: Kubectl, name: str = "fan-out", *, within_seconds: int = 120) -> Json:
    """Wait until a run is final and return it."""
    kubectl.wait("condition=Finished", f"workflowrun/{name}", within_seconds=within_seconds)
    return kubectl.get("workflowrun", name)


def children_of(kubectl: Kubectl, parent: Json) -> list[Json]:
    return kubectl.list("workflowruns", f"hatchet-operator.dev/parent-uid={parent['metadata']['uid']}")


def output_of(run: Json, step: str) -> Any:
    return json.loads(run["status"]["steps"][step]["output"])


def lost_workers_of(run: Json) -> int:
    """Return how many workers were lost under a run's steps, whoever is to blame."""
    return sum(len(step.get("lostWorkers", ())) for step in run["status"]["steps"].values())


def losses_of(run: Json) -> int:
    """How many workers died while they had a step of this run."""
    return sum(step.get("losses", 0) for step in run["status"]["steps"].values())


def assert_result_is_right(kubectl: Kubectl, *, children: int, within_seconds: int = 180) -> tuple[Json, list[Json]]:
    """The parent gathered every number, and each child is there once; returns both."""
    parent = finished(kubectl, within_seconds=within_seconds)
    assert parent["status"]["phase"] == "Succeeded", parent["status"]
    assert output_of(parent, "spawn") == {"numbers": list(range(children))}
    found = children_of(kubectl, parent)
    assert Counter(child["spec"]["parent"]["key"] for child in found) == Counter(f"child{n}" for n in range(children))
    assert {child["status"]["phase"] for child in found} == {"Succeeded"}
    return parent, found


def assert_each_executed_once(kubectl: Kubectl, parent: Json, children: list[Json]) -> None:
    """No worker was lost, and the logs of all of them have every run once."""
    assert {run["metadata"]["name"]: losses_of(run) for run in (parent, *children) if losses_of(run)} == {}
    found = executions(kubectl)
    counted = Counter(execution["executed"] for execution in found)
    again = {run: [each["worker"] for each in found if each["executed"] == run] for run, n in counted.items() if n > 1}
    assert again == {}, "executed more than once, by these workers"
    assert counted.keys() == {run["metadata"]["name"] for run in (parent, *children)}
