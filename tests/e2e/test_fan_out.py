"""The fan-out example on real pods."""

import json
from pathlib import Path

from tests.e2e.images import image_of, pull_policy
from tests.e2e.kubectl import Kubectl

FANOUT = Path(__file__).parents[2] / "examples/fanout"


def test_a_parent_spawns_ten_children_and_awaits_their_results(kubectl: Kubectl) -> None:
    kubectl.apply("pool.yaml", name="fanout", replicas=1, image=image_of("fanout"), pull_policy=pull_policy())
    kubectl("wait", "--for=condition=Available", "workerpool/fanout", "--timeout=50s")

    run = kubectl.create(FANOUT / "run.yaml")
    kubectl("wait", "--for=condition=Finished", f"workflowrun/{run}", "--timeout=50s")

    status = kubectl.get("workflowrun", run)["status"]
    assert status["phase"] == "Succeeded"
    want = {"results": [{"process": {"status": f"success {number}"}} for number in range(10)]}
    assert json.loads(status["steps"]["spawn"]["output"]) == want
    children = kubectl.list("workflowruns", "hatchet-operator.dev/workflow=child")
    assert sorted(child["spec"]["parent"]["key"] for child in children) == [f"child{number}" for number in range(10)]
