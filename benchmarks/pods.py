"""How long the first step waits for a pod, and what a pod per run costs, beside pods that nobody operates.

A pod is the node's work: scheduler, kubelet, containerd and a Python that starts. So each figure stands beside that of
bare pods of the same image and the same sandbox: that of one whose Python does nothing, and that of one which imports
the SDK, as every worker has to.
"""

import secrets
import statistics

from benchmarks.cluster_stage import ClusterStage
from benchmarks.runs import end_all, make_run, output_of, run_once
from benchmarks.scenario import Outcome
from benchmarks.worker import now_us
from hatchet_operator.cluster.kinds import PODS, RUNS
from tests.e2e.pools import POOL

_TELL_THE_TIME = "import time; print(time.monotonic_ns() // 1000)"
_DO_NOTHING = "pass"
_IMPORT_THE_SDK = "import hatchet_sdk, grpc"
_PODS = 30


async def empty_the_pool(stage: ClusterStage) -> None:
    stage.keep_workers(1)  # registers the workflows
    stage.keep_workers(0, most=1)


async def start_cold(stage: ClusterStage) -> Outcome:
    """Start a run that finds no pod, after a bare pod."""
    bare = await _time_bare_pod(stage)
    stage.kubectl.wait("jsonpath={.status.replicas}=0", f"workerpool/{POOL}", within_seconds=120)
    stage.kubectl("wait", "--for=delete", "pods", "--all", "--timeout=55s")
    created_us = now_us()
    run = await run_once(stage, "child", {"a": "cold"})
    result = (now_us() - created_us) / 1e6
    first_step = (output_of(run, "process")["started_us"] - created_us) / 1e6
    figures = {"bare pod to its first line, s": bare, "run to the first line of its step, s": first_step}
    figures |= {"run to its result, s": result, "first line, ratio": first_step / bare}
    return Outcome(units=1, seconds=result, figures=figures)


async def give_pods_to_runs(stage: ClusterStage) -> None:
    stage.give_pods_to_runs_of("Lone")
    stage.keep_workers(1)


async def run_in_pods(stage: ClusterStage) -> Outcome:
    """Have many pods at once: bare ones before and after those of runs, since a machine is not the same twice."""
    bare = [await _rate_of_bare_pods(stage, _DO_NOTHING)]
    importing = [await _rate_of_bare_pods(stage, _IMPORT_THE_SDK)]
    ended = await end_all(stage, RUNS, [make_run("lone", {}) for _ in range(_PODS)], at_a_time=_PODS)
    importing.append(await _rate_of_bare_pods(stage, _IMPORT_THE_SDK))
    bare.append(await _rate_of_bare_pods(stage, _DO_NOTHING))
    rate = _PODS / ended.all
    figures = {
        "bare pods/s": statistics.mean(bare),
        "ratio to bare pods": rate / statistics.mean(bare),
        "ratio to pods that import the SDK": rate / statistics.mean(importing),
    }
    return Outcome(units=_PODS, seconds=ended.all, figures=figures)


async def _time_bare_pod(stage: ClusterStage) -> float:
    pod = stage.make_bare_pod(f"bare-{secrets.token_hex(3)}", _TELL_THE_TIME)
    created_us = now_us()
    await end_all(stage, PODS, [pod], at_a_time=1)
    name = pod["metadata"]["name"]
    printed = stage.kubectl("logs", name)
    stage.kubectl("delete", "pod", name)
    return (int(printed) - created_us) / 1e6


async def _rate_of_bare_pods(stage: ClusterStage, script: str) -> float:
    batch = f"bare-{secrets.token_hex(3)}"
    pods = [stage.make_bare_pod(f"{batch}-{number}", script) for number in range(_PODS)]
    for pod in pods:
        pod["metadata"]["labels"] = {"batch": batch}
    ended = await end_all(stage, PODS, pods, at_a_time=_PODS)
    stage.kubectl("delete", "pods", f"--selector=batch={batch}", within_seconds=120)
    return _PODS / ended.all
