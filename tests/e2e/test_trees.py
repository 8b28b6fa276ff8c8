"""Whole trees of runs: what is done to a parent reaches its children."""

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import SLOW_FAN_OUT, executions, start_pool
from tests.e2e.slow_fan_out import children_of, finished, start, until_children_succeeded


def test_deleting_a_parent_removes_its_tree_and_frees_its_workers(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, slots=5)
    parent = start(kubectl, "deleted", children=20, seconds=300)
    eventually(lambda: len(executions(kubectl)) == 6)

    kubectl("delete", "workflowrun", parent)

    eventually(lambda: not kubectl.list("workflowruns"))
    after = start(kubectl, "after", children=5)
    assert finished(kubectl, after)["status"]["phase"] == "Succeeded", "five slots are free again"


def test_cancelling_a_parent_reaches_children_that_run_and_that_wait(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, slots=5)
    parent = start(kubectl, children=20, seconds=300)
    eventually(lambda: len(executions(kubectl)) == 6)

    kubectl("patch", "workflowrun", parent, "--type=merge", '--patch={"spec":{"cancelled":true}}')

    run = finished(kubectl, parent)
    assert (run["status"]["phase"], run["status"]["reason"]) == ("Cancelled", "CancelRequested")
    children = children_of(kubectl, run)
    assert len(children) == 20
    kubectl.wait("condition=Finished", *(f"workflowrun/{child['metadata']['name']}" for child in children))
    ends = {(child["status"]["phase"], child["status"]["reason"]) for child in children_of(kubectl, run)}
    assert ends == {("Cancelled", "ParentCancelled")}
    assert len(executions(kubectl)) == 6, "none that waited was started"


def test_what_a_cancelled_parent_has_finished_stays_as_it_is(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, slots=5)
    parent = start(kubectl, children=20, seconds=[0] * 5 + [300] * 15)
    until_children_succeeded(kubectl, 5)

    kubectl("patch", "workflowrun", parent, "--type=merge", '--patch={"spec":{"cancelled":true}}')

    run = finished(kubectl, parent)
    eventually(lambda: all(child["status"]["phase"] != "Running" for child in children_of(kubectl, run)))
    phases = {child["status"]["phase"] for child in children_of(kubectl, run)}
    assert phases == {"Succeeded", "Cancelled"}
