"""A real etcd and kube-apiserver as child processes: what tests and benchmarks run against where no cluster is at hand.

There is no kubelet and no scheduler: a pod is an object and nothing more. Controllers are off too, since tests of an
API are easier to read when nothing else writes; `RealApi.start_controllers` adds those that one test needs.

The trap: the garbage collector learns of new CRDs only every 30 seconds, so start it after they are installed.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client.parser import text_string_to_metric_families

BINARIES_VARIABLE = "HATCHET_TEST_KUBE_BIN"
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
_START_SECONDS = 90.0  # three seconds on a quiet machine; CI machines are not quiet
_STOP_SECONDS = 10.0


class BinariesMissingError(Exception):
    """No Kubernetes binaries here; the message says what to set."""


class ServerFailedError(Exception):
    """A process ended or did not become ready; the message ends with its log."""


@dataclass(frozen=True, kw_only=True)
class ApiEndpoint:
    """Where an API server listens, and what an administrator needs to talk to it."""

    url: str
    token: str
    ca_file: Path | None
    kubeconfig: Path

    def ssl_context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None


@dataclass(frozen=True, kw_only=True, order=True)
class RequestKind:
    """What one time series of ``apiserver_request_total`` counts."""

    verb: str
    group: str
    resource: str
    subresource: str
    code: int


def find_binaries() -> Path:
    """Return the folder that holds etcd, kube-apiserver, kube-controller-manager and kubectl.

    Raises:
        BinariesMissingError: The variable is unset, or the folder lacks one of them.
    """
    folder = os.environ.get(BINARIES_VARIABLE)
    if not folder:
        raise BinariesMissingError(f"set {BINARIES_VARIABLE} to a folder with {', '.join(BINARIES)} to run this")
    missing = [name for name in BINARIES if not os.access(Path(folder, name), os.X_OK)]
    if missing:
        raise BinariesMissingError(f"{BINARIES_VARIABLE}={folder} has no executable {', '.join(missing)}")
    return Path(folder)


class RealApi:
    """An etcd and a kube-apiserver on free loopback ports, with a throw-away data directory.

    Both end with `stop`, with the ``with`` block, at exit of this process, and (on Linux) when it is killed; then also
    when the thread that called `start` ends, so call it from one that stays.

    Args:
        directory: Holds data, certificates and logs; ``None`` makes a temporary one, removed by `stop`.
        binaries: The folder of the binaries; ``None`` asks `find_binaries`.
        unsafe_no_fsync: Let etcd answer before data are on disk: faster tests, meaningless benchmarks.
        api_server_args: More arguments for kube-apiserver.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        binaries: Path | None = None,
        unsafe_no_fsync: bool = False,
        api_server_args: Sequence[str] = (),
    ) -> None:
        self._binaries = binaries or find_binaries()
        self._owns_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="real-api-"))
        self._unsafe_no_fsync = unsafe_no_fsync
        self._api_server_args = tuple(api_server_args)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = ExitStack()  # held for as long as they are served
        self._endpoint: ApiEndpoint | None = None
        self._etcd_url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> ApiEndpoint:
        if self._endpoint is None:
            raise ServerFailedError("the API server is not started")
        return self._endpoint

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def token(self) -> str:
        return self.endpoint.token

    @property
    def ca_file(self) -> Path:
        assert self.endpoint.ca_file is not None
        return self.endpoint.ca_file

    @property
    def kubeconfig(self) -> Path:
        return self.endpoint.kubeconfig

    @property
    def kubectl(self) -> Path:
        return self._binaries / "kubectl"

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each component that was started, by the name of its binary."""
        return {name: process.pid for name, process in self._processes.items()}

    def start(self) -> None:
        """Start both and return once the API server is ready (about 5 s).

        Raises:
            ServerFailedError: One of them ended, or was not ready in time.
        """
        atexit.register(self.stop)
        try:
            client_port, peer_port, api_port = (self._ports.enter_context(_reserved_port()) for _ in range(3))
            self._etcd_url = f"http://127.0.0.1:{client_port}"
            self._start_etcd(self._etcd_url, f"http://127.0.0.1:{peer_port}")
            self._endpoint = self._start_api_server(self._etcd_url, api_port)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started, last first; harmless when nothing runs."""
        atexit.unregister(self.stop)
        while self._processes:
            _, process = self._processes.popitem()
            end(process)
        self._ports.close()
        self._endpoint = None
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start_controllers(
        self,
        controllers: Sequence[str] = ("garbage-collector-controller", "namespace-controller"),
        args: Sequence[str] = (),
    ) -> None:
        """Start kube-controller-manager with these controllers only, unless it runs already."""
        if "kube-controller-manager" in self._processes:
            return
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(controllers)}",
            "--leader-elect=false",
            "--secure-port=0",
            *args,
        )

    def forget_history(self) -> None:
        """Have etcd forget old versions: whoever asks for one is told that it expired."""
        revision = self._etcd("kv/range", key=_base64(b"\0"))["header"]["revision"]
        self._etcd("kv/compaction", revision=revision, physical=True)

    def request_counts(self) -> Counter[RequestKind]:
        """Return how many requests of each kind the API server has answered since it started."""
        return count_requests(self.metrics())

    def metrics(self) -> str:
        """Return the API server's page of metrics, which has megabytes."""
        return self._get("/metrics")

    def etcd_metrics(self) -> str:
        with urllib.request.urlopen(f"{self._etcd_url}/metrics", timeout=10) as response:
            return str(response.read(), "utf-8")

    def _start_etcd(self, client_url: str, peer_url: str) -> None:
        self._spawn(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--log-level=warn",
            "--socket-reuse-port",
            *(["--unsafe-no-fsync"] if self._unsafe_no_fsync else []),
        )

    def _start_api_server(self, etcd_url: str, port: int) -> ApiEndpoint:
        directory = self.directory
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.crt"))
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_pem.write_to_path(str(directory / "api.key"))
        (directory / "api.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        (directory / "service-accounts.key").write_bytes(_make_private_key())
        token = secrets.token_urlsafe(24)
        (directory / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        endpoint = ApiEndpoint(
            url=f"https://127.0.0.1:{port}",
            token=token,
            ca_file=directory / "ca.crt",
            kubeconfig=directory / "kubeconfig",
        )
        write_kubeconfig(endpoint)
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            "--permit-port-sharing",
            f"--tls-cert-file={directory / 'api.crt'}",
            f"--tls-private-key-file={directory / 'api.key'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            f"--service-account-key-file={directory / 'service-accounts.key'}",
            f"--service-account-signing-key-file={directory / 'service-accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # loopback is no address for the Service of the API server
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # nobody creates the service account "default" here
            *self._api_server_args,
        )
        return endpoint

    def _spawn(self, name: str, *args: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*die_with_parent(), str(self._binaries / name), *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the tests, which still want to clean up
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise ServerFailedError(f"{name} ended with {process.returncode}:\n{self._log_tail(name)}")
            try:
                self._get("/readyz")
            except (OSError, urllib.error.URLError) as error:
                if time.monotonic() > deadline:
                    log = self._log_tail("kube-apiserver")
                    raise ServerFailedError(f"not ready within {_START_SECONDS:.0f} s: {error}\n{log}") from error
                time.sleep(0.1)
            else:
                return

    def _get(self, path: str) -> str:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10, context=self.endpoint.ssl_context()) as response:
            return str(response.read(), "utf-8")

    def put_into_etcd(self, values: dict[str, bytes]) -> None:
        """Write objects where the API server keeps them, past all its checks: thousands take a moment."""
        puts = [
            {"requestPut": {"key": _base64(key.encode()), "value": _base64(value)}} for key, value in values.items()
        ]
        self._etcd("kv/txn", success=puts)

    def _etcd(self, call: str, **fields: object) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._etcd_url}/v3/{call}", data=json.dumps(fields).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def _log_tail(self, name: str) -> str:
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-20:])


def count_requests(metrics: str) -> Counter[RequestKind]:
    """Read what an API server's ``/metrics`` say about the requests that it answered since it started."""
    # the whole page is megabytes, and the parser is slow
    lines = [line for line in metrics.splitlines() if line.startswith("apiserver_request_total{")]
    families = text_string_to_metric_families("\n".join(["# TYPE apiserver_request_total counter", *lines, ""]))
    counts: Counter[RequestKind] = Counter()
    for sample in (sample for family in families for sample in family.samples):
        labels = sample.labels
        kind = RequestKind(
            verb=labels["verb"],
            group=labels["group"],
            resource=labels["resource"],
            subresource=labels["subresource"],
            code=int(labels["code"]),
        )
        counts[kind] += int(sample.value)
    return counts


def write_kubeconfig(endpoint: ApiEndpoint) -> None:
    """Write the file that makes kubectl, kopf and the client libraries an administrator of this server."""
    cluster = {"server": endpoint.url}
    if endpoint.ca_file:
        cluster["certificate-authority"] = str(endpoint.ca_file)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": endpoint.token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    endpoint.kubeconfig.write_text(yaml.safe_dump(config))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _make_private_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def die_with_parent() -> list[str]:
    """Return a command prefix that has the kernel kill the child when this process is killed."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that nobody gets but a server of ours, which has to share it; we hold it and take no connection."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
