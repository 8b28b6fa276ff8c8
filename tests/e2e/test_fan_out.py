"""Examples on real pods, started in all the ways that there are."""

import json
from pathlib import Path

from tests.e2e.eventually import eventually
from tests.e2e.images import image_of, pull_policy
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.pools import POOL, SLOW_FAN_OUT, give_program, start_pool
from tests.e2e.slow_fan_out import children_of, finished, output_of

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = Path(__file__).parent / "programs"
TEN_RESULTS = {"results": [{"process": {"status": f"success {number}"}} for number in range(10)]}


def run_example(kubectl: Kubectl, name: str) -> Json:
    return finished(kubectl, kubectl.create(EXAMPLES / name / "run.yaml"))


def test_a_parent_spawns_ten_children_and_awaits_their_results(kubectl: Kubectl) -> None:
    kubectl.apply("pool.yaml", name="fanout", replicas=1, image=image_of("fanout"), pull_policy=pull_policy())
    kubectl.wait("condition=Available", "workerpool/fanout")

    run = run_example(kubectl, "fanout")

    assert run["status"]["phase"] == "Succeeded"
    assert output_of(run, "spawn") == TEN_RESULTS
    keys = [child["spec"]["parent"]["key"] for child in children_of(kubectl, run)]
    assert sorted(keys) == [f"child{number}" for number in range(10)]


def test_children_have_children(kubectl: Kubectl) -> None:
    start_pool(kubectl, EXAMPLES / "nested/worker.py", minReplicas=2)

    run = run_example(kubectl, "nested")

    assert output_of(run, "add_regions") == {"sales": 306}
    regions = children_of(kubectl, run)
    assert [len(children_of(kubectl, region)) for region in regions] == [3, 3]
    tree = kubectl.list("workflowruns", f"hatchet-operator.dev/root={run['metadata']['name']}")
    assert len(tree) == 1 + 2 + 2 * 3


def test_the_sdk_starts_a_run_from_outside_of_any_step(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=1)
    give_program(kubectl, PROGRAMS / "client.py")

    kubectl.apply("client.yaml", pool=POOL, image=image_of("worker"), pull_policy=pull_policy())
    kubectl.wait("jsonpath={.status.phase}=Succeeded", "pod/client")

    printed = json.loads(kubectl("logs", "client"))
    assert printed["result"]["spawn"] == {"numbers": list(range(20))}
    assert len(children_of(kubectl, kubectl.get("workflowrun", printed["run"]))) == 20


def test_workers_in_a_deployment_of_ones_own_take_work(kubectl: Kubectl, operator: Kubectl) -> None:
    address = f"hatchet-operator.{operator.namespace}.svc:7070"
    kubectl.apply("deployment.yaml", image=image_of("fanout"), pull_policy=pull_policy(), address=address)
    kubectl("rollout", "status", "deployment/own", "--timeout=120s")
    eventually(lambda: {each["metadata"]["name"] for each in kubectl.list("workflows")} == {"parent", "child"})

    run = run_example(kubectl, "fanout")

    assert output_of(run, "spawn") == TEN_RESULTS
    own = {pod["metadata"]["name"] for pod in kubectl.list("pods", "app=own")}
    workers = {child["status"]["steps"]["process"]["worker"] for child in children_of(kubectl, run)}
    assert workers <= own, "whoever looks for a step's log finds its pod"
    assert kubectl.get("workerpool", "own")["status"]["replicas"] == 0
