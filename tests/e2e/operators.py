"""The operator as the chart installs it: its pods, and which of them leads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.eventually import eventually
from tests.e2e.images import image_values
from tests.e2e.kubectl import Kubectl, KubectlError, new_namespace
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

DEPLOYMENT = f"deployment/{RELEASE}"
EVENTS_PORT = 7080
SELECTOR = "app.kubernetes.io/name=hatchet-operator"


@contextmanager
def installed_operator() -> Iterator[Kubectl]:
    """Install the chart for the whole cluster, until the end of the block; gives the Kubectl of its namespace."""
    with new_namespace("hatchet-operator") as kubectl:
        helm = Helm(find_helm(), kubectl.namespace)
        # CRDs that are there from before stay, and belong to this release from now on
        values = (*image_values(), f"--set=events.port={EVENTS_PORT}")
        helm("install", RELEASE, str(CHART), "--take-ownership", *values)
        try:
            kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")
            yield kubectl
        finally:
            helm("uninstall", RELEASE)


def operator_pods(operator: Kubectl) -> list[str]:
    """Names of those that are not about to go."""
    found = operator.list("pods", SELECTOR)
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def leader_of(operator: Kubectl) -> str:
    """Name of the pod that holds the Lease, or held it last."""
    holder: str = operator.get("lease", "hatchet-operator")["spec"].get("holderIdentity") or ""
    return holder.partition("_")[0]


def until_leading(operator: Kubectl) -> str:
    """Wait until the Deployment is whole and one of its pods leads; return which."""
    operator("rollout", "status", DEPLOYMENT, "--timeout=120s")

    def leads() -> str | None:
        leader = leader_of(operator)
        return leader if leader in operator_pods(operator) else None

    return eventually(leads) or ""


def container_of(operator: Kubectl, pod: str) -> str:
    """The container runtime's id of the operator's container."""
    (status,) = operator.get("pod", pod)["status"]["containerStatuses"]
    runtime_id: str = status["containerID"]
    return runtime_id.rpartition("//")[2]


def restarts_of(operator: Kubectl, pod: str) -> int:
    """How often the kubelet has started the operator's container anew."""
    (status,) = operator.get("pod", pod)["status"]["containerStatuses"]
    count: int = status["restartCount"]
    return count


def refusals(operator: Kubectl) -> list[str]:
    """Lines in which operators say that they lack a right, also of containers before their restart."""
    logs = [operator("logs", pod, *which, may_fail=True) for pod in operator_pods(operator) for which in ((), ("-p",))]
    # not what is forbidden to everybody, in a namespace that is about to go
    return [line for log in logs for line in log.splitlines() if "is forbidden: User" in line]


def is_evicted(operator: Kubectl, pod: str) -> bool:
    """Ask for an eviction, as a drain does; false: the PodDisruptionBudget does not allow it now."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": operator.namespace}}
    path = f"/api/v1/namespaces/{operator.namespace}/pods/{pod}/eviction"
    try:
        operator("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
    except KubectlError as error:
        if "disruption budget" not in str(error):
            raise
        return False
    return True


def metric(operator: Kubectl, pod: str, name: str) -> float:
    """Read a metric without labels from a pod."""
    path = f"/api/v1/namespaces/{operator.namespace}/pods/{pod}:8080/proxy/metrics"
    (line,) = (line for line in operator("get", f"--raw={path}").splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


def errors_in_log(operator: Kubectl, pod: str, *, since: str) -> list[str]:
    """Lines that a human should look at, since a time (RFC 3339)."""
    lines = operator("logs", pod, f"--since-time={since}").splitlines()
    return [line for line in lines if '"severity": "ERROR"' in line or line.startswith("Traceback")]
