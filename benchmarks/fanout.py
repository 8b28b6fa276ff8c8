"""How fast one parent's children are on this machine, and what they cost: ``python -m benchmarks.fanout --help``."""

import asyncio
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks.api_servers import ApiKind, CountingApi, make_api
from benchmarks.fan_outs import Mode, measure_fan_outs
from benchmarks.measurement import Measurement
from benchmarks.processes import start_processes
from benchmarks.report import print_report
from benchmarks.stage import BenchmarkFailed
from tests.kube.real_api import BinariesMissingError, ServerFailedError


def main(
    api: Annotated[ApiKind, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN.")] = (
        ApiKind.EMBEDDED
    ),
    children: Annotated[str, typer.Option(help="Sizes of the fan-outs.")] = "10,100,1000",
    mode: Annotated[Mode, typer.Option(help="Spawn all at once, or one after the other.")] = Mode.GATHER,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, of 100 slots each.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Measure each size so often; the medians are shown.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement here.")] = None,
) -> None:
    """Measure fan-outs from one parent, beside the raw rate of the same API server."""
    sizes = read_sizes(children)
    console = Console()
    console.print(
        f"{describe_machine()}; {api.value} API server, {workers} worker process(es), spawns: {mode.value}",
        soft_wrap=True,
    )
    try:
        with make_api(api) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measurements = runner.run(_measure(server, sizes * repeat, mode=mode, workers=workers))
    except (BenchmarkFailed, BinariesMissingError, ServerFailedError) as error:
        sys.exit(f"error: {error}")
    print_report(console, measurements)
    if json_file is not None:
        rows = [{"api": api.value, "mode": mode.value, **asdict(each)} for each in measurements]
        json_file.write_text(json.dumps(rows, indent=1))


async def _measure(server: CountingApi, sizes: list[int], *, mode: Mode, workers: int) -> list[Measurement]:
    async with start_processes(server, workers=workers) as stage:
        return await measure_fan_outs(stage, sizes, mode=mode)


def read_sizes(children: str) -> list[int]:
    """Read "10,100".

    Raises:
        typer.BadParameter: It is something else.
    """
    try:
        return [int(size) for size in children.split(",")]
    except ValueError:
        raise typer.BadParameter(f'"{children}" is no list of numbers', param_hint="--children") from None


def describe_machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


if __name__ == "__main__":
    typer.run(main)
