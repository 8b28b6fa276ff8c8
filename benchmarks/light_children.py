"""Children of which only the result is recorded beside those recorded in full: ``python -m benchmarks.light_children``.

Two API servers, each with an operator and a worker: one as installed by default, one with light runs. Fan-outs take
turns on them, so that what else the machine does falls on all alike: "full" on the first; "full beside" on the second,
which tells what the CRD's second version costs those that do not use it; and "light".
"""

import asyncio
import json
import logging
import os
import secrets
import signal
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.api_servers import ApiKind, CountingApi, make_api
from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import CRDS, RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import NotFound
from hatchet_operator.operator import Operator
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.settings import Settings
from tests.integration.harness import free_port
from tests.kube.eventually import eventually

_NAMESPACE = "default"
_KEY = "a-key-for-benchmarks" * 3
_WORKER = Path(__file__).with_name("light_worker.py")
_WARM_UP = 50
_COUNTED_AFTER_SECONDS = 0.5  # the API server counts a request when it has answered


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One fan-out: children a second; writes, KiB allocated by the API server, and milliseconds of CPU, a child."""

    rate: float
    writes: float
    api_kib: float
    cpu: dict[str, float]


class Stack:
    """An API server with an operator and a worker."""

    def __init__(self, server: CountingApi, api: Api, processes: dict[str, psutil.Process]) -> None:
        self._server = server
        self._api = api
        self._processes = processes

    async def fan_out(self, children: int, options: Json | None) -> Figures:
        before, cpu = self._server.counts(), self._cpu()
        given = {"children": children, "options": options}
        name = f"parent-{secrets.token_hex(4)}"
        body: Json = {"apiVersion": API_VERSION, "kind": RUNS.kind, "metadata": {"name": name}}
        await self._api.create(RUNS, _NAMESPACE, body | {"spec": {"workflow": "parent", "input": given}})
        await eventually(lambda: self._is_over(name), within_seconds=60 + children)
        await asyncio.sleep(_COUNTED_AFTER_SECONDS)
        run = await self._api.get(RUNS, _NAMESPACE, name)
        assert run["status"]["phase"] == "Succeeded", run["status"]
        seconds = json.loads(run["status"]["steps"]["spawn"]["output"])["seconds"]
        after = self._server.counts()
        spent: Counter[str] = after.requests - before.requests
        writes = sum(count for name, count in spent.items() if name.split()[0] in ("create", "update", "patch"))
        allocated = (after.allocated_bytes or 0.0) - (before.allocated_bytes or 0.0)
        used = {name: 1000 * (seconds - cpu[name]) / children for name, seconds in self._cpu().items()}
        return Figures(
            rate=children / seconds, writes=(writes - 1) / children, api_kib=allocated / 1024 / children, cpu=used
        )

    async def _is_over(self, name: str) -> bool:
        run = await self._api.get(RUNS, _NAMESPACE, name)
        return run.get("status", {}).get("phase") in ("Succeeded", "Failed", "Cancelled")

    def _cpu(self) -> dict[str, float]:
        processes = self._processes | {name: psutil.Process(pid) for name, pid in self._server.pids.items()}
        return {name: sum(each.cpu_times()[:2]) for name, each in processes.items()}


@asynccontextmanager
async def started(server: CountingApi, *, light_runs: bool) -> AsyncIterator[Stack]:
    """Start an operator and a worker on an API server without CRDs."""
    kubeconfig, port = server.endpoint.kubeconfig, free_port()
    token = mint_token(Caller(namespace=_NAMESPACE, pool="main"), key=_KEY, grpc_address=f"127.0.0.1:{port}")
    async with Api(find_endpoint(kubeconfig), user_agent="benchmark", may_write=always) as api:
        for crd in load_crds(light_runs=light_runs):
            await api.create(CRDS, None, crd)
        await eventually(lambda: _is_there(api))
        arguments = ["--operator", str(kubeconfig), str(port), *(["light"] if light_runs else [])]
        environment = os.environ | {"HATCHET_CLIENT_TOKEN": token, "HATCHET_CLIENT_TLS_STRATEGY": "none"}
        command = [sys.executable, "-m", "benchmarks.light_children", *arguments]
        operator = subprocess.Popen(command)  # noqa: ASYNC220  # it starts in milliseconds
        worker = subprocess.Popen([sys.executable, str(_WORKER)], env=environment)  # noqa: ASYNC220  # likewise
        try:
            processes = {"operator": psutil.Process(operator.pid), "worker": psutil.Process(worker.pid)}
            yield Stack(server, api, processes)
        finally:
            for process in (worker, operator):
                process.send_signal(signal.SIGKILL)
                process.wait()


async def _is_there(api: Api) -> bool:
    try:
        await api.list_one(RUNS, _NAMESPACE)
    except NotFound:
        return False
    return True


async def serve(kubeconfig: Path, port: int, *, light_runs: bool) -> None:
    settings = Settings(namespaces=(_NAMESPACE,), grpc_port=port, token_key=_KEY, light_runs=light_runs)
    await Operator(settings, find_endpoint(kubeconfig)).run(asyncio.Event())


async def measure(kind: ApiKind, children: int, repeat: int) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = defaultdict(list)
    with make_api(kind) as plain, make_api(kind) as versioned:
        async with started(plain, light_runs=False) as one, started(versioned, light_runs=True) as two:
            turns = (("full", one, None), ("full beside", two, None), ("light", two, {"record": "result"}))
            for _, stack, options in turns:
                await stack.fan_out(_WARM_UP, options)
            for _ in range(repeat):
                for name, stack, options in turns:
                    found[name].append(await stack.fan_out(children, options))
    return found


def main(
    api: Annotated[ApiKind, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN.")] = (
        ApiKind.REAL
    ),
    children: Annotated[int, typer.Option(help="Of each fan-out.")] = 1000,
    repeat: Annotated[int, typer.Option(min=1, help="How many fan-outs of each kind; medians are shown.")] = 5,
) -> None:
    """Measure light children beside full ones."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(api, children, repeat))
    table = Table("children", "a second (range)", "writes", "API server, KiB", "CPU, ms a child")
    for name, figures in found.items():
        rates = sorted(each.rate for each in figures)
        cpu = {part: statistics.median(each.cpu[part] for each in figures) for part in figures[0].cpu}
        table.add_row(
            name,
            f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f})",
            f"{statistics.median(each.writes for each in figures):.3f}",
            f"{statistics.median(each.api_kib for each in figures):.0f}",
            ", ".join(f"{part} {used:.2f}" for part, used in cpu.items()) + f"; {sum(cpu.values()):.1f} together",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--operator"]:
        logging.basicConfig(level=logging.WARNING)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(Path(sys.argv[2]), int(sys.argv[3]), light_runs="light" in sys.argv[4:]))
    else:
        typer.run(main)
