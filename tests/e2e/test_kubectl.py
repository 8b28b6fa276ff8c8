"""kubectl tells the story: what a person sees of workflows, runs and pools without any other tool."""

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl, KubectlError
from tests.e2e.pools import POOL, SLOW_FAN_OUT, make_pool, start_pool
from tests.e2e.slow_fan_out import children_of, finished, make_run, start


def table(kubectl: Kubectl, kind: str) -> tuple[str, dict[str, str]]:
    """What ``kubectl get`` prints, words one space apart, without ages: its head, and each line by its first word."""
    head, *lines = (" ".join(line.split()) for line in kubectl("get", kind).splitlines())
    return head, {line.split()[0]: line.rpartition(" ")[0] for line in lines}


def until_line(kubectl: Kubectl, kind: str, want: str) -> None:
    """Wait for a line: how many workers there are, and what they do, is written some seconds later."""
    eventually(lambda: want in table(kubectl, kind)[1].values())


def test_get_shows_workflows_runs_and_pools(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, maxReplicas=3)
    run = finished(kubectl, start(kubectl, children=3))
    first = next(child for child in children_of(kubectl, run) if child["spec"]["parent"]["key"] == "child0")

    head, runs = table(kubectl, "wfr")
    assert head == "NAME WORKFLOW PHASE CHILDREN PARENT KEY DURATION AGE"
    assert runs["fan-out"] == f"fan-out parent Succeeded 3/3 {run['status']['duration']}"
    name = first["metadata"]["name"]
    assert runs[name] == f"{name} child Succeeded fan-out child0 {first['status']['duration']}"

    head, _ = table(kubectl, "wf")
    assert head == "NAME REGISTERED WORKERS VERSION POOL SUSPENDED AGE"
    until_line(kubectl, "wf", f"parent True 1 {POOL} false")

    head, _ = table(kubectl, "wp")
    assert head == "NAME READY REPLICAS MIN MAX RUNNING SLOTS QUEUED AVAILABLE ROLLOUT AGE"
    until_line(kubectl, "wp", f"{POOL} 1 1 1 3 0 10 0 True RolledOut")


def test_describe_shows_the_conditions_that_matter(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    finished(kubectl, start(kubectl, children=3))

    told = " ".join(kubectl("describe", "wfr", "fan-out").split())

    assert "Status: True Type: Finished" in told
    assert "Status: True Type: Succeeded" in told
    assert told.endswith("Events: <none>"), "on the happy path there are none"


def test_events_say_what_a_person_should_look_at(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "program-broken", "--from-literal=broken.py=raise SystemExit('no database')")
    kubectl.apply_object(make_pool("broken"))

    eventually(lambda: "PodsFailing" in kubectl("describe", "wp", POOL).partition("Events:")[2])


@pytest.mark.parametrize("kind", ["workflow", "workflowrun", "workerpool"])
def test_explain_describes_every_field(kubectl: Kubectl, kind: str) -> None:
    for part in ("", ".spec", ".status"):
        assert "<no description>" not in kubectl("explain", f"{kind}{part}")


def test_a_run_that_makes_no_sense_is_refused_in_words(kubectl: Kubectl) -> None:
    with pytest.raises(KubectlError, match='workflow "DailyReport" has the object "dailyreport"'):
        kubectl.apply_object(make_run("DailyReport", {}, "nonsense"))


def test_wait_ends_when_a_run_is_finished_or_is_not_in_time(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    run = start(kubectl, children=1, seconds=300)
    with pytest.raises(KubectlError, match="timed out waiting for the condition"):
        kubectl("wait", "--for=condition=Finished", f"wfr/{run}", "--timeout=1s")
    kubectl("patch", "workflowrun", run, "--type=merge", '--patch={"spec":{"cancelled":true}}')
    assert "condition met" in kubectl("wait", "--for=condition=Finished", f"wfr/{run}", "--timeout=120s")
