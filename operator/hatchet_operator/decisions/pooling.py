"""Which pods a pool needs, and what a pod of it looks like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import WorkerPool

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class PodView:
    """What matters of a pool's pod."""

    name: str
    phase: str = "Pending"
    deleting: bool = False
    connected: bool = False  # its worker has an open stream
    trouble: str | None = None  # why it does not run, in the kubelet's words


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPlan:
    """What has to happen to a pool's pods, and what its status should say."""

    create: int
    delete: tuple[str, ...]
    replicas: int
    ready: int
    available: bool
    reason: Reason
    message: str


def plan_pool(pool: WorkerPool, pods: Sequence[PodView]) -> PoolPlan:
    """Keep ``minReplicas`` pods that are not about to go; pods that ended are removed, the idlest first."""
    ended = [pod.name for pod in pods if pod.phase in ("Failed", "Succeeded") and not pod.deleting]
    staying = [pod for pod in pods if not pod.deleting and pod.phase not in ("Failed", "Succeeded")]
    wanted = pool.spec.min_replicas
    surplus = sorted(staying, key=lambda pod: (pod.connected, pod.name))[: max(len(staying) - wanted, 0)]
    ready = sum(pod.connected for pod in staying)
    trouble = next((f"pod {pod.name}: {pod.trouble}" for pod in staying if pod.trouble), None)
    if ready >= wanted:
        reason, message = Reason.AVAILABLE, f"{ready} of {wanted} workers are connected"
    elif trouble:
        reason, message = Reason.PODS_FAILING, trouble
    else:
        reason, message = Reason.PODS_MISSING, f"{ready} of {wanted} workers are connected"
    return PoolPlan(
        create=max(wanted - len(staying), 0),
        delete=(*ended, *(pod.name for pod in surplus)),
        replicas=len(staying),
        ready=ready,
        available=ready >= wanted,
        reason=reason,
        message=message,
    )


def view_of(pod: Json, *, connected: bool) -> PodView:
    """Read what matters of a Pod object."""
    status = pod.get("status", {})
    return PodView(
        name=pod["metadata"]["name"],
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in pod["metadata"],
        connected=connected,
        trouble=_trouble(status),
    )


def _trouble(status: Json) -> str | None:
    for container in status.get("containerStatuses") or []:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            last = container.get("lastState", {}).get("terminated", {})
            text = f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
            return f"{text}\n{last['message']}" if last.get("message") else text
    return None


def token_secret_name(pool: str) -> str:
    """The Secret with the pool's token."""
    return f"{pool}-token"


def make_pod(pool: WorkerPool, *, grpc_address: str) -> Json:
    """Make a pod of the pool: its template, told where the operator is and who it is."""
    template = pool.spec.template
    spec = {**template.spec, "containers": [dict(container) for container in template.spec["containers"]]}
    worker = spec["containers"][0]
    ours: dict[str, Json] = {
        "HATCHET_CLIENT_TOKEN": {
            "valueFrom": {"secretKeyRef": {"name": token_secret_name(pool.metadata.name), "key": "token"}}
        },
        "HATCHET_CLIENT_HOST_PORT": {"value": grpc_address},
        "HATCHET_CLIENT_TLS_STRATEGY": {"value": "none"},
        "HATCHET_POD_NAME": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        "HATCHET_POD_UID": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
    }
    given = {entry["name"] for entry in worker.get("env", [])}
    worker["env"] = [
        *worker.get("env", []),
        *({"name": name, **value} for name, value in ours.items() if name not in given),
    ]
    spec["automountServiceAccountToken"] = False  # workers have no right to the Kubernetes API at all
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{pool.metadata.name[:50]}-",
            "namespace": pool.metadata.namespace,
            "labels": {
                **template.metadata.labels,
                labels.POOL: pool.metadata.name,
                labels.MANAGED_BY: labels.MANAGER,
            },
            "annotations": dict(template.metadata.annotations),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "WorkerPool",
                    "name": pool.metadata.name,
                    "uid": pool.metadata.uid,
                    "controller": True,
                }
            ],
        },
        "spec": spec,
    }
