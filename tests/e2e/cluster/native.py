"""A Kubernetes of one node without Docker: its real programs, in namespaces of their own.

One process, the keeper, is process 1 of new network, mount and PID namespaces; everything else is started inside.
So nothing here meets the machine's addresses, ports or folders, and killing the keeper ends every component and every
pod, with their mounts and interfaces. Only cgroups and one folder are left to remove.

The trap: of cgroups there is one tree per machine, so two such clusters would share one; a lock file, held by the
keeper for as long as it lives, keeps the second one out. Root is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from ctypes.util import find_library
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import IO

import psutil
import trustme
import yaml

from tests.e2e.cluster.binaries import find_binaries
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.packages import install_packages
from tests.e2e.cluster.pause import write_pause_image

NODE = "node0"
NODE_ADDRESS = "10.200.0.1"
POD_NETWORK = "10.201.0.0/24"
SERVICE_NETWORK = "10.202.0.0/24"
API_SERVICE_ADDRESS = "10.202.0.1"

COMPONENTS = (
    "etcd",
    "apiserver",
    "controller-manager",
    "scheduler",
    "containerd",
    "kubelet",
    "proxy",
    "coredns",
)
_LOCK = Path("/run/hatchet-operator-e2e.lock")
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUP = "hatchet-operator-e2e"
_START_SECONDS = 120.0
_END_SECONDS = 60.0
_STARTED: list[subprocess.Popen[bytes]] = []  # which complain when they are dropped while their process runs
_PACKAGES = {  # what must be there besides the binaries -> the Debian package that has it
    "iptables": "iptables",
    "conntrack": "conntrack",
    "busybox": "busybox-static",
    "zstd": "zstd",
    "ip": "iproute2",
    "mount": "mount",
    "sysctl": "procps",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is written into the lock file, so that later commands find the cluster."""

    keeper: int
    directory: str
    binaries: str


class NativeCluster:
    """The machine's one native cluster; an object of this class is only a way to reach it."""

    components = COMPONENTS

    # --- Its life

    def up(self) -> None:
        """Start a cluster and return once its node is ready.

        Raises:
            ClusterError: Another one is up, or something did not start; then nothing is left behind.
        """
        if os.geteuid() != 0:
            raise ClusterError("a native cluster needs root: it makes namespaces, mounts and cgroups")
        with _LOCK.open("a+") as lock:
            if not _try_lock(lock):
                raise ClusterError(
                    f"another cluster is up on this machine ({_LOCK.read_text()}), and two would share cgroups; "
                    "python -m tests.e2e.cluster down ends it"
                )
            self._remove_leftovers()  # of one whose keeper was killed
            _install_what_is_missing()
            binaries = find_binaries()
            directory = Path(tempfile.mkdtemp(prefix="hatchet-e2e-"))
            try:
                self._start(directory, binaries, lock)
            except BaseException as error:
                logs = "".join(f"\n--- {name}\n{text}" for name, text in _logs(directory))
                if (state := _read_state()) is not None:
                    _kill_keeper(state)
                self._remove_leftovers()
                shutil.rmtree(directory, ignore_errors=True)
                if isinstance(error, ClusterError):
                    raise ClusterError(f"{error}{logs}") from error
                raise

    def _start(self, directory: Path, binaries: Path, lock: IO[str]) -> None:
        for folder in ("log", "run", "cni", "pki", "manifests", "pids"):
            (directory / folder).mkdir()
        keeper = _start_keeper(directory, lock)
        _write_state(lock, _State(keeper=keeper, directory=str(directory), binaries=str(binaries)))
        _make_cgroup()
        self._make_network()
        _write_certificates(directory / "pki")
        _write_configuration(directory)
        for name in ("etcd", "apiserver", "controller-manager", "scheduler", "containerd"):
            self.start(name)
        self._wait("the API server", lambda: self._kubectl("get", "--raw", "/readyz"))
        self._wait("containerd", (directory / "run/containerd/containerd.sock").is_socket)
        write_pause_image(directory / "pause.tar")
        self.load(directory / "pause.tar")
        for name in ("kubelet", "proxy", "coredns"):
            self.start(name)
        self._wait("the node", lambda: self._kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=1s"))
        self._wait("service accounts", lambda: self._kubectl("get", "serviceaccount", "default"))

    def down(self) -> None:
        """End everything and remove every trace; harmless when nothing is up."""
        if not _LOCK.exists():
            return
        with _LOCK.open("a+") as lock:
            if not _try_lock(lock):
                state = _read_state()
                if state is None:
                    return  # somebody is about to start one
                _kill_keeper(state)
                # Removed by whoever has the lock: by then another cluster may be on its way, and write its own state.
                if not _lock_or_see_another(lock, state):
                    return
            self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        state = _read_state()
        if state is None:
            return
        deadline = time.monotonic() + 20
        while not _remove_cgroup() and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(state.directory)
        os.truncate(_LOCK, 0)

    # --- What tests do with it

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "pki" / "admin.kubeconfig"

    def environment(self) -> dict[str, str]:
        """Environment for programs that talk to the cluster."""
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": f"{self._state.binaries}:{os.environ['PATH']}"}

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs ``command`` where Services and pods can be reached."""
        return ["nsenter", f"--target={self._state.keeper}", "--net", "--", *command]

    def load(self, archive: Path) -> None:
        """Give the node an image; pods use it with ``imagePullPolicy: Never``."""
        self._ctr("images", "import", "--local", str(archive))

    def kill_container(self, container: str) -> None:
        """Kill -9 a container's first process, which nothing within the container can."""
        self._ctr("tasks", "kill", "--signal=SIGKILL", container)

    def kill(self, component: str) -> None:
        """Kill a component the hard way; it stays dead until `start`."""
        for process in self._processes(component):
            process.kill()
            process.wait(_END_SECONDS)
        (self._directory / "pids" / component).unlink(missing_ok=True)

    def start(self, component: str) -> None:
        """Start a component unless it runs."""
        if self._processes(component):
            return
        command = _command(component, self._directory, Path(self._state.binaries))
        with (self._directory / "log" / f"{component}.log").open("ab") as log:
            entered = subprocess.Popen(
                ["nsenter", f"--target={self._state.keeper}", "--net", "--mount", "--pid", "--", *command],
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _STARTED.append(entered)
        (self._directory / "pids" / component).write_text(str(entered.pid))
        while not self._processes(component) and entered.poll() is None:  # it has ended once nsenter has
            time.sleep(0.01)

    def logs(self) -> Iterator[tuple[str, str]]:
        """The end of each component's log."""
        return _logs(self._directory)

    # --- Within

    @property
    def _state(self) -> _State:
        state = _read_state()
        if state is None:
            raise ClusterError("no native cluster is up; python -m tests.e2e.cluster up starts one")
        return state

    @property
    def _directory(self) -> Path:
        return Path(self._state.directory)

    def _processes(self, component: str) -> list[psutil.Process]:
        """The component's process: nsenter's child, since only a child is in the PID namespace."""
        if component not in COMPONENTS:
            raise ClusterError(f"no component {component} (there are {', '.join(COMPONENTS)})")
        try:
            entered = psutil.Process(int((self._directory / "pids" / component).read_text()))
            return entered.children() if entered.name() == "nsenter" else []
        except (FileNotFoundError, psutil.NoSuchProcess):
            return []

    def _ctr(self, *args: str) -> None:
        socket = self._directory / "run/containerd/containerd.sock"
        _run([f"{self._state.binaries}/ctr", f"--address={socket}", "--namespace=k8s.io", *args])

    def _kubectl(self, *args: str) -> bool:
        command = self.inside([f"{self._state.binaries}/kubectl", *args])
        return subprocess.run(command, env={**os.environ, **self.environment()}, capture_output=True).returncode == 0

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} was not ready within {_START_SECONDS:.0f} s")
            for started in (self._directory / "pids").iterdir():
                if not self._processes(started.name):
                    raise ClusterError(f"{started.name} ended while {what} was waited for")
            time.sleep(0.1)

    def _make_network(self) -> None:
        for line in (
            "ip link set lo up",
            f"ip link add {NODE} type bridge",  # with nothing on it: not every kernel has the dummy device
            f"ip address add {NODE_ADDRESS}/24 dev {NODE}",
            f"ip link set {NODE} up",
            f"ip route add default dev {NODE}",  # kubelet wants one; it leads nowhere
            "sysctl -qw net.ipv4.ip_forward=1",
        ):
            _run(self.inside(line.split()))


def _start_keeper(directory: Path, lock: IO[str]) -> int:
    """Start process 1 of the namespaces; return its process id as the machine sees it."""
    # SIGCHLD ignored: the kernel then reaps the orphans that process 1 inherits. Images are unpacked in memory: to
    # remove a gigabyte of small files took 35 s on a disk that discards.
    script = f"""
        trap '' CHLD
        mount --make-rshared /
        mount -t tmpfs images-and-pods /var/lib
        mount --bind {directory}/log /var/log
        mount --bind {directory}/run /run
        mkdir -p /run/lock
        touch {directory}/kept
        exec sleep 2147483647
    """
    unshare = subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--propagation=private",
            "sh",
            "-ec",
            script,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "log/keeper.log").open("wb"),
        start_new_session=True,
        pass_fds=[lock.fileno()],
    )
    deadline = time.monotonic() + _START_SECONDS
    while not (directory / "kept").exists():
        if unshare.poll() is not None or time.monotonic() > deadline:
            raise ClusterError(f"namespaces could not be made: {(directory / 'log/keeper.log').read_text()}")
        time.sleep(0.02)
    return psutil.Process(unshare.pid).children()[0].pid


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_or_see_another(lock: IO[str], ended: _State) -> bool:
    """Take the lock of a cluster that was ended; false: another one was started meanwhile, and removed what was left.

    Raises:
        ClusterError: Something of the cluster holds on to it.
    """
    deadline = time.monotonic() + _END_SECONDS
    while not _try_lock(lock):
        if _read_state() not in (ended, None):
            return False
        if time.monotonic() > deadline:
            raise ClusterError(f"{_LOCK} is still held, {_END_SECONDS:.0f} s after process {ended.keeper} was killed")
        time.sleep(0.05)
    return True


def _kill_keeper(state: _State) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        keeper = psutil.Process(state.keeper)
        keeper.kill()
        keeper.wait(_END_SECONDS)  # process 1 ends after all others of its namespace


def _write_state(lock: IO[str], state: _State) -> None:
    lock.truncate(0)
    lock.write(json.dumps(asdict(state)))
    lock.flush()


def _read_state() -> _State | None:
    text = _LOCK.read_text() if _LOCK.exists() else ""
    return _State(**json.loads(text)) if text else None


def _logs(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(directory.glob("log/*.log")):
        yield path.stem, "\n".join(path.read_text(errors="replace").splitlines()[-30:])


# --- Cgroups


def _controllers() -> list[Path]:
    """The roots of the cgroup trees: one each in version 1, one altogether in version 2."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [folder for folder in _CGROUPS.iterdir() if (folder / "cgroup.procs").exists() and not folder.is_symlink()]


def _make_cgroup() -> None:
    """Make the node's own root, so that removing it removes all of its pods' cgroups and no others."""
    for root in _controllers():
        if (root / "cgroup.controllers").exists():  # version 2 hands controllers down by order only
            for controller in (root / "cgroup.controllers").read_text().split():
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
        (root / _CGROUP).mkdir(exist_ok=True)


def _remove_cgroup() -> bool:
    """Remove it bottom up; return whether nothing of it is left."""
    done = True
    for root in _controllers():
        for folder, _, _ in os.walk(root / _CGROUP, topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # busy: a process of it is still ending
                done = False
    return done


# --- Files


def _write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    authority.private_key_pem.write_to_path(str(folder / "ca.key"))
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    api = authority.issue_cert(*names, NODE_ADDRESS, API_SERVICE_ADDRESS, "127.0.0.1", common_name="kube-apiserver")
    _write_certificate(api, folder / "api")
    authority.issue_cert("service-accounts").private_key_pem.write_to_path(str(folder / "service-accounts.key"))
    for name, user, group in (
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
        ("kubelet", f"system:node:{NODE}", "system:nodes"),
        ("admin", "admin", "system:masters"),
    ):
        certificate = authority.issue_cert(f"{name}.local", common_name=user, organization_name=group)
        _write_certificate(certificate, folder / name)
        (folder / f"{name}.kubeconfig").write_text(_kubeconfig(folder, name))


def _write_certificate(certificate: trustme.LeafCert, path: Path) -> None:
    certificate.private_key_pem.write_to_path(f"{path}.key")
    path.with_suffix(".crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))


def _kubeconfig(folder: Path, name: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "e2e",
                    "cluster": {
                        "server": f"https://{NODE_ADDRESS}:6443",
                        "certificate-authority": str(folder / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate": str(folder / f"{name}.crt"),
                        "client-key": str(folder / f"{name}.key"),
                    },
                }
            ],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        }
    )


def _write_configuration(directory: Path) -> None:
    files = Path(__file__).parent / "configuration"
    values = {
        "DIRECTORY": str(directory),
        "NODE_ADDRESS": NODE_ADDRESS,
        "POD_NETWORK": POD_NETWORK,
        "CGROUP": _CGROUP,
    }
    for source in files.iterdir():
        folder = directory / "cni" if source.suffix == ".conflist" else directory
        (folder / source.name).write_text(Template(source.read_text()).substitute(values))


# --- Components


def _command(component: str, directory: Path, binaries: Path) -> list[str]:
    pki = directory / "pki"
    etcd = "http://127.0.0.1:2379"
    commands: dict[str, list[str]] = {
        "etcd": [
            "etcd",
            f"--data-dir={directory}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
        ],
        "apiserver": [
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/api.crt",
            f"--tls-private-key-file={pki}/api.key",
            f"--service-account-key-file={pki}/service-accounts.key",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--kubelet-preferred-address-types=InternalIP",  # names of nodes resolve nowhere
        ],
        "controller-manager": [
            "kube-controller-manager",
            f"--kubeconfig={pki}/controller-manager.kubeconfig",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            "--use-service-account-credentials",
            "--leader-elect=false",
        ],
        "scheduler": [
            "kube-scheduler",
            f"--kubeconfig={pki}/scheduler.kubeconfig",
            f"--authentication-kubeconfig={pki}/scheduler.kubeconfig",
            f"--authorization-kubeconfig={pki}/scheduler.kubeconfig",
            "--leader-elect=false",
        ],
        "containerd": ["containerd", f"--config={directory}/containerd.toml"],
        "kubelet": [
            "kubelet",
            f"--config={directory}/kubelet.yaml",
            f"--kubeconfig={pki}/kubelet.kubeconfig",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
        ],
        "proxy": [
            "kube-proxy",
            f"--kubeconfig={pki}/proxy.kubeconfig",
            f"--cluster-cidr={POD_NETWORK}",
            f"--hostname-override={NODE}",
            "--proxy-mode=iptables",
            "--conntrack-max-per-core=0",  # these are the machine's, not the namespace's
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        "coredns": ["coredns", f"-conf={directory}/Corefile"],
    }
    program, *options = commands[component]
    return [str(binaries / program), *options]


def _install_what_is_missing() -> None:
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if find_library("seccomp") is None:
        missing.append("libseccomp2")
    install_packages(missing)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
