"""What finished runs cost the operator: ``python -m benchmarks.many_runs --help``.

Each start is a process of its own, killed in the end; the API server keeps the runs.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console

from benchmarks.api_servers import ApiKind, make_api
from benchmarks.loop_lag import Lag, longest_lag
from benchmarks.machine import describe_machine, read_sizes
from benchmarks.processes import NAMESPACE, install_crds
from benchmarks.stage import BenchmarkFailed
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import AlreadyExists
from hatchet_operator.resources.base import API_VERSION, Json
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.filling import fill, make_finished_runs
from tests.kube.real_api import BinariesMissingError, RealApi, ServerFailedError, die_with_parent

_ROOT = Path(__file__).parents[1]
_MIB = 2**20
_LARGE, _WAITING = 5_001, 1_001
_CANCELLED: Json = {"spec": {"cancelled": True}}
_EXPIRED: Json = {"match": {"verb": "watch", "resource": RUNS.plural}, "action": "gone"}


@dataclass(kw_only=True)
class Figures:
    """What one start with so many runs cost."""

    runs: int
    bare_list_seconds: float
    ready_seconds: float
    cpu_seconds: float
    peak_bytes: int
    lags: dict[str, Lag] = field(default_factory=dict)


class WatchedOperator:
    """An operator process, and what it leaves to be read."""

    def __init__(self, kubeconfig: Path, directory: Path, source: Path = _ROOT) -> None:
        self._notes = directory
        paths = [str(source / "operator"), str(source / "sdk"), str(_ROOT)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.operator_process",
            str(kubeconfig),
            NAMESPACE,
            str(directory),
            "lag",
        ]
        self.began = time.monotonic()
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*die_with_parent(), *command],
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until_ready(self) -> float:
        while not (self._notes / "ready").exists():  # a local file: microseconds
            if self._process.poll() is not None:
                raise BenchmarkFailed(f"the operator ended:\n{(self._notes / 'log').read_text()[-3000:]}")
            await asyncio.sleep(0.02)
        return time.monotonic() - self.began

    @property
    def peak_bytes(self) -> int:
        return peak_bytes(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    async def until_idle(self) -> None:
        """Return when it has used next to no CPU for a second."""
        before, calm = self.cpu_seconds, 0
        while calm < 2:
            await asyncio.sleep(0.5)
            calm = calm + 1 if self.cpu_seconds - before < 0.05 else 0
            before = self.cpu_seconds

    def scrape(self) -> None:
        """Read its metrics, as Prometheus does."""
        port = (self._notes / "ready").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            answer.read()

    def longest_lag(self, since: float) -> Lag:
        return longest_lag(self._notes / "lag", since=since)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main(
    api: Annotated[ApiKind, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN.")] = (
        ApiKind.EMBEDDED
    ),
    runs: Annotated[str, typer.Option(help="How many finished runs there are.")] = "0,15000,50000",
    source: Annotated[
        Path, typer.Option(help="The working copy whose operator is measured; another one: an earlier state of it.")
    ] = _ROOT,
) -> None:
    """Measure starts of the operator with finished runs present, and how long its loop is kept from other work."""
    console = Console()
    console.print(f"{describe_machine()}; {api.value} API server, operator of {source}", soft_wrap=True)
    figures = []
    try:
        with make_api(api) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert isinstance(server, EmbeddedApi | RealApi)
            there = 0
            for size in sorted(read_sizes(runs)):
                figures.append(runner.run(_measure(server, there, size, source)))
                there = size
                _print(console, figures[0], figures[-1])
    except (BenchmarkFailed, BinariesMissingError, ServerFailedError) as error:
        sys.exit(f"error: {error}")


async def _measure(server: EmbeddedApi | RealApi, there: int, runs: int, source: Path) -> Figures:
    async with Api(
        find_endpoint(server.endpoint.kubeconfig), user_agent="benchmark", max_writes=1000, may_write=always
    ) as api:
        await install_crds(api)
        with suppress(AlreadyExists):
            await api.create(WORKFLOWS, NAMESPACE, _workflow())
        await asyncio.to_thread(fill, server, make_finished_runs(runs - there, name=f"old-{there}"))
        began = time.monotonic()
        await api.until_answered(api.list_all, RUNS, NAMESPACE)  # a server that was just filled is behind for a while
        began = time.monotonic()
        await api.list_all(RUNS, NAMESPACE)
        bare = time.monotonic() - began
        with tempfile.TemporaryDirectory(prefix="hatchet-benchmark-") as name:
            operator = WatchedOperator(server.endpoint.kubeconfig, Path(name), source)
            try:
                return await _look_at(operator, server, api, runs, bare)
            finally:
                operator.kill()


async def _look_at(
    operator: WatchedOperator, server: EmbeddedApi | RealApi, api: Api, runs: int, bare: float
) -> Figures:
    ready = await operator.until_ready()
    cpu = operator.cpu_seconds
    await operator.until_idle()
    figures = Figures(
        runs=runs, bare_list_seconds=bare, ready_seconds=ready, cpu_seconds=cpu, peak_bytes=operator.peak_bytes
    )
    figures.lags["start"] = operator.longest_lag(operator.began + 1.0)  # imports and the like come first

    large, waiting = f"large-{runs}", f"waiting-{runs}"
    await asyncio.to_thread(fill, server, chain(_large_tree(large), _waiting_tree(waiting)))
    await operator.until_idle()

    async def act(what: str, work: Awaitable[object]) -> None:
        began = time.monotonic()
        await work
        await asyncio.sleep(1.0)
        await operator.until_idle()
        figures.lags[what] = operator.longest_lag(began)

    def change(name: str, **spec: object) -> Awaitable[object]:
        return api.patch(WORKFLOWS, NAMESPACE, name, {"spec": spec})

    if isinstance(server, EmbeddedApi):
        await act("a relist after a 410", asyncio.to_thread(server.inject, _EXPIRED))
    await act("a scrape of the metrics", asyncio.to_thread(operator.scrape))
    await act("a workflow has another TTL", change("parent", ttl="2h"))
    await act("a workflow is suspended", change("parent", suspended=True))
    await act("a finished tree of 5000 is deleted", api.delete(RUNS, NAMESPACE, f"{large}-000000"))
    await act("a parent of 1000 that wait is cancelled", api.patch(RUNS, NAMESPACE, f"{waiting}-000000", _CANCELLED))
    return figures


def _large_tree(name: str) -> Iterator[Json]:
    return make_finished_runs(_LARGE, children=_LARGE, name=name)


def _waiting_tree(name: str) -> Iterator[Json]:
    for run in make_finished_runs(_WAITING, children=_WAITING, name=name, workflow="other", child_workflow="other"):
        yield run | {"status": {}}


def _workflow() -> Json:
    return {"apiVersion": API_VERSION, "kind": WORKFLOWS.kind, "metadata": {"name": "parent"}, "spec": {}}


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
