"""The cluster of kind, where a Docker engine answers. Its node is a container in which systemd keeps things up.

So to kill is more than a signal: the control plane's static pods come back unless their manifests are away, and the
services unless systemd is told to leave them.

    HATCHET_TEST_KIND_CONFIG    file for `kind create cluster --config`: another image of the node, patches, mounts
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.cluster.binaries import cache_folder
from tests.e2e.cluster.errors import ClusterError

CONFIG_VARIABLE = "HATCHET_TEST_KIND_CONFIG"

_NAME = "hatchet-e2e"
_NODE = f"{_NAME}-control-plane"
_STATIC_PODS = {
    "etcd": "etcd",
    "apiserver": "kube-apiserver",
    "controller-manager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
}
_SERVICES = ("containerd", "kubelet")
_MANIFESTS = "/etc/kubernetes/manifests"
_AWAY = "/etc/kubernetes/away"
_START_SECONDS = 120


def docker_answers() -> bool:
    """Whether a Docker engine is there to make containers."""
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


class KindCluster:
    """The cluster named "hatchet-e2e" of the local Docker engine."""

    components = (*_STATIC_PODS, *_SERVICES)

    @property
    def kubeconfig(self) -> Path:
        return cache_folder() / "kind.kubeconfig"

    def up(self) -> None:
        """Make the cluster and return once its node is ready.

        Raises:
            ClusterError: kind or kubectl is missing, kind says no, or the node is not ready in time.
        """
        for program in ("kind", "kubectl"):
            if shutil.which(program) is None:
                raise ClusterError(f"Docker is here but {program} is not: https://kind.sigs.k8s.io, or set KUBECONFIG")
        if _NAME in _run("kind", "get", "clusters").split():
            raise ClusterError(f"kind's cluster {_NAME} is up already; python -m tests.e2e.cluster down ends it")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        given = os.environ.get(CONFIG_VARIABLE)
        options = [f"--name={_NAME}", f"--kubeconfig={self.kubeconfig}", *([f"--config={given}"] if given else [])]
        try:
            _run("kind", "create", "cluster", "--retain", *options)
            self._wait_until_ready()
        except BaseException as error:
            logs = "".join(f"\n--- {name}\n{text}" for name, text in self.logs())
            self.down()
            if isinstance(error, ClusterError):
                hint = f"\n{CONFIG_VARIABLE} may name a file with another image" if "pull image" in str(error) else ""
                raise ClusterError(f"{error}{hint}{logs}") from error
            raise

    def down(self) -> None:
        """Remove the cluster; harmless when there is none."""
        _run("kind", "delete", "cluster", f"--name={_NAME}", f"--kubeconfig={self.kubeconfig}")
        self.kubeconfig.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """Environment for programs that talk to the cluster."""
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": os.environ["PATH"]}

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs ``command`` where the cluster's API server can be reached: anywhere."""
        return list(command)

    def load(self, archive: Path) -> None:
        """Give the node an image; pods use it with ``imagePullPolicy: Never``."""
        _run("kind", "load", "image-archive", str(archive), f"--name={_NAME}")

    def kill_container(self, container: str) -> None:
        """Kill -9 a container's first process, which nothing within the container can."""
        _run_in_node("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)

    def kill(self, component: str) -> None:
        """Kill a component the hard way; it stays dead until `start`."""
        if component == "etcd":
            # Not by its manifest: the kubelet would ask for the deletion of the pod's mirror, again and again, of an
            # API server that takes half a minute to say no, and see the manifest back minutes later. To start the
            # kubelet anew takes as long. So it is frozen, and its probes with it.
            _run_in_node("sh", "-c", "pkill -STOP -x kubelet && pkill -KILL -x -f 'etcd .*'")
        elif program := _STATIC_PODS.get(component):
            manifest = f"{program}.yaml"
            script = f"mkdir -p {_AWAY} && mv {_MANIFESTS}/{manifest} {_AWAY}/ && pkill -KILL -x -f '{program} .*'"
            _run_in_node("sh", "-c", script)
        else:
            service = self._service(component)  # systemd would start it anew a second after it was killed
            _run_in_node("sh", "-c", f"pkill -KILL -x {service} && systemctl stop {service}")

    def start(self, component: str) -> None:
        """Start a component that was killed."""
        if component == "etcd":
            _run_in_node("pkill", "-CONT", "-x", "kubelet")
        elif program := _STATIC_PODS.get(component):
            _run_in_node("mv", f"{_AWAY}/{program}.yaml", f"{_MANIFESTS}/")
        else:
            _run_in_node("systemctl", "start", self._service(component))

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of the node's log, and of its static pods' logs; nothing when there is no node."""
        scripts = {_NODE: "journalctl --no-pager --lines=60"}
        for component, program in _STATIC_PODS.items():
            scripts[component] = f"tail -q -n 30 /var/log/pods/kube-system_{program}-{_NODE}_*/*/*.log"
        for name, script in scripts.items():
            done = subprocess.run(["docker", "exec", _NODE, "sh", "-c", script], capture_output=True, text=True)
            if done.stdout:
                yield name, done.stdout

    def _wait_until_ready(self) -> None:
        """kind's own --wait ends with a mere warning when the node is not ready in time."""
        kubectl = ("kubectl", f"--kubeconfig={self.kubeconfig}")
        _run(*kubectl, "wait", "--for=condition=Ready", f"node/{_NODE}", f"--timeout={_START_SECONDS}s")
        _run(*kubectl, "wait", "--for=create", "serviceaccount/default", f"--timeout={_START_SECONDS}s")

    def _service(self, component: str) -> str:
        if component not in _SERVICES:
            raise ClusterError(f"no component {component} (there are {', '.join(self.components)})")
        return component


def _run_in_node(*command: str) -> None:
    _run("docker", "exec", _NODE, *command)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is missing, with which this cluster was made, or is to be") from None
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
