"""What finished runs cost the operator: ``python -m benchmarks.many_runs --help``.

Each start is that of a process of its own, beside an API server of its own.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks.api_servers import ApiKind, CountingApi, make_api
from benchmarks.loop_lag import Lag
from benchmarks.machine import ROOT, describe_machine, read_sizes
from benchmarks.pauses import WORKFLOW, Pauses, make_workflow
from benchmarks.processes import NAMESPACE, install_crds
from benchmarks.stage import BenchmarkFailed
from benchmarks.watched_operator import WatchedOperator
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.filling import fill, make_finished_runs
from tests.kube.real_api import BinariesMissingError, RealApi, ServerFailedError

_MIB = 2**20


@dataclass(kw_only=True)
class Figures:
    """What one start with so many runs cost."""

    runs: int
    bare_list_seconds: float
    ready_seconds: float
    cpu_seconds: float
    peak_bytes: int
    lags: dict[str, Lag] = field(default_factory=dict)


def main(
    api: Annotated[ApiKind, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN.")] = (
        ApiKind.EMBEDDED
    ),
    runs: Annotated[str, typer.Option(help="How many finished runs there are.")] = "0,15000,50000",
    waiting: Annotated[int, typer.Option(min=1, help="How many runs wait beside them.")] = 1_000,
    source: Annotated[
        Path, typer.Option(help="The working copy whose operator is measured; another one: an earlier state of it.")
    ] = ROOT,
) -> None:
    """Measure starts of the operator with finished runs present, and how long its loop is kept from other work."""
    console = Console()
    console.print(f"{describe_machine()}; {api.value} API server, operator of {source}", soft_wrap=True)
    figures = []
    try:
        for size in sorted(read_sizes(runs)):
            with make_api(api) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                figures.append(runner.run(_measure(server, runs=size, waiting=waiting, source=source)))
            _print(console, figures[0], figures[-1])
    except (BenchmarkFailed, BinariesMissingError, ServerFailedError) as error:
        sys.exit(f"error: {error}")


async def _measure(server: CountingApi, *, runs: int, waiting: int, source: Path) -> Figures:
    assert isinstance(server, EmbeddedApi | RealApi)
    async with Api(
        find_endpoint(server.endpoint.kubeconfig), user_agent="benchmark", max_writes=1000, may_write=always
    ) as api:
        await install_crds(api)
        await api.create(WORKFLOWS, NAMESPACE, make_workflow(WORKFLOW))
        await asyncio.to_thread(fill, server, make_finished_runs(runs, workflow=WORKFLOW))
        await api.until_answered(api.list_all, RUNS, NAMESPACE)  # a server that was just filled is behind for a while
        began = time.monotonic()
        await api.list_all(RUNS, NAMESPACE)
        bare = time.monotonic() - began
        with tempfile.TemporaryDirectory(prefix="hatchet-benchmark-") as name:
            operator = WatchedOperator(server.endpoint.kubeconfig, Path(name), source)
            try:
                figures = await _start(operator, runs, bare)
                figures.lags |= await Pauses(operator, server, api, runs=runs, waiting=waiting).measure()
                return figures
            finally:
                operator.kill()


async def _start(operator: WatchedOperator, runs: int, bare: float) -> Figures:
    ready = await operator.until_ready()
    cpu = operator.cpu_seconds
    await operator.until_idle()
    return Figures(
        runs=runs,
        bare_list_seconds=bare,
        ready_seconds=ready,
        cpu_seconds=cpu,
        peak_bytes=operator.peak_bytes,
        lags={"a start": operator.longest_lag(operator.began)},
    )


def _print(console: Console, least: Figures, each: Figures) -> None:
    more = each.runs - least.runs
    per_run = f", {(each.peak_bytes - least.peak_bytes) / more / 1024:.2f} KiB a run" if more else ""
    console.print(
        f"{each.runs} runs: ready after {each.ready_seconds:.2f} s ({each.cpu_seconds:.2f} s of CPU); a bare "
        f"list takes {each.bare_list_seconds:.2f} s; at most {each.peak_bytes / _MIB:.0f} MiB{per_run}",
        soft_wrap=True,
    )
    for what, lag in each.lags.items():
        milliseconds = f"{lag.cpu * 1000:.0f} ms of CPU, {lag.clock * 1000:.0f} ms by the clock"
        console.print(f"    the loop's longest pause, {what}: {milliseconds}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
