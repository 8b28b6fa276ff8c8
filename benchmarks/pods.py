"""How long the first step waits for a pod, and what a pod per run costs, beside pods that nobody operates.

A pod is the node's work: scheduler, kubelet, containerd and a Python that starts. So each figure stands beside that of
bare pods of the same image and the same sandbox: that of one whose Python does nothing, and that of one which imports
the SDK, as every worker has to.
"""

import asyncio
import json
import secrets
import statistics
import time
from dataclasses import dataclass

from benchmarks.cluster_stage import ClusterStage
from benchmarks.fan_outs import make_run, run_until_succeeded
from benchmarks.stage import BenchmarkFailed
from benchmarks.worker import now_us
from hatchet_operator.cluster.api import Json
from hatchet_operator.cluster.kinds import PODS, RUNS, Resource
from tests.e2e.pools import POOL

_TELL_THE_TIME = "import time; print(time.monotonic_ns() // 1000)"
_DO_NOTHING = "pass"
_IMPORT_THE_SDK = "import hatchet_sdk, grpc"
_PATIENCE_SECONDS = 600.0
_ENDS = ("Succeeded", "Failed", "Cancelled")


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Seconds, each the median of several.

    Attributes:
        bare_pod: From the creation of a pod to the first line of its Python.
        first_step: From the creation of a run, of a pool without a pod, to the first line of its step.
        result: To its result.
    """

    bare_pod: float
    first_step: float
    result: float


@dataclass(frozen=True, kw_only=True)
class PodPerRun:
    """Rates of as many at once.

    Attributes:
        count: How many.
        runs_per_second: Of runs that have a pod each.
        bare_pods_per_second: Of pods whose Python does nothing.
        importing_pods_per_second: Of pods whose Python imports the SDK and ends.
        requests: Of all clients of the API server while the runs ran, by verb and resource.
    """

    count: int
    runs_per_second: float
    bare_pods_per_second: float
    importing_pods_per_second: float
    requests: dict[str, int]


async def measure_cold_start(stage: ClusterStage, *, repeat: int) -> ColdStart:
    """Start runs that find no pod, and bare pods in turn with them."""
    stage.keep_workers(1)  # registers the workflows
    stage.keep_workers(0, most=1)
    bare_pods, first_steps, results = [], [], []
    for _ in range(repeat):
        bare_pods.append(await _time_bare_pod(stage))
        stage.kubectl.wait("jsonpath={.status.replicas}=0", f"workerpool/{POOL}", within_seconds=120)
        stage.kubectl("wait", "--for=delete", "pods", "--all", "--timeout=55s")
        created_us = now_us()
        run = await run_until_succeeded(stage, "child", {"a": "cold"}, within_seconds=_PATIENCE_SECONDS)
        results.append((now_us() - created_us) / 1e6)
        started_us = json.loads(run["status"]["steps"]["process"]["output"])["started_us"]
        first_steps.append((started_us - created_us) / 1e6)
    return ColdStart(
        bare_pod=statistics.median(bare_pods),
        first_step=statistics.median(first_steps),
        result=statistics.median(results),
    )


async def measure_pod_per_run(stage: ClusterStage, *, count: int) -> PodPerRun:
    """Have many pods at once: bare ones before and after those of runs, since a machine is not the same twice."""
    stage.give_pods_to_runs_of("Lone")
    stage.keep_workers(1)
    bare = [await _rate_of_bare_pods(stage, count, _DO_NOTHING)]
    importing = [await _rate_of_bare_pods(stage, count, _IMPORT_THE_SDK)]
    requests = stage.requests()
    seconds = await _seconds_until_all_end(stage, RUNS, [make_run("lone", {}) for _ in range(count)])
    requests_after = stage.requests()
    importing.append(await _rate_of_bare_pods(stage, count, _IMPORT_THE_SDK))
    bare.append(await _rate_of_bare_pods(stage, count, _DO_NOTHING))
    return PodPerRun(
        count=count,
        runs_per_second=count / seconds,
        bare_pods_per_second=statistics.mean(bare),
        importing_pods_per_second=statistics.mean(importing),
        requests=dict(requests_after - requests),
    )


async def _time_bare_pod(stage: ClusterStage) -> float:
    pod = stage.make_bare_pod(f"bare-{secrets.token_hex(3)}", _TELL_THE_TIME)
    created_us = now_us()
    await _seconds_until_all_end(stage, PODS, [pod])
    name = pod["metadata"]["name"]
    printed = stage.kubectl("logs", name)
    stage.kubectl("delete", "pod", name)
    return (int(printed) - created_us) / 1e6


async def _rate_of_bare_pods(stage: ClusterStage, count: int, script: str) -> float:
    batch = f"bare-{secrets.token_hex(3)}"
    pods = [stage.make_bare_pod(f"{batch}-{number}", script) for number in range(count)]
    for pod in pods:
        pod["metadata"]["labels"] = {"batch": batch}
    seconds = await _seconds_until_all_end(stage, PODS, pods)
    stage.kubectl("delete", "pods", f"--selector=batch={batch}", within_seconds=120)
    return count / seconds


async def _seconds_until_all_end(stage: ClusterStage, resource: Resource, bodies: list[Json]) -> float:
    """Create objects at once and watch until each has ended well."""
    waiting = {body["metadata"]["name"] for body in bodies}
    _, version = await stage.api.list_all(resource, stage.namespace)
    begun = time.monotonic()
    await asyncio.gather(*(stage.api.create(resource, stage.namespace, body) for body in bodies))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async for kind, obj in stage.api.watch(
                resource, stage.namespace, resource_version=version, timeout_seconds=int(_PATIENCE_SECONDS)
            ):
                phase = obj.get("status", {}).get("phase")
                if kind == "BOOKMARK" or phase not in _ENDS:
                    continue
                if phase != "Succeeded":
                    raise BenchmarkFailed(f"{resource.kind} {obj['metadata']['name']} {phase}:\n{stage.logs()}")
                waiting.discard(obj["metadata"]["name"])
                if not waiting:
                    return time.monotonic() - begun
    except TimeoutError:
        pass
    raise BenchmarkFailed(f"{len(waiting)} {resource.plural} of {len(bodies)} did not end in time:\n{stage.logs()}")
