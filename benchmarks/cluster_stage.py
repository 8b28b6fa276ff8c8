"""A whole cluster as the stage: the chart's release, and a pool of pods of the worker image."""

import copy
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.api_servers import read_counts
from benchmarks.machine import cpu_seconds
from benchmarks.stage import BenchmarkFailed, Counts, Load, own_cpu_seconds
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.e2e.kubectl import Json, Kubectl, KubectlError, new_namespace
from tests.e2e.operators import installed_operator, metric, operator_pods, until_leading
from tests.e2e.pools import POOL, give_program, make_pod_spec, make_pool

_PROGRAM = Path(__file__).with_name("worker.py")
_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "containerd")
_SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}


class ClusterStage:
    """See `Stage`. The cluster has one node, which is this machine: its pods read the same clock."""

    def __init__(self, api: Api, kubectl: Kubectl, operator: Kubectl, program: str) -> None:
        self.api = api
        self.namespace = kubectl.namespace
        self.kubectl = kubectl
        self._operator = operator
        self._program = program

    def check_alive(self) -> None:
        """Kubernetes keeps everything alive."""

    def logs(self) -> str:
        stories = (*self.kubectl.story(), *self._operator.story())
        return "\n".join(f"--- {title}\n{text}" for title, text in stories)

    def load(self) -> Load:
        leader = until_leading(self._operator)
        standbys = [pod for pod in operator_pods(self._operator) if pod != leader]
        ours = {
            "operator": self._cpu_seconds(leader),
            "standby": sum(map(self._cpu_seconds, standbys)),
            "client": own_cpu_seconds(),
        }
        if (pods := _pods_cpu_seconds()) is not None:
            ours["worker"] = pods - ours["operator"] - ours["standby"]
        return Load(cpu_seconds=ours | _components_cpu_seconds())

    def counts(self) -> Counts:
        leader = until_leading(self._operator)
        return Counts(
            api=read_counts(self.kubectl("get", "--raw=/metrics")),
            grpc_messages=None,
            operator_bytes=int(metric(self._operator, leader, "process_resident_memory_bytes")),
        )

    def keep_workers(self, count: int, *, most: int | None = None) -> None:
        """Have the pool be of so many pods, or of that many up to ``most``, and wait until they are connected."""
        pool = make_pool(self._program, minReplicas=count, maxReplicas=most or count, idleBeforeScaleIn="1s", slots=100)
        self.kubectl.apply_object(pool)
        self.kubectl.wait(f"jsonpath={{.status.readyReplicas}}={count}", f"workerpool/{POOL}", within_seconds=120)

    def make_bare_pod(self, name: str, script: str) -> Json:
        """Make a pod like a worker's that does nothing but a line of Python."""
        spec = copy.deepcopy(make_pod_spec(self._program))
        (container,) = spec["containers"]
        container |= {"command": ["python", "-c", script], "resources": _SMALL}
        spec["restartPolicy"] = "Never"
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def give_pods_to_runs_of(self, workflow: str) -> None:
        """Have each run of a workflow get a pod."""
        spec = {"name": workflow, "execution": "Pod", "podOverrides": {"resources": _SMALL}}
        metadata = {"name": workflow.lower()}
        api_version = "hatchet-operator.dev/v1alpha1"
        self.kubectl.apply_object(
            {"apiVersion": api_version, "kind": "Workflow", "metadata": metadata, "spec": spec},
        )

    def _cpu_seconds(self, pod: str) -> float:
        return metric(self._operator, pod, "process_cpu_seconds_total")


@asynccontextmanager
async def cluster_stage() -> AsyncIterator[ClusterStage]:
    """Install the operator, and make a namespace with the program; both go at the end of the block.

    Raises:
        BenchmarkFailed: There is no cluster, or it has more nodes than this machine.
    """
    with _as_failure(), installed_operator() as operator, new_namespace("benchmark") as kubectl:
        if len(kubectl.list("nodes")) != 1:
            raise BenchmarkFailed(
                "the cluster has several nodes, whose clocks can't be compared; see benchmarks/README.md"
            )
        program = give_program(kubectl, _PROGRAM)
        endpoint = find_endpoint(Path(os.environ["KUBECONFIG"]))
        async with Api(endpoint, user_agent="benchmark", max_writes=1000, may_write=always) as api:
            yield ClusterStage(api, kubectl, operator, program)


def _pods_cpu_seconds() -> float | None:
    """What all pods of this machine have used, those that are gone included; None if their cgroup is elsewhere."""
    root = Path("/sys/fs/cgroup")
    for folder in (*root.glob("*/kubepods"), *root.glob("cpuacct/*/kubepods")):
        if (version_1 := folder / "cpuacct.usage").exists():
            return int(version_1.read_text()) / 1e9
        if (version_2 := folder / "cpu.stat").exists():
            return int(version_2.read_text().split()[1]) / 1e6
    return None


def _components_cpu_seconds() -> dict[str, float]:
    """What Kubernetes has used on this machine, where its one node is; nothing if it runs behind Docker."""
    cpu: defaultdict[str, float] = defaultdict(float)
    for process in psutil.process_iter(["name"]):
        name = process.info["name"]
        if name in _COMPONENTS:
            with suppress(psutil.Error):  # it has just ended
                cpu[name] += cpu_seconds(process)
    return dict(cpu)


@contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except KubectlError as error:
        raise BenchmarkFailed(str(error)) from error
