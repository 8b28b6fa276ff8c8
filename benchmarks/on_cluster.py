"""The same fan-outs on a cluster, with pods: ``python -m benchmarks.on_cluster --help``; ``make benchmark-cluster``."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks.cluster_stage import cluster_stage
from benchmarks.fan_outs import Mode, measure_fan_outs
from benchmarks.fanout import describe_machine, read_sizes
from benchmarks.measurement import Measurement
from benchmarks.pods import ColdStart, PodPerRun, measure_cold_start, measure_pod_per_run
from benchmarks.report import print_pods, print_report
from benchmarks.stage import BenchmarkFailed


def main(
    children: Annotated[str, typer.Option(help="Sizes of the fan-outs.")] = "100,500,2000",
    mode: Annotated[Mode, typer.Option(help="Spawn all at once, or one after the other.")] = Mode.GATHER,
    workers: Annotated[int, typer.Option(min=1, help="Worker pods, of 100 slots each.")] = 2,
    repeat: Annotated[int, typer.Option(min=1, help="Measure each size so often; the medians are shown.")] = 1,
    cold_starts: Annotated[int, typer.Option(min=1, help="Start a pool from zero so often.")] = 5,
    pods: Annotated[int, typer.Option(min=1, help="Runs with a pod each, all at once.")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement here.")] = None,
) -> None:
    """Install the operator on the cluster of KUBECONFIG, measure, and remove it."""
    sizes = read_sizes(children)
    if "KUBECONFIG" not in os.environ:
        sys.exit("error: this needs KUBECONFIG; make benchmark-cluster makes a cluster of its own")
    console = Console()
    console.print(f"{describe_machine()}; {workers} worker pods, spawns: {mode.value}", soft_wrap=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            fan_outs, cold, lone = runner.run(
                _measure(sizes * repeat, mode=mode, workers=workers, cold_starts=cold_starts, pods=pods)
            )
    except BenchmarkFailed as error:
        sys.exit(f"error: {error}")
    print_report(console, fan_outs)
    print_pods(console, cold, lone)
    if json_file is not None:
        measured = {"fan_outs": list(map(asdict, fan_outs)), "cold_start": asdict(cold), "pod_per_run": asdict(lone)}
        json_file.write_text(json.dumps({"mode": mode.value, "workers": workers, **measured}, indent=1))


async def _measure(
    sizes: list[int], *, mode: Mode, workers: int, cold_starts: int, pods: int
) -> tuple[list[Measurement], ColdStart, PodPerRun]:
    async with cluster_stage() as stage:
        cold = await measure_cold_start(stage, repeat=cold_starts)
        lone = await measure_pod_per_run(stage, count=pods)
        stage.keep_workers(workers)  # last, since the garbage of the raw rate takes a while to go
        return await measure_fan_outs(stage, sizes, mode=mode), cold, lone


if __name__ == "__main__":
    typer.run(main)
