"""All scenarios, those that say most first: what each does once, in a few lines.

Whoever adds one adds a function and a row of `SCENARIOS`; what it costs, and the raw rate beside it, are observed by
`benchmarks.harness` from outside.
"""

import asyncio
import compileall
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.cluster_stage import ClusterStage
from benchmarks.machine import ROOT, cpu_seconds
from benchmarks.pods import empty_the_pool, give_pods_to_runs, run_in_pods, start_cold
from benchmarks.processes import NAMESPACE, Processes
from benchmarks.runs import end_all, make_run, output_of, run_once
from benchmarks.scenario import ByItself, OnCluster, OnProcesses, Outcome, Scenario
from benchmarks.stage import BenchmarkFailed, Stage
from benchmarks.watched_operator import peak_bytes
from benchmarks.worker import CHAIN_STEPS, FAILURES
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.base import Json
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.filling import fill, make_finished_runs
from tests.kube.real_api import RealApi

_HELLOS = 50
_ROOTS = 500
_AT_A_TIME = 50
_TREES = 8
_CHAINS = 8
_MIB = 2**20
_IDLE_SECONDS = 10.0
_CALM_CORES = 0.02
SOAK_VARIABLE = "BENCH_SOAK_SECONDS"


# --- Fan-outs and bursts


async def fan_out(stage: Stage, *, children: int, mode: str, options: Json | None = None) -> Outcome:
    """Have one parent spawn children, and await all of them."""
    asked: Json = {"children": children, "mode": mode, "options": options}
    said = output_of(await run_once(stage, "parent", asked), "spawn")
    latencies = {
        "spawn call p50, ms": said["spawn_ms"]["p50"],
        "spawn call p95, ms": said["spawn_ms"]["p95"],
        "spawn to start p50, ms": said["start_ms"]["p50"],
        "spawn to start p95, ms": said["start_ms"]["p95"],
    }
    return Outcome(units=children, seconds=said["seconds"], figures=latencies)


async def burst(stage: Stage) -> Outcome:
    """Create root runs as fast as the API server takes them, so many at a time."""
    ended = await end_all(stage, RUNS, [make_run("child", {"a": "x"}) for _ in range(_ROOTS)], at_a_time=_AT_A_TIME)
    return Outcome(units=_ROOTS, seconds=ended.all, figures={"accepted/s": _ROOTS / ended.accepted})


async def burst_by_sdk(stage: Stage) -> Outcome:
    """Have a program start root runs through the operator."""
    said = output_of(await run_once(stage, "burst", {"runs": _ROOTS, "at_a_time": _AT_A_TIME}), "start")
    return Outcome(units=_ROOTS, seconds=said["seconds"], figures={"accepted/s": _ROOTS / said["accepted_seconds"]})


# --- Shapes


async def hello(stage: Stage) -> Outcome:
    """Run one step, again and again, while nothing else goes on."""
    took, started = [], []
    for _ in range(_HELLOS):
        created_us = time.monotonic_ns() // 1000
        run = await run_once(stage, "child", {"a": "hello"})
        took.append(time.monotonic_ns() // 1000 - created_us)
        started.append(output_of(run, "process")["started_us"] - created_us)
    figures = {"to the result p50, ms": took, "to the start p50, ms": started}
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1] / 1000
    return Outcome(
        units=_HELLOS,
        figures={name: statistics.median(values) / 1000 for name, values in figures.items()}
        | {"to the result p95, ms": p95},
    )


async def nested(stage: Stage) -> Outcome:
    """Grow trees of four children each, three levels below their roots, one after the other.

    One takes half a second, in which kube-apiserver collects its garbage once, or not at all.
    """
    for _ in range(_TREES):
        await run_once(stage, "tree", {"depth": 3, "width": 4})
    return Outcome(units=_TREES * sum(4**level for level in range(4)))


async def chain(stage: Stage) -> Outcome:
    """Run steps that wait for each other, in one run after the other for the same reason."""
    gaps: list[int] = []
    for _ in range(_CHAINS):
        steps = (await run_once(stage, "chain", {}))["status"]["steps"]
        starts = sorted(json.loads(step["output"])["started_us"] for step in steps.values())
        gaps += (later - earlier for earlier, later in pairwise(starts))
    return Outcome(units=_CHAINS * CHAIN_STEPS, figures={"step to step p50, ms": statistics.median(gaps) / 1000})


async def retry_storm(stage: Stage) -> Outcome:
    """Have many runs fail twice, and succeed then."""
    bodies = [make_run("flaky", {}) for _ in range(200)]
    ended = await end_all(stage, RUNS, bodies, at_a_time=_AT_A_TIME)
    return Outcome(units=len(bodies), seconds=ended.all, figures={"attempts of a run": FAILURES + 1})


# --- Objects that are there, and time that passes


async def fill_with(stage: Processes, *, runs: int) -> None:
    """Put finished runs where the API server keeps them, and wait until the operator has seen them."""
    server = stage.server
    assert isinstance(server, EmbeddedApi | RealApi)
    await asyncio.to_thread(fill, server, make_finished_runs(runs))
    await stage.api.until_answered(stage.api.list_all, RUNS, NAMESPACE)  # a server just filled is behind for a while
    await until_calm(stage)


async def until_calm(stage: Processes) -> None:
    """Wait until the operator has used next to nothing for a second."""
    before = cpu_seconds(stage.operator) - 1.0
    while (now := cpu_seconds(stage.operator)) - before > _CALM_CORES:
        before = now
        await asyncio.sleep(1.0)


async def restart(stage: Processes, *, runs: int) -> Outcome:
    """Kill the operator, and start it beside so many finished runs."""
    begun = time.monotonic()
    await stage.api.list_all(RUNS, NAMESPACE)
    listed = time.monotonic() - begun
    stage.kill_operator()
    begun = time.monotonic()
    stage.start_operator()
    await stage.until_ready()
    ready = time.monotonic() - begun
    figures = {
        "ready after, s": ready,
        "CPU until then, s": cpu_seconds(stage.operator),
        "a bare list of all runs, s": listed,
        "most memory, MiB": peak_bytes(stage.operator.pid) / _MIB,
    }
    await until_calm(stage)
    return Outcome(units=runs, seconds=ready, figures=figures)


async def idle(stage: Processes) -> Outcome:
    """Do nothing."""
    before, begun = cpu_seconds(stage.operator), time.monotonic()
    await asyncio.sleep(_IDLE_SECONDS)
    seconds = time.monotonic() - begun
    share = (cpu_seconds(stage.operator) - before) / seconds
    return Outcome(units=round(seconds), seconds=seconds, figures={"of a core, %": 100 * share})


async def soak(stage: Processes) -> Outcome:
    """Run fan-outs for as long as BENCH_SOAK_SECONDS says (an hour), and see how memory grows."""
    until = time.monotonic() + float(os.environ.get(SOAK_VARIABLE, "3600"))
    runs = 0
    points: dict[str, list[tuple[float, float]]] = {"operator": [], "kube-apiserver": []}
    while time.monotonic() < until:
        runs += (await fan_out(stage, children=100, mode="gather")).units + 1
        points["operator"].append((runs, stage.operator.memory_info().rss))
        if server := stage.server.pids.get("kube-apiserver"):
            points["kube-apiserver"].append((runs, psutil.Process(server).memory_info().rss))
    later = {name: each[len(each) // 4 :] for name, each in points.items() if len(each) >= 8}  # caches fill first
    slopes = {
        f"{name} grows by a run, KiB": statistics.linear_regression(*zip(*each, strict=True)).slope / 1024
        for name, each in later.items()
    }
    return Outcome(units=runs, figures=slopes)


# --- Without a cluster


async def dev_once() -> Outcome:
    """Run the README's example from nothing: `hatchet-operator dev --run`."""
    await asyncio.to_thread(_compile_ours)
    begun = time.monotonic()
    process = await _start_dev("examples/fanout/worker.py", "--run", "Parent")
    assert process.stdout is not None
    await process.stdout.readuntil(b"}")
    first = time.monotonic() - begun
    await _end(process)
    return Outcome(
        units=1, seconds=first, figures={"to the result, s": first, "to the exit, s": time.monotonic() - begun}
    )


async def dev_fan_out(*, children: int) -> Outcome:
    """Run a fan-out in `hatchet-operator dev`, by the time that its parent takes."""
    given = json.dumps({"children": children, "mode": "gather"})
    process = await _start_dev("benchmarks/worker.py", "--run", "Parent", "--input", given)
    said = json.loads(await _end(process))["spawn"]
    return Outcome(units=children, seconds=said["seconds"], figures={"spawn to start p50, ms": said["start_ms"]["p50"]})


async def _start_dev(program: str, *arguments: str) -> asyncio.subprocess.Process:
    command = [str(Path(sys.executable).parent / "hatchet-operator"), "dev", program, *arguments, "--output", "json"]
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=_MIB
    )


def _compile_ours() -> None:
    """Compile our modules, as pip does when it installs them; what is compiled already is left alone."""
    for folder in ("cli", "dev", "operator", "sdk"):
        compileall.compile_dir(ROOT / folder, quiet=2)


async def _end(process: asyncio.subprocess.Process) -> bytes:
    stdout, _ = await process.communicate()
    if process.returncode:
        raise BenchmarkFailed(f"hatchet-operator dev ended with {process.returncode}")
    return stdout


# --- The table


def _fan_out(children: int, mode: str = "gather", *, minutes: float = 0.1) -> OnProcesses:
    name = f"{'fanout' if mode == 'gather' else mode}-{children}"
    title = f"fan-out of {children:,}" + ("" if mode == "gather" else ", one after the other")
    once = partial(fan_out, children=children, mode=mode)
    return OnProcesses(
        name=name,
        title=title,
        unit="child",
        minutes=minutes,
        beside_raw=True,
        in_turn=mode == "serial",
        once=once,
    )


def _on_cluster(children: int, mode: str = "gather", *, minutes: float = 0.4) -> OnCluster:
    return OnCluster(
        name=f"cluster-{'fanout' if mode == 'gather' else mode}-{children}",
        title=f"cluster: fan-out of {children:,}" + ("" if mode == "gather" else ", one after the other"),
        unit="child",
        minutes=minutes,
        beside_raw=True,
        in_turn=mode == "serial",
        once=partial(fan_out, children=children, mode=mode),
        prepare=_keep_two_workers,
    )


async def _keep_two_workers(stage: ClusterStage) -> None:
    stage.keep_workers(2)


def _with(runs: int) -> Callable[[Processes], Awaitable[None]]:
    return partial(fill_with, runs=runs)


def _restart(runs: int, minutes: float) -> OnProcesses:
    return OnProcesses(
        name=f"restart-{runs}",
        title=f"restart beside {runs:,} finished runs",
        unit="finished run",
        minutes=minutes,
        prepare=_with(runs),
        once=partial(restart, runs=runs),
    )


SCENARIOS: tuple[Scenario, ...] = (
    _fan_out(1000, minutes=0.35),
    OnProcesses(name="hello", title="hello, while idle", unit="run", once=hello),
    OnProcesses(name="burst", title="500 roots by bare creates", unit="run", minutes=0.2, beside_raw=True, once=burst),
    OnProcesses(
        name="burst-sdk", title="500 roots by the SDK", unit="run", minutes=0.2, beside_raw=True, once=burst_by_sdk
    ),
    _fan_out(100, minutes=0.15),
    _fan_out(100, "serial", minutes=0.15),
    OnProcesses(name="chain", title=f"a chain of {CHAIN_STEPS} steps", unit="step", minutes=0.1, once=chain),
    OnProcesses(name="nested", title="a tree of 4 by 4 by 4", unit="run", minutes=0.2, beside_raw=True, once=nested),
    OnProcesses(
        name="published-100",
        title="fan-out of 100, published SDK",
        unit="child",
        minutes=0.2,
        beside_raw=True,
        published=True,
        once=partial(fan_out, children=100, mode="gather"),
    ),
    _restart(10_000, 0.2),
    OnProcesses(name="idle-0", title="idle", unit="second", minutes=0.2, once=idle),
    ByItself(name="dev", title="dev: the README's example", unit="run", minutes=0.06, once=dev_once),
    ByItself(
        name="dev-1000",
        title="dev: fan-out of 1,000",
        unit="child",
        minutes=0.15,
        once=partial(dev_fan_out, children=1000),
    ),
    _fan_out(10),
    OnProcesses(
        name="light-1000",
        title="fan-out of 1,000 light children",
        unit="child",
        minutes=0.35,
        beside_raw=True,
        light_runs=True,
        once=partial(fan_out, children=1000, mode="gather", options={"record": "result"}),
    ),
    OnProcesses(name="retries", title="200 runs that fail twice", unit="run", minutes=0.1, once=retry_storm),
    _fan_out(1000, "serial", minutes=0.4),
    OnProcesses(
        name="idle-10000",
        title="idle beside 10,000 finished runs",
        unit="second",
        minutes=0.2,
        prepare=_with(10_000),
        once=idle,
    ),
    OnProcesses(
        name="published-500",
        title="fan-out of 500, published SDK",
        unit="child",
        minutes=0.3,
        beside_raw=True,
        published=True,
        once=partial(fan_out, children=500, mode="gather"),
    ),
    OnProcesses(
        name="published-burst",
        title="500 roots by the published SDK",
        unit="run",
        minutes=0.3,
        beside_raw=True,
        published=True,
        once=burst_by_sdk,
    ),
    _fan_out(10, "serial"),
    _restart(50_000, 0.6),
    _on_cluster(100),
    _on_cluster(500),
    _on_cluster(100, "serial"),
    OnCluster(
        name="cold",
        title="cluster: a run of a pool without pods",
        unit="run",
        minutes=0.3,
        prepare=empty_the_pool,
        once=start_cold,
    ),
    OnCluster(
        name="pods",
        title="cluster: 30 runs with a pod each",
        unit="run",
        minutes=1.5,
        prepare=give_pods_to_runs,
        once=run_in_pods,
    ),
    _on_cluster(2000, minutes=1.0),
    _fan_out(10_000, minutes=2.0),
    OnProcesses(
        name="soak", title="an hour of fan-outs", unit="run", minutes=60, repeat=1, by_default=False, once=soak
    ),
)
