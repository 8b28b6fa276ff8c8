"""A whole cluster as the stage: the chart's release, and a pool of pods of the worker image."""

import copy
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from benchmarks.api_servers import RequestCounts, by_name
from benchmarks.stage import BenchmarkFailed, Usage
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.e2e.kubectl import Json, Kubectl, KubectlError, new_namespace
from tests.e2e.operators import installed_operator, metric, operator_pods, until_leading
from tests.e2e.pools import POOL, give_program, make_pod_spec, make_pool
from tests.kube.real_api import count_requests

_PROGRAM = Path(__file__).with_name("worker.py")
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

    def usage(self) -> Usage:
        leader = until_leading(self._operator)
        standbys = [pod for pod in operator_pods(self._operator) if pod != leader]
        cpu = {"operator": self._cpu_seconds(leader), "standby": sum(map(self._cpu_seconds, standbys))}
        return Usage(
            cpu_seconds=cpu, operator_bytes=int(metric(self._operator, leader, "process_resident_memory_bytes"))
        )

    def api_cpu_seconds(self) -> dict[str, float]:
        return {}  # known by /metrics only, which has megabytes

    def requests(self) -> RequestCounts:
        return by_name(count_requests(self.kubectl("get", "--raw=/metrics")))

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
                "the cluster has several nodes, whose clocks can't be compared; see make benchmark-cluster"
            )
        program = give_program(kubectl, _PROGRAM)
        endpoint = find_endpoint(Path(os.environ["KUBECONFIG"]))
        async with Api(endpoint, user_agent="benchmark", max_writes=1000, may_write=always) as api:
            yield ClusterStage(api, kubectl, operator, program)


@contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except KubectlError as error:
        raise BenchmarkFailed(str(error)) from error
