"""What several operators make of fan-outs in twelve namespaces at once: ``python -m benchmarks.sharding``.

Twelve shards with a namespace each are dealt to 1, 2 and 3 operators, in turns. In each namespace a worker process has
a parent spawn all its children at once. Each process's CPU is known, so the result does not depend on how busy the
machine is: children per CPU-second of the busiest operator are what the operators can do, each on a core of its own.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import uvloop

from benchmarks.api_servers import READS, ApiKind, CountingApi, make_api
from benchmarks.processes import install_crds
from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import LEASES, NAMESPACES, RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.decisions.shards import shard_of
from hatchet_operator.errors import AlreadyExists
from hatchet_operator.operator import Operator
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.settings import Settings
from tests.kube.eventually import eventually
from tests.kube.real_api import die_with_parent, end

SHARDS = 12
KEY = "benchmark-" * 8
OPERATORS = "default"
_PATIENCE_SECONDS = 180.0


def namespaces() -> list[str]:
    """Name a namespace for each shard."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SHARDS:
        found.setdefault(shard_of(f"team-{number}", SHARDS), f"team-{number}")
        number += 1
    return [found[shard] for shard in range(SHARDS)]


class Stage:
    """One number of operators beside an API server, and a worker for each namespace."""

    def __init__(self, server: CountingApi, api: Api, directory: Path) -> None:
        self._server = server
        self._api = api
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        first = random.randint(15_000, 25_000)  # no secret
        self._ports = [first + number * (SHARDS + 1) for number in range(SHARDS)]  # of each operator's first shard

    def _start(self, name: str, command: Sequence[str], **environment: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*die_with_parent(), sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,
            )

    def stop(self) -> None:
        for name in [name for name in self._processes if name.startswith("worker")]:
            end(self._processes.pop(name))
        while self._processes:
            end(self._processes.popitem()[1])

    async def start(self, operators: int) -> None:
        kubeconfig = str(self._server.endpoint.kubeconfig)
        for number in range(operators):
            command = ["-m", "benchmarks.sharding", "--be-operator", f"{number}", kubeconfig]
            self._start(f"operator-{number}", [*command, str(self._ports[number])])
        await eventually(lambda: self._are_shared(operators), within_seconds=_PATIENCE_SECONDS)
        leaders = await self._leaders()
        for shard, namespace in enumerate(namespaces()):
            self._start(
                f"worker-{namespace}",
                ["-m", "benchmarks.worker"],
                HATCHET_CLIENT_TOKEN=mint_token(
                    Caller(namespace=namespace, pool="benchmark"), key=KEY, grpc_address="a:1"
                ),
                HATCHET_CLIENT_HOST_PORT=f"127.0.0.1:{self._ports[leaders[shard]] + 1 + shard}",
                HATCHET_CLIENT_TLS_STRATEGY="none",
            )
        await eventually(self._are_registered, within_seconds=_PATIENCE_SECONDS)

    async def _leaders(self) -> dict[int, int]:
        """Return which operator leads each shard."""
        leases = (await self._api.list_all(LEASES, OPERATORS))[0]
        return {
            int(lease["metadata"]["name"].rpartition("-shard-")[2]): int(holder.partition("_")[0].rpartition("-")[2])
            for lease in leases
            if "-shard-" in lease["metadata"]["name"] and (holder := lease["spec"].get("holderIdentity"))
        }

    async def _are_shared(self, operators: int) -> bool:
        """Whether shards are shared evenly, and operators listen for all of them."""
        for process in self._processes.values():
            assert process.poll() is None, self.logs()
        leaders = await self._leaders()
        if Counter(leaders.values()) != dict.fromkeys(range(operators), SHARDS // operators) or len(leaders) != SHARDS:
            return False
        try:
            for shard, operator in leaders.items():
                _, writer = await asyncio.open_connection("127.0.0.1", self._ports[operator] + 1 + shard)
                writer.close()
        except ConnectionRefusedError:
            return False
        return True

    def logs(self) -> str:
        return "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in sorted(self._directory.glob("*.log")))

    async def _are_registered(self) -> bool:
        registered = Counter(
            item["metadata"]["namespace"]
            for item in (await self._api.list_all(WORKFLOWS))[0]
            if item.get("status", {}).get("definition")
        )
        workers = Counter(
            lease["metadata"]["namespace"]
            for lease in (await self._api.list_all(LEASES))[0]
            if lease["metadata"]["namespace"] in registered
        )
        return all(registered[name] >= 3 and workers[name] >= 1 for name in namespaces())

    async def fan_out(self, children: int, what: str) -> float:
        """Run a fan-out in each namespace; return the seconds that all of them took."""
        began = time.monotonic()
        for namespace in namespaces():
            run: Json = {
                "apiVersion": API_VERSION,
                "kind": "WorkflowRun",
                "metadata": {"name": what, "namespace": namespace},
                "spec": {"workflow": "parent", "input": {"mode": "gather", "children": children}},
            }
            await self._api.create(RUNS, namespace, run)

        async def are_done() -> bool:
            phases = [(await self._api.get(RUNS, name, what)).get("status", {}).get("phase") for name in namespaces()]
            assert "Failed" not in phases, phases
            await asyncio.sleep(0.2)
            return phases == ["Succeeded"] * SHARDS

        await eventually(are_done, within_seconds=_PATIENCE_SECONDS)
        return time.monotonic() - began

    def cpu_seconds(self) -> dict[str, float]:
        """Return what each process has used, all workers as one."""
        used: defaultdict[str, float] = defaultdict(float)
        for name, process in self._processes.items():
            times = psutil.Process(process.pid).cpu_times()
            used[name if name.startswith("operator") else "workers"] += times.user + times.system
        for name, pid in self._server.pids.items():
            times = psutil.Process(pid).cpu_times()
            used[name] += times.user + times.system
        return dict(used)

    def writes(self) -> int:
        return sum(
            count for request, count in self._server.counts().requests.items() if request.split()[0] not in READS
        )


async def measure(server: CountingApi, api: Api, operators: int, children: int, round_number: int) -> Json:
    """Measure a fan-out of so many children in each namespace, after a small one."""
    with tempfile.TemporaryDirectory(prefix="hatchet-benchmark-") as name:
        stage = Stage(server, api, Path(name))
        try:
            await stage.start(operators)
            await stage.fan_out(5, f"warm-up-{round_number}-{operators}")
            before, writes = stage.cpu_seconds(), stage.writes()
            seconds = await stage.fan_out(children, f"run-{round_number}-{operators}")
            used = {name: after - before[name] for name, after in stage.cpu_seconds().items()}
            total = children * SHARDS
            per_operator = sorted(used[each] for each in used if each.startswith("operator"))
            return {
                "operators": operators,
                "children": total,
                "seconds": seconds,
                "children_per_second": total / seconds,
                "cores_used": sum(used.values()) / seconds,
                "writes_per_child": (stage.writes() - writes) / total,
                "operator_cpu_ms_per_child": sum(per_operator) / total * 1000,
                "operator_shares": [each / sum(per_operator) for each in per_operator],
                "children_per_cpu_second_of_the_busiest": total / per_operator[-1],
                "cpu_ms_per_child": {
                    name: value / total * 1000 for name, value in used.items() if not name.startswith("operator")
                },
            }
        finally:
            stage.stop()


async def run(arguments: argparse.Namespace) -> list[Json]:
    results: list[Json] = []
    with make_api(ApiKind(arguments.api)) as server:
        endpoint = find_endpoint(server.endpoint.kubeconfig)
        async with Api(endpoint, user_agent="benchmark", max_writes=1000, may_write=always) as api:
            await install_crds(api)
            for name in namespaces():
                with suppress(AlreadyExists):
                    await api.create(
                        NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                    )
            for round_number in range(arguments.repeat):
                for operators in arguments.operators:
                    results.append(await measure(server, api, operators, arguments.children, round_number))
                    sys.stdout.write(json.dumps(results[-1]) + "\n")
                    sys.stdout.flush()
    return results


def report(results: list[Json]) -> str:
    """Return a table in Markdown, of medians."""
    numbers = sorted({each["operators"] for each in results})

    def row(title: str, field: str, form: str) -> str:
        values = [statistics.median(each[field] for each in results if each["operators"] == n) for n in numbers]
        return f"| {title} | {' | '.join(format(value, form) for value in values)} |"

    shares = [
        " + ".join(
            f"{share:.2f}" for share in next(each for each in results if each["operators"] == n)["operator_shares"]
        )
        for n in numbers
    ]
    return "\n".join(
        [
            f"| operators | {' | '.join(map(str, numbers))} |",
            f"|---|{'---|' * len(numbers)}",
            row("CPU-ms per child, all operators together", "operator_cpu_ms_per_child", ".2f"),
            f"| of it, each one's share (first round) | {' | '.join(shares)} |",
            row("children per CPU-second of the busiest operator", "children_per_cpu_second_of_the_busiest", ".0f"),
            row("API writes per child", "writes_per_child", ".3f"),
            row("children per second, on this machine", "children_per_second", ".0f"),
            row("cores that all processes got", "cores_used", ".2f"),
        ]
    )


async def be_operator(number: str, kubeconfig: Path, port: int) -> None:
    """Be one of the operators, until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def install_signal_handlers() -> None:
        loop.add_signal_handler(signal.SIGTERM, stop.set)

    install_signal_handlers()
    settings = Settings(
        token_key=KEY,
        leader_election=True,
        shards=SHARDS,
        operator_namespace=OPERATORS,
        grpc_port=port,
        pod_name=f"operator-{number}",
    )
    endpoint = find_endpoint(kubeconfig)
    await Operator(settings, endpoint, install_signal_handlers=install_signal_handlers).run(stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", choices=[kind.value for kind in ApiKind], default=ApiKind.EMBEDDED.value)
    parser.add_argument("--operators", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--children", type=int, default=100, help="in each of the twelve namespaces")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the results go, too")
    parser.add_argument("--be-operator", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_operator is not None:
        logging.basicConfig(level=logging.WARNING)
        number, kubeconfig, port = arguments.be_operator
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(be_operator(number, Path(kubeconfig), int(port)))
        return
    results = asyncio.run(run(arguments))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1))
    sys.stdout.write(report(results) + "\n")


if __name__ == "__main__":
    main()
