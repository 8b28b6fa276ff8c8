"""What a pod of a pool looks like, and what the kubelet says of it."""

import hashlib
import json
from typing import Any

from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.workerpool import WorkerPool

Json = dict[str, Any]


def template_hash(pool: WorkerPool) -> str:
    """Tell templates apart: a pod that was made from another one is replaced."""
    text = json.dumps(pool.spec.template.to_wire(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def trouble_of(pod: Json) -> str | None:
    """Say why a Pod does not run, in the kubelet's or scheduler's words; None: nothing is known to be wrong."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"Unschedulable: {condition.get('message', '')}"
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
                labels.TEMPLATE: template_hash(pool),
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
