"""The cluster of kind, where a Docker engine answers. Its node is a container in which systemd keeps things up.

So to kill is more than a signal: the control plane's static pods come back unless their manifests are away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.cluster.binaries import cache_folder
from tests.e2e.cluster.errors import ClusterError

_NAME = "hatchet-e2e"
_NODE = f"{_NAME}-control-plane"
_STATIC_PODS = {
    "etcd": "etcd",
    "apiserver": "kube-apiserver",
    "controller-manager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
}
_SERVICES = {"containerd": "containerd", "kubelet": "kubelet"}
_MANIFESTS = "/etc/kubernetes/manifests"
_AWAY = "/etc/kubernetes/away"


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
            ClusterError: kind is missing, or says no; a cluster of that name may be there already.
        """
        if shutil.which("kind") is None:
            raise ClusterError("Docker is here but kind is not: https://kind.sigs.k8s.io, or set KUBECONFIG")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        _run("kind", "create", "cluster", f"--name={_NAME}", f"--kubeconfig={self.kubeconfig}", "--wait=120s")

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
        _run(*f"docker exec {_NODE} ctr --namespace=k8s.io tasks kill --signal=SIGKILL {container}".split())

    def kill(self, component: str) -> None:
        """Kill a component the hard way; it stays dead until `start`."""
        if program := _STATIC_PODS.get(component):
            manifest = f"{program}.yaml"
            script = f"mkdir -p {_AWAY} && mv {_MANIFESTS}/{manifest} {_AWAY}/ && pkill -KILL -x -f '{program} .*'"
            _run("docker", "exec", _NODE, "sh", "-c", script)
        else:
            service = self._service(component)
            _run("docker", "exec", _NODE, "systemctl", "mask", "--runtime", service)
            _run("docker", "exec", _NODE, "systemctl", "kill", "--signal=KILL", service)

    def start(self, component: str) -> None:
        """Start a component that was killed."""
        if program := _STATIC_PODS.get(component):
            _run("docker", "exec", _NODE, "mv", f"{_AWAY}/{program}.yaml", f"{_MANIFESTS}/")
        else:
            service = self._service(component)
            _run("docker", "exec", _NODE, "systemctl", "unmask", "--runtime", service)
            _run("docker", "exec", _NODE, "systemctl", "start", service)

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of the node's log."""
        done = subprocess.run(
            ["docker", "exec", _NODE, "journalctl", "--no-pager", "--lines=60"], capture_output=True, text=True
        )
        yield _NODE, done.stdout + done.stderr

    def _service(self, component: str) -> str:
        try:
            return _SERVICES[component]
        except KeyError:
            raise ClusterError(f"no component {component} (there are {', '.join(self.components)})") from None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
