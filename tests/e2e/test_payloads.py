"""A store of payloads as the chart configures it: workers' pods write there themselves, the operator removes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.images import image_of, pull_policy
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.operators import DEPLOYMENT
from tests.e2e.pools import give_program, make_pool, pods_of, until_available
from tests.e2e.slow_fan_out import finished, make_run, output_of
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

PROGRAM = Path(__file__).parents[1] / "integration/payloads_worker.py"
FOLDER = "/payloads"
CLAIM = "payloads"
MEBIBYTE = 2**20


def on_the_node(kubectl: Kubectl, script: str) -> None:
    """Run a shell's script as root on the node, where /var/tmp is its own; pods of tests may not."""
    name = f"on-the-node-{secrets.token_hex(3)}"
    container = {
        "name": "sh",
        "image": image_of("worker"),
        "imagePullPolicy": pull_policy(),
        "command": ["sh", "-c", script],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "tmp", "mountPath": "/var/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "tmp", "hostPath": {"path": "/var/tmp"}}],
    }
    kubectl.apply_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    try:
        kubectl.wait("jsonpath={.status.phase}=Succeeded", f"pod/{name}")
    finally:
        kubectl("delete", "pod", name, "--now", "--wait=false")


def claim(kubectl: Kubectl, path: str) -> str:
    """Have a namespace have the node's folder, as it would have one of a file server; return the volume's name."""
    name = f"{CLAIM}-{kubectl.namespace}"
    common: Json = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**common, "capacity": {"storage": "1Gi"}, "hostPath": {"path": path}}
    volume["persistentVolumeReclaimPolicy"] = "Retain"
    kubectl.apply_object({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume})
    wanted = {**common, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}
    kubectl.apply_object(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": wanted}
    )
    return name


@pytest.fixture
def stored(operator: Kubectl, kubectl: Kubectl) -> Iterator[Kubectl]:
    """The test's namespace, with a pool whose pods have the operator's store."""
    path, node = f"/var/tmp/{operator.namespace}-payloads", Kubectl("default")
    on_the_node(node, f"mkdir -p {path} && chmod 1777 {path}")
    volumes = [claim(each, path) for each in (operator, kubectl)]
    helm = Helm(find_helm(), operator.namespace)
    claimed = f"payloads.volume.persistentVolumeClaim.claimName={CLAIM}"
    values = f"--set=payloads.store=file://{FOLDER},{claimed}"
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", values)
    try:
        operator("rollout", "status", DEPLOYMENT, "--timeout=120s")
        pool = make_pool(give_program(kubectl, PROGRAM))
        pod = pool["spec"]["template"]["spec"]
        pod["volumes"].append({"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}})
        pod["containers"][0]["volumeMounts"].append({"name": CLAIM, "mountPath": FOLDER})
        kubectl.apply_object(pool)
        until_available(kubectl)
        yield kubectl
    finally:
        helm("rollback", RELEASE)
        operator("rollout", "status", DEPLOYMENT, "--timeout=120s")
        node("delete", "persistentvolume", *volumes, "--wait=false")
        on_the_node(node, f"rm -r {path}")


def objects_of(kubectl: Kubectl) -> list[str]:
    """Return the files in the store, as a worker's pod sees them."""
    (pod, *_) = pods_of(kubectl)
    return kubectl("exec", pod["metadata"]["name"], "--", "find", f"{FOLDER}/{kubectl.namespace}", "-type", "f").split()


def test_a_large_output_goes_into_the_store_and_is_removed_with_its_run(stored: Kubectl) -> None:
    stored.apply_object(make_run("parent", {"children": 2, "mebibytes": 2}, "spread"))
    run = finished(stored, "spread")
    assert output_of(run, "spread") == {"bytes": 4 * MEBIBYTE}
    children = stored.list("workflowruns", f"hatchet-operator.dev/parent-uid={run['metadata']['uid']}")
    assert len(objects_of(stored)) == 2
    for child in children:
        reference = output_of(child, "make")["hatchet-operator.dev/payload"]
        assert reference["url"].startswith(f"file://{FOLDER}/{stored.namespace}/{child['metadata']['uid']}/")
    stored("delete", "workflowrun", "spread")
    eventually(lambda: not objects_of(stored))
