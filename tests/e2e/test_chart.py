"""The chart, as it was installed for all tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.eventually import eventually
from tests.e2e.images import image_of, image_values, pull_policy
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.operators import SELECTOR, leader_of, operator_pods, until_leading
from tests.e2e.pools import POOL, SLOW_FAN_OUT, pool_condition, start_pool, until_available
from tests.e2e.slow_fan_out import assert_result_is_right, children_of, finished, start, status_of
from tests.kube.helm import CHART, RELEASE, Helm, find_helm, serving

CHILD = """
apiVersion: hatchet-operator.dev/v1alpha1
kind: WorkflowRun
metadata: {name: child}
spec: {workflow: nobody-has-it, parent: {name: nobody, uid: none, step: work, index: 0}}
"""

RUN = """
apiVersion: hatchet-operator.dev/v1alpha1
kind: WorkflowRun
metadata: {name: kept}
spec: {workflow: nobody-has-it}
"""

FAN_OUT = Path(__file__).parents[2] / "examples/fanout/run.yaml"
SINGLE = "single"  # a release that serves one namespace, and the name of its objects
SINGLE_NAME = f"{SINGLE}-{RELEASE}"


def endpoints(operator: Kubectl) -> list[str]:
    """Return the pods that the Service leads to."""
    slices = operator.list("endpointslices", f"kubernetes.io/service-name={RELEASE}")
    return [endpoint["targetRef"]["name"] for each in slices for endpoint in each["endpoints"] or []]


def test_two_operators_are_ready_and_the_service_leads_to_one(operator: Kubectl) -> None:
    leader = until_leading(operator)

    def are_ready() -> list[bool]:
        pods = [operator.get("pod", name) for name in operator_pods(operator)]
        return [status["ready"] for pod in pods for status in pod["status"].get("containerStatuses", ())]

    eventually(lambda: are_ready() == [True, True])
    eventually(lambda: endpoints(operator) == [leader])


def test_helm_test_finds_the_leader_and_trusts_it(operator: Kubectl) -> None:
    printed = Helm(find_helm(), operator.namespace)("test", RELEASE, "--logs", "--timeout=100s")
    assert f"the leader answers at {RELEASE}.{operator.namespace}.svc:7070 and is trusted" in printed


def test_an_operator_whose_crd_is_deleted_says_so_and_goes_on_when_it_is_back(
    operator: Kubectl, kubectl: Kubectl
) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    leader = until_leading(operator)
    start(kubectl, "lost", children=10, seconds=300)  # all slots but one
    eventually(lambda: status_of(kubectl, "lost").get("phase") == "Running")
    said = "the CRD workflowruns.hatchet-operator.dev is not installed: install them with"

    kubectl("delete", "crd", "workflowruns.hatchet-operator.dev")
    try:
        operator.wait("condition=Ready=false", f"pod/{leader}")
        eventually(lambda: said in kubectl("describe", "workerpool", POOL))
        assert pool_condition(kubectl, "Available")["reason"] == "DefinitionMissing"
        assert said in operator("describe", "pod", leader).partition("Events:")[2]
    finally:  # as the message says
        Helm(find_helm(), operator.namespace)("upgrade", RELEASE, str(CHART), "--reuse-values")

    operator.wait("condition=Ready", f"pod/{leader}")
    start(kubectl, children=10)
    assert_result_is_right(kubectl, children=10)
    until_available(kubectl)


def test_an_upgrade_keeps_runs_and_leads_the_service_to_a_new_pod(operator: Kubectl, kubectl: Kubectl) -> None:
    kubectl("create", "--filename=-", stdin=RUN)
    uid = kubectl.get("workflowrun", "kept")["metadata"]["uid"]
    before = operator_pods(operator)
    helm = Helm(find_helm(), operator.namespace)
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=podAnnotations.upgraded=yes")
    operator("rollout", "status", f"deployment/{RELEASE}", "--timeout=120s")
    eventually(lambda: endpoints(operator) == [leader_of(operator)] and leader_of(operator) not in before)
    assert kubectl.get("workflowrun", "kept")["metadata"]["uid"] == uid


def test_a_release_for_one_namespace_runs_a_fan_out_there_and_touches_nothing_else(
    operator: Kubectl, kubectl: Kubectl, elsewhere: Kubectl
) -> None:
    with whole_cluster_unserved(operator, kubectl):
        helm = Helm(find_helm(), kubectl.namespace)
        ours = f"{serving(kubectl.namespace)},crds.install=false,aggregatedRoles.enabled=false"
        helm("install", SINGLE, str(CHART), f"--set={ours}", *image_values())
        kubectl("rollout", "status", f"deployment/{SINGLE_NAME}", "--timeout=120s")
        for namespace in (elsewhere, kubectl):
            namespace.apply("pool.yaml", name="fanout", replicas=1, image=image_of("fanout"), pull_policy=pull_policy())
            namespace.create(FAN_OUT)
        before = everything_in(elsewhere)

        run = finished(kubectl, "fanout")

        assert run["status"]["phase"] == "Succeeded"
        assert len(children_of(kubectl, run)) == 10
        assert everything_in(elsewhere) == before
        assert_no_rights_elsewhere(kubectl, elsewhere)

        helm("uninstall", SINGLE)
        eventually(lambda: left_behind(kubectl) == {"secret/fanout-token"})
        assert kubectl.get("workflowrun", "fanout")["status"]["phase"] == "Succeeded"


@contextmanager
def whole_cluster_unserved(operator: Kubectl, kubectl: Kubectl) -> Iterator[None]:
    """Have the release of all tests stand aside: two operators of one namespace would fight for its runs.

    Its policy goes too, which lets no other operator make children.
    """
    helm = Helm(find_helm(), operator.namespace)
    upgrade = ("upgrade", RELEASE, str(CHART), "--reuse-values")
    helm(*upgrade, "--set=replicas=0,admissionPolicy.enabled=false")
    try:
        eventually(lambda: not operator.list("pods", SELECTOR))
        eventually(lambda: kubectl("create", "--dry-run=server", "--filename=-", stdin=CHILD, may_fail=True))
        yield
    finally:
        helm(*upgrade, "--set=replicas=2,admissionPolicy.enabled=true")
        until_leading(operator)


def everything_in(namespace: Kubectl) -> list[Json]:
    """All objects of the kinds that the operator reads or writes, with their versions."""
    ours = "workflows,workflowruns,workerpools,webhooksources,ratelimits"
    return namespace.list(f"{ours},pods,secrets,leases,endpointslices,controllerrevisions,events")


def assert_no_rights_elsewhere(kubectl: Kubectl, elsewhere: Kubectl) -> None:
    """Of the cluster, the operator may ask whose a token is, and no more."""
    account = f"--as=system:serviceaccount:{kubectl.namespace}:{SINGLE_NAME}"
    for verb, kind in (("list", "workflowruns.hatchet-operator.dev"), ("create", "pods"), ("get", "secrets")):
        assert kubectl("auth", "can-i", verb, kind, account).strip() == "yes"
        assert elsewhere("auth", "can-i", verb, kind, account, may_fail=True).strip() == "no"
    bound = [
        binding["roleRef"]["name"]
        for binding in kubectl.list("clusterrolebindings")
        if any(subject.get("namespace") == kubectl.namespace for subject in binding.get("subjects", ()))
    ]
    assert bound == [f"{SINGLE_NAME}-{kubectl.namespace}-token-reviews"]
    (rule,) = kubectl.get("clusterrole", bound[0])["rules"]
    assert (rule["resources"], rule["verbs"]) == (["tokenreviews"], ["create"])


def left_behind(kubectl: Kubectl) -> set[str]:
    """What is there of the kinds that the operator makes for itself."""
    return set(kubectl("get", "leases,endpointslices,secrets", "--output=name").split())
