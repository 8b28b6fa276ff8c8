"""The chart, as it was installed for all tests of this folder."""

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.operators import leader_of, operator_pods, until_leading
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

RUN = """
apiVersion: hatchet-operator.dev/v1alpha1
kind: WorkflowRun
metadata: {name: kept}
spec: {workflow: nobody-has-it}
"""


def endpoints(operator: Kubectl) -> list[str]:
    """Return the pods that the Service leads to."""
    slices = operator.list("endpointslices", f"kubernetes.io/service-name={RELEASE}")
    return [endpoint["targetRef"]["name"] for each in slices for endpoint in each["endpoints"] or []]


def test_two_operators_are_ready_and_the_service_leads_to_one(operator: Kubectl) -> None:
    leader = until_leading(operator)
    pods = [operator.get("pod", name) for name in operator_pods(operator)]
    assert [status["ready"] for pod in pods for status in pod["status"]["containerStatuses"]] == [True, True]
    eventually(lambda: endpoints(operator) == [leader])


def test_helm_test_finds_the_leader_and_trusts_it(operator: Kubectl) -> None:
    printed = Helm(find_helm(), operator.namespace)("test", RELEASE, "--logs", "--timeout=60s")
    assert f"the leader answers at {RELEASE}.{operator.namespace}.svc:7070 and is trusted" in printed


def test_an_upgrade_keeps_runs_and_leads_the_service_to_a_new_pod(operator: Kubectl, kubectl: Kubectl) -> None:
    kubectl("create", "--filename=-", stdin=RUN)
    uid = kubectl.get("workflowrun", "kept")["metadata"]["uid"]
    before = operator_pods(operator)
    helm = Helm(find_helm(), operator.namespace)
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=podAnnotations.upgraded=yes")
    operator("rollout", "status", f"deployment/{RELEASE}", "--timeout=55s")
    eventually(lambda: endpoints(operator) == [leader_of(operator)] and leader_of(operator) not in before)
    assert kubectl.get("workflowrun", "kept")["metadata"]["uid"] == uid


def test_the_operator_is_refused_nothing(operator: Kubectl) -> None:
    for pod in operator_pods(operator):
        # a right that is missing, not a namespace that is about to go
        assert "is forbidden: User" not in operator("logs", pod)
