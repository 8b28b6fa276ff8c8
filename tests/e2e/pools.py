"""WorkerPools whose pods run a Python file of this repository: the worker image, and the file in a ConfigMap."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.eventually import eventually
from tests.e2e.images import image_of, pull_policy
from tests.e2e.kubectl import Json, Kubectl, KubectlError

SLOW_FAN_OUT = Path(__file__).parent / "programs/slow_fan_out.py"
POOL = "workers"
POOL_LABEL = "hatchet-operator.dev/pool"

RESTRICTED_POD: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def make_pod_spec(
    program: str, *, image: str | None = None, environment: Mapping[str, str] | None = None, grace_seconds: int = 10
) -> Json:
    """Make the spec of a pod that runs a program of its namespace, see `give_program`."""
    container = {
        "name": "worker",
        "image": image or image_of("worker"),
        "imagePullPolicy": pull_policy(),
        "command": ["python", f"/program/{program}.py"],
        "env": [{"name": name, "value": value} for name, value in (environment or {}).items()],
        "volumeMounts": [{"name": "program", "mountPath": "/program", "readOnly": True}],
        "securityContext": RESTRICTED_CONTAINER,
    }
    return {
        "containers": [container],
        "volumes": [{"name": "program", "configMap": {"name": _config_map(program)}}],
        "securityContext": RESTRICTED_POD,
        "shareProcessNamespace": True,  # so that the worker is not process 1, which can't be killed from within
        "terminationGracePeriodSeconds": grace_seconds,
    }


def make_pool(program: str, pod: Mapping[str, Any] | None = None, **spec: Any) -> Json:
    """Make a WorkerPool for a program.

    Args:
        program: Its name, without ".py".
        pod: What its pod is made with, see `make_pod_spec`.
        spec: Fields of the pool's spec.
    """
    template = {"spec": make_pod_spec(program, **(pod or {}))}
    return {
        "apiVersion": "hatchet-operator.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": POOL},
        "spec": {"minReplicas": 1, "idleBeforeScaleIn": "5s", **spec, "template": template},
    }


def give_program(kubectl: Kubectl, file: Path) -> str:
    """Put a Python file into the namespace; return the name that pods know it by."""
    kubectl("create", "configmap", _config_map(file.stem), f"--from-file={file.stem}.py={file}")
    return file.stem


def give_pods(kubectl: Kubectl, workflow: str) -> None:
    """Have each run of a workflow get a pod; smaller ones than the example's, of which a small node has no three."""
    kubectl.apply_object(
        {
            "apiVersion": "hatchet-operator.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": workflow.lower()},
            "spec": {
                "name": workflow,
                "execution": "Pod",
                "podOverrides": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
            },
        }
    )


def start_pool(kubectl: Kubectl, file: Path, **spec: Any) -> None:
    """Have a Python file run as a pool, and wait until its workers are connected."""
    kubectl.apply_object(make_pool(give_program(kubectl, file), **spec))
    until_available(kubectl)


def until_available(kubectl: Kubectl, *, within_seconds: int = 120) -> None:
    kubectl.wait("condition=Available", f"workerpool/{POOL}", within_seconds=within_seconds)


def pool_condition(kubectl: Kubectl, type_: str) -> Json:
    """Return a condition of the pool; empty: it has none of this type yet."""
    conditions = kubectl.get("workerpool", POOL).get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == type_), {})


def pods_of(kubectl: Kubectl) -> list[Json]:
    """The pool's pods, without those that are about to go."""
    return [pod for pod in kubectl.list("pods", f"{POOL_LABEL}={POOL}") if "deletionTimestamp" not in pod["metadata"]]


def kill_worker(kubectl: Kubectl, pod: str) -> None:
    """Kill -9 the worker's process; the kubelet starts its container anew."""
    script = (
        "import os, pathlib\n"
        "for each in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    if each.read_bytes().startswith(b'python\\0/program/'):\n"
        "        os.kill(int(each.parent.name), 9)\n"
    )
    kubectl("exec", pod, "--", "python", "-c", script, may_fail=True)  # its container, and so the script, may end first


def executions(kubectl: Kubectl) -> list[Json]:
    """What the pool's present containers executed, {"executed": run, "worker": its worker}, from their logs."""
    started = [pod["metadata"]["name"] for pod in kubectl.list("pods", f"{POOL_LABEL}={POOL}") if _has_log(pod)]
    lines = [line for pod in started for line in _log_of(kubectl, pod).splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{") and '"executed"' in line]  # and a step's mark


def _has_log(pod: Json) -> bool:
    """Whether its container was started: kubectl takes it for an error to be asked for the log of another."""
    states = [status.get(which, {}) for status in _containers(pod) for which in ("state", "lastState")]
    return any("running" in state or "terminated" in state for state in states)


def _containers(pod: Json) -> list[Json]:
    statuses: list[Json] = pod["status"].get("containerStatuses", [])
    return statuses


def _log_of(kubectl: Kubectl, pod: str) -> str:
    try:
        return kubectl("logs", pod, "--tail=-1")
    except KubectlError as error:
        if "NotFound" not in str(error):
            raise
        return ""  # it went between two commands, and its log with it


def until_no_worker_is_left(operator: Kubectl) -> None:
    """Wait until the pods of earlier tests are gone, with the namespaces that they were in."""
    eventually(lambda: not operator("get", "pods", "--all-namespaces", f"--selector={POOL_LABEL}", "--output=name"))


def _config_map(program: str) -> str:
    return f"program-{program.replace('_', '-')}"
