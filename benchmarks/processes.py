"""Operator, local node and workers beside an API server: each a process of its own, so that each one's CPU is known."""

import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.api_servers import CountingApi, read_gauge
from benchmarks.machine import cpu_seconds
from benchmarks.stage import BenchmarkFailed, Counts, Load, own_cpu_seconds
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import CRDS, POOLS, RUNS, Resource
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import AlreadyExists, NotFound
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds
from tests.kube.eventually import eventually
from tests.kube.real_api import die_with_parent, end

NAMESPACE = "default"
_ROOT = Path(__file__).parents[1]
_POOL = "benchmark"


class Processes:
    """All that runs, see `Stage`."""

    namespace = NAMESPACE

    def __init__(self, server: CountingApi, api: Api, directory: Path, *, light_runs: bool = False) -> None:
        self.api = api
        self.server = server
        self._directory = directory
        self._more = ["light"] if light_runs else []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [*die_with_parent(), sys.executable, *command],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the benchmark, which ends the others in order
            )

    def start_operator(self) -> None:
        (self._directory / "ready").unlink(missing_ok=True)
        kubeconfig = str(self.server.endpoint.kubeconfig)
        command = ["-m", "benchmarks.operator_process", kubeconfig, NAMESPACE, str(self._directory), *self._more]
        self.start("operator", command)

    def kill_operator(self) -> None:
        operator = self._processes.pop("operator")
        operator.kill()
        operator.wait()

    async def until_ready(self) -> None:
        """Wait until the operator lets workers in."""

        async def is_ready() -> bool:
            self.check_alive()
            return (self._directory / "ready").exists()

        await eventually(is_ready, within_seconds=600)

    @property
    def operator(self) -> psutil.Process:
        return psutil.Process(self._processes["operator"].pid)

    def stop(self) -> None:
        while self._processes:
            _, process = self._processes.popitem()
            end(process)

    def check_alive(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise BenchmarkFailed(f"the {name} ended with {process.returncode}:\n{self._log_tail(name)}")

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{self._log_tail(name)}" for name in self._processes)

    def _log_tail(self, name: str) -> str:
        return "\n".join((self._directory / f"{name}.log").read_text(errors="replace").splitlines()[-20:])

    def load(self) -> Load:
        node = psutil.Process(self._processes["local node"].pid)
        ours = {
            "operator": cpu_seconds(self.operator),
            "worker": sum(map(cpu_seconds, node.children(recursive=True))),
            "local node": cpu_seconds(node),
            "client": own_cpu_seconds(),
        }
        servers = {name: cpu_seconds(psutil.Process(pid)) for name, pid in self.server.pids.items()}
        return Load(cpu_seconds=ours | servers)

    def counts(self) -> Counts:
        return Counts(
            api=self.server.counts(),
            grpc_messages=read_gauge(self._operator_metrics(), "benchmark_grpc_messages"),
            operator_bytes=self.operator.memory_info().rss,
        )

    def _operator_metrics(self) -> str:
        ready = self._directory / "ready"
        if not ready.exists():
            return ""
        with urllib.request.urlopen(f"http://127.0.0.1:{ready.read_text()}/metrics", timeout=10) as response:
            return str(response.read(), "utf-8")


@asynccontextmanager
async def start_processes(
    server: CountingApi, *, workers: int = 1, python: str = sys.executable, light_runs: bool = False
) -> AsyncIterator[Processes]:
    """Install the CRDs, start the operator and a pool of workers, and wait until these are connected.

    Args:
        server: Already started.
        workers: Processes, of 100 slots each.
        python: The interpreter of the workers, and so their SDK.
        light_runs: Whether children may be recorded with their result.
    """
    with tempfile.TemporaryDirectory(prefix="hatchet-benchmark-") as name:
        directory = Path(name)
        kubeconfig = str(server.endpoint.kubeconfig)
        async with Api(
            find_endpoint(server.endpoint.kubeconfig), user_agent="benchmark", max_writes=1000, may_write=always
        ) as api:
            stage = Processes(server, api, directory, light_runs=light_runs)
            try:
                await install_crds(api, light_runs=light_runs)
                stage.start_operator()
                node = ["--state-dir", name, "--kubeconfig", kubeconfig, "--namespace", NAMESPACE]
                stage.start("local node", ["-m", "hatchet_operator_dev.localnode", *node])
                await api.create(POOLS, NAMESPACE, _pool(workers, python))
                await _wait_for_workers(stage, workers)
                yield stage
            finally:
                stage.stop()


async def install_crds(api: Api, *, light_runs: bool = False) -> None:
    for crd in load_crds(light_runs=light_runs):
        with suppress(AlreadyExists):
            await api.create(CRDS, None, crd)
    await eventually(lambda: _are_served(api, RUNS, POOLS))


async def _are_served(api: Api, *resources: Resource) -> bool:
    try:
        for resource in resources:
            await api.until_answered(api.list_one, resource, NAMESPACE)
    except NotFound:
        return False
    return True


async def _wait_for_workers(stage: Processes, count: int) -> None:
    async def are_connected() -> bool:
        stage.check_alive()
        pool = await stage.api.get(POOLS, NAMESPACE, _POOL)
        return bool(pool.get("status", {}).get("readyReplicas", 0) >= count)

    try:
        await eventually(are_connected)
    except TimeoutError:
        raise BenchmarkFailed(f"the workers are not connected:\n{stage.logs()}") from None


def _pool(workers: int, python: str) -> Json:
    container = {
        "name": "worker",
        "image": "local",
        "command": [python, str(Path(__file__).with_name("worker.py"))],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": POOLS.kind,
        "metadata": {"name": _POOL},
        "spec": {"minReplicas": workers, "template": {"spec": {"containers": [container]}}},
    }
