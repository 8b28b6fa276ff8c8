"""Finished runs by the ten thousand, put where an API server keeps its objects: it takes seconds.

They are what the operator leaves of small trees, but that nobody executed them; and nothing of them is checked.
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.real_api import RealApi

Object = dict[str, Any]

_AT_A_TIME = 100
_MANAGER = "hatchet-operator"


def fill(api: EmbeddedApi | RealApi, runs: Iterator[Object]) -> None:
    """Put runs into an API server whose CRDs are installed."""
    while portion := list(islice(runs, _AT_A_TIME)):
        if isinstance(api, RealApi):
            api.put_into_etcd({_key(run): json.dumps(run, separators=(",", ":")).encode() for run in portion})
        else:
            api.put(portion)


def put_all(url: str, runs: Iterator[Object]) -> None:
    """Put runs into an embedded API server that asks for no token."""
    while portion := list(islice(runs, _AT_A_TIME)):
        data = json.dumps(portion).encode()
        with urllib.request.urlopen(urllib.request.Request(url + "/_objects", data=data, method="POST"), timeout=60):
            pass


def _key(run: Object) -> str:
    return f"/registry/hatchet-operator.dev/workflowruns/{run['metadata']['namespace']}/{run['metadata']['name']}"


def make_finished_runs(
    count: int,
    *,
    children: int = 9,
    name: str = "old",
    workflow: str = "parent",
    child_workflow: str = "child",
    namespace: str = "default",
    finished_at: datetime | None = None,
) -> Iterator[Object]:
    """Yield finished runs, in trees of a root and its children.

    Args:
        count: All of them.
        children: Of each root.
        name: The roots' names begin with it.
        workflow: Of the roots.
        child_workflow: Of the children.
        namespace: Of all.
        finished_at: None: a moment ago.
    """
    at = finished_at or datetime.now(UTC) - timedelta(minutes=1)
    root: Object = {}
    for number in range(count):
        rank = number % (children + 1)
        if rank == 0:
            below = min(children, count - number - 1)
            root = _make_run(f"{name}-{number // (children + 1):06d}", workflow, namespace, at, children=below)
            yield root
        else:
            child = f"{root['metadata']['name']}-{uuid.uuid4().hex[:16]}"
            yield _make_run(child, child_workflow, namespace, at, parent=root, index=rank - 1)


def _make_run(
    name: str,
    workflow: str,
    namespace: str,
    at: datetime,
    *,
    children: int = 0,
    parent: Object | None = None,
    index: int = 0,
) -> Object:
    metadata: Object = {
        "name": name,
        "namespace": namespace,
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "labels": {labels.WORKFLOW: workflow, labels.POOL: "workers"},
    }
    spec: Object = {"workflow": workflow, "inputJson": '{"a":"x"}', "cancelled": False, "reruns": 0}
    spec["onParentClose"] = "Abandon"
    if parent is not None:
        above = parent["metadata"]
        metadata["labels"] |= {labels.PARENT_UID: above["uid"], labels.ROOT_UID: above["uid"]}
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": "WorkflowRun",
                "name": above["name"],
                "uid": above["uid"],
                "controller": True,
            }
        ]
        spec["parent"] = {"name": above["name"], "uid": above["uid"], "step": "spawn", "index": index}
    moment = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    step: Object = {"phase": "Succeeded", "attempt": 0, "losses": 0, "dispatch": 0, "worker": "workers-main-abcde"}
    step |= {"startedAt": moment, "finishedAt": moment, "output": '{"n":1}'}
    condition = {"status": "True", "reason": "Completed", "message": "", "lastTransitionTime": moment}
    status: Object = {
        "phase": "Succeeded",
        "reason": "Completed",
        "reruns": 0,
        "startedAt": moment,
        "finishedAt": moment,
        "duration": "0.012s",
        "definition": f"{workflow}-0123456789abcdef",
        "steps": {"spawn" if children else "process": step},
        "conditions": [{"type": kind, "observedGeneration": 1, **condition} for kind in ("Finished", "Succeeded")],
        "observedGeneration": 1,
    }
    if children:
        counts = {"total": children, "succeeded": children, "failed": 0, "cancelled": 0}
        status["children"] = counts | {"summary": f"{children}/{children}"}
    metadata["managedFields"] = _managed_fields(metadata, spec, status)
    return {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata, "spec": spec, "status": status}


def _managed_fields(metadata: Object, spec: Object, status: Object) -> list[Object]:
    """What the API server notes of who wrote what: half of a small run."""
    created = {"f:metadata": {"f:labels": _fields(metadata["labels"])}, "f:spec": _fields(spec)}
    written = {"f:status": _fields(status) | {"f:steps": _fields(status["steps"])}}
    entry = {"apiVersion": API_VERSION, "fieldsType": "FieldsV1", "manager": _MANAGER, "operation": "Update"}
    entry["time"] = metadata["creationTimestamp"]
    return [{**entry, "fieldsV1": created}, {**entry, "fieldsV1": written, "subresource": "status"}]


def _fields(value: Object) -> Object:
    return {f"f:{key}": _fields(inner) if isinstance(inner, dict) else {} for key, inner in value.items()}
