"""A cluster of real processes that tests may kill: embedded API server, operator, workers; and what they did.

Workers are pods of a WorkerPool that a local node in this process runs, or processes that the test starts itself.
Everything listens on loopback only, writes its log into one directory, and dies with this process.
"""

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import LEASES, PODS, POOLS, RUNS, WORKFLOWS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds, render_crd
from hatchet_operator.resources.names import worker_lease_name
from hatchet_operator_dev.localnode import LocalNode
from tests.kube.eventually import eventually
from tests.kube.real_api import die_with_parent

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
WORKFLOWS_OF_THE_WORKER = ("parent", "child")
NAMESPACE = "default"
POOL = "workers"
TOKEN_KEY = "integration-tests-key-" * 3
FINAL = ("Succeeded", "Failed", "Cancelled")
PATIENT: Json = {"worker_silent": 90.0, "rejoin": 90.0}
"""Settings of an operator that takes no worker for dead because its machine is slow."""
SOON_SECONDS = 75.0
"""Long enough for workers that look for an operator with pauses of 5 s, on a slow and busy machine; but a `PATIENT`
operator that waits in vain for a worker, or takes one for dead because it is silent, needs 90."""
OPERATOR_WRITES: Json = {"userAgent": "hatchet-operator", "verb": ["create", "update", "patch", "delete"]}
"""Matches the writes of the operator's own session, in rules of the fault injector."""
_LISTENING = re.compile(r"worker listening  \{'worker': '([^']+)'")


def free_port() -> int:
    """Find a port that stays free while nobody listens: outside of the range the system itself hands out.

    Whoever else asks here, in this process or beside it, gets another one until this process ends: nobody speaks UDP,
    so its port of the same number says that it is taken.
    """
    while True:
        port = random.randint(15_000, 30_000)
        mark = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                mark.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                mark.close()
                continue
        mark.detach()  # it stays open
        return port


class Process:
    """A child process with its log in a file."""

    def __init__(self, name: str, command: list[str], *, directory: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*die_with_parent(), *command],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does, and return when it is gone."""
        self._popen.kill()
        self._popen.wait()

    async def end(self, *, within_seconds: float = 45) -> int:
        """Ask it to end; return its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(within_seconds=within_seconds)

    async def ended(self, *, within_seconds: float = 45) -> int:
        try:
            return await asyncio.to_thread(self._popen.wait, within_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_seconds} s") from None

    async def until_there(self, file: Path, *, within_seconds: float = 60) -> None:
        """Wait for a file that it writes when it is ready."""

        async def holds() -> bool:
            assert self.is_alive, f"{self.name} ended with {self._popen.returncode}:\n{self.tail()}"
            return file.exists()  # noqa: ASYNC240  # a local file: microseconds

        await eventually(holds, within_seconds=within_seconds)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-8000:]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One call of a step's function by a worker."""

    run: str
    step: str
    key: str
    pid: int
    attempt: str
    retry_count: int


class Cluster:
    """An API server with its CRDs; everything else is started by the test.

    Args:
        directory: For logs, gates and what workers write.
        crds: Folder of the CRDs.
        settings: Of the operator: fields of `Settings`, durations in seconds.
    """

    def __init__(self, directory: Path, *, crds: Path = Path("crds"), **settings: Any) -> None:
        self.directory = directory
        self._crds = crds
        self.grpc_port = free_port()
        self.settings = settings
        self.processes: list[Process] = []
        self.operator: Process | None = None
        self._stack = AsyncExitStack()
        self._starts = 0

    async def __aenter__(self) -> Self:
        ready_file = self.directory / "api-ready"
        command = ["-m", "hatchet_operator_dev.apiserver", "--port=0", f"--crds={self._crds}", "--bookmark-seconds=1"]
        self.server = self.python("api-server", [*command, f"--ready-file={ready_file}"])
        try:
            await self.server.until_there(ready_file)
            self.url: str = json.loads(ready_file.read_text())["url"]
            self.api = await self._stack.enter_async_context(
                Api(Endpoint(server=self.url), user_agent="test", may_write=always)
            )
            self._http = await self._stack.enter_async_context(aiohttp.ClientSession(self.url))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        missed: list[Json] = []
        if hasattr(self, "_http"):
            self.server.signal(signal.SIGCONT)
            missed = (await self._control("GET", "/_faults"))["missed"]
            await self.clear_faults()  # so that whoever stops can say its last words
        await self._stack.aclose()
        for process in reversed(self.processes):
            process.kill()
        left = [child for child in psutil.Process().children(recursive=True) if self._is_ours(child)]
        assert not left, f"still alive: {left}"
        assert not missed, f"faults that never fired, so that nothing was tested with them: {missed}"

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self.directory) in (process.environ().get("HATCHET_TEST_DIRECTORY") or "")
        except psutil.Error:
            return False  # it is ending just now

    def python(self, name: str, arguments: list[str], **environment: str) -> Process:
        environment["HATCHET_TEST_DIRECTORY"] = str(self.directory)
        process = Process(name, [sys.executable, *arguments], directory=self.directory, environment=environment)
        self.processes.append(process)
        return process

    def logs(self) -> list[tuple[str, str]]:
        """Return the end of each log, by the name of its process."""
        pods = sorted((self.directory / "node").rglob("*.log"))
        return [(p.name, p.tail()) for p in self.processes] + [
            (p.stem, p.read_text(errors="replace")[-4000:]) for p in pods
        ]

    # --- Operator and workers

    async def start_operator(self, **settings: Any) -> Process:
        """Start the operator, at the address that all of this cluster's operators have."""
        self._starts += 1
        ready_file = self.directory / f"operator-{self._starts}-ready"
        given = {"grpc_port": self.grpc_port, "token_key": TOKEN_KEY, **self.settings, **settings}
        arguments = ["-m", "tests.integration.operator_process", self.url, json.dumps(given), str(ready_file)]
        self.operator = self.python(f"operator-{self._starts}", arguments)
        await self.operator.until_there(ready_file)
        return self.operator

    async def crash_operator(self) -> None:
        """Kill -9."""
        assert self.operator is not None
        self.operator.kill()

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def token(self, pool: str = POOL) -> str:
        return mint_token(Caller(namespace=NAMESPACE, pool=pool), key=TOKEN_KEY, grpc_address=self.grpc_address)

    async def start_worker(self, name: str = "worker", *, slots: int = 40) -> Process:
        """Start a worker that lives in no Pod, and wait until it is given attempts."""
        return await self.start_worker_program(name, WORKER, str(slots), workflows=WORKFLOWS_OF_THE_WORKER)

    async def start_worker_program(self, name: str, file: Path, *arguments: str, workflows: Collection[str]) -> Process:
        """Start a program that is a worker outside a Pod, and wait until the operator gives it attempts.

        Its Lease is the last thing that a registration writes, and the stream opens after that.

        Args:
            name: Of the process.
            file: The program.
            arguments: Its own.
            workflows: Some that it registers.
        """
        before = await self.worker_leases()
        worker = self.python(
            name,
            ["-u", str(file), *arguments],
            HATCHET_CLIENT_TOKEN=self.token(),
            HATCHET_CLIENT_HOST_PORT=self.grpc_address,
            HATCHET_CLIENT_TLS_STRATEGY="none",
        )

        async def is_listening() -> bool:
            return bool((await self.worker_leases() - before) & self.leases_of_listening_workers())

        await eventually(is_listening)
        await self.until_registered(workflows)
        return worker

    def leases_of_listening_workers(self) -> set[str]:
        """Return the names of the Leases of the workers whose streams some operator had, by the operators' logs."""
        logs = [process.log.read_text() for process in self.processes if process.name.startswith("operator")]
        return {worker_lease_name(worker) for log in logs for worker in _LISTENING.findall(log)}

    async def worker_leases(self) -> set[str]:
        """Return the names of the Leases of the workers that live in no Pod."""
        leases, _ = await self.api.list_all(LEASES, NAMESPACE, label_selector=labels.POOL)
        return {lease["metadata"]["name"] for lease in leases}

    async def start_pool(self, *, replicas: int) -> None:
        """Make a WorkerPool whose pods run here, and wait until all of them are connected."""
        await self.start_node()
        await self.create_pool(replicas=replicas)
        await self.until_pool_is_ready(replicas)
        await self.until_registered()

    async def create_pool(self, *, replicas: int, slots: int = 40) -> None:
        container = {
            "name": "worker",
            "image": "local",
            "command": [sys.executable, "-u", str(WORKER)],
            "env": [{"name": "HATCHET_TEST_DIRECTORY", "value": str(self.directory)}],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 10}
        body = {
            "apiVersion": API_VERSION,
            "kind": "WorkerPool",
            "metadata": {"name": POOL},
            "spec": {"minReplicas": replicas, "slots": slots, "template": {"spec": spec}},
        }
        await self.api.create(POOLS, NAMESPACE, body)

    async def start_node(self) -> None:
        """Run the pods of this cluster, in this process."""
        api = await self._stack.enter_async_context(Api(Endpoint(server=self.url), user_agent="node", may_write=always))
        node = LocalNode(api, state_directory=self.directory / "node", stop_seconds=0)
        stop = asyncio.Event()
        running = asyncio.create_task(node.run(stop))

        async def end() -> None:
            stop.set()
            await running

        self._stack.push_async_callback(end)

    async def until_registered(self, workflows: Collection[str] = WORKFLOWS_OF_THE_WORKER) -> None:
        async def holds() -> bool:
            for name in workflows:
                try:
                    workflow = await self.api.get(WORKFLOWS, NAMESPACE, name)
                except NotFound:
                    return False
                if "definition" not in workflow.get("status", {}):
                    return False
            return True

        await eventually(holds)

    async def until_pool_is_ready(self, replicas: int) -> None:
        await eventually(lambda: self.is_ready(replicas))

    async def is_ready(self, replicas: int) -> bool:
        pool = await self.api.get(POOLS, NAMESPACE, POOL)
        return bool(pool.get("status", {}).get("readyReplicas") == replicas)

    async def pods(self) -> list[Json]:
        return (await self.api.list_all(PODS, NAMESPACE))[0]

    # --- Runs

    async def create_run(self, name: str, workflow: str = "parent", **input: Any) -> Json:  # the field
        return await self.api.create(RUNS, NAMESPACE, make_run(name, workflow, input))

    async def run(self, name: str) -> Json:
        return await self.api.get(RUNS, NAMESPACE, name)

    async def runs(self, label_selector: str | None = None) -> list[Json]:
        return (await self.api.list_all(RUNS, NAMESPACE, label_selector=label_selector))[0]

    async def children_of(self, parent: str) -> list[Json]:
        return [run for run in await self.runs() if run["spec"].get("parent", {}).get("name") == parent]

    async def finished(self, name: str, *, within_seconds: float = 45) -> Json:
        """Wait until a run is final; return it."""
        run: Json = {}

        async def holds() -> bool:
            nonlocal run
            run = await self.run(name)
            return phase_of(run) in FINAL

        try:
            await eventually(holds, within_seconds=within_seconds)
        except TimeoutError:
            raise AssertionError(f"run {name} is not final within {within_seconds} s: {run}") from None
        return run

    async def until_children(self, parent: str, count: int) -> list[Json]:
        async def holds() -> bool:
            return len(await self.children_of(parent)) == count

        await eventually(holds)
        return await self.children_of(parent)

    async def until_succeeded(self, parent: str, count: int) -> None:
        """Wait until so many children of a run have succeeded."""

        async def holds() -> bool:
            return [phase_of(child) for child in await self.children_of(parent)].count("Succeeded") == count

        await eventually(holds)

    async def until_executing(self, step: str, count: int, run: str = "") -> list[Execution]:
        """Wait until a step's function was called so many times, by all runs whose name begins with ``run``."""

        async def holds() -> bool:
            return len(self.executions(step, run)) >= count

        await eventually(holds)
        return self.executions(step, run)

    def executions(self, step: str | None = None, run: str = "") -> list[Execution]:
        """Return the calls of steps' functions so far, in their order."""
        file = self.directory / "executions"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        # the last line may be just being written
        found = [Execution(**json.loads(line)) for line in lines if line.endswith("\n")]
        return [each for each in found if step in (None, each.step) and each.run.startswith(run)]

    def open_gate(self, name: str) -> None:
        (self.directory / f"gate-{name}").touch()

    # --- The API server

    async def inject(self, *rules: Json) -> None:
        """Add rules to the API server's fault injector, see `hatchet_operator_dev.apiserver.faults`."""
        await self._control("POST", "/_faults", list(rules))

    async def clear_faults(self) -> None:
        await self._control("DELETE", "/_faults")

    async def fault_fired(self, *, within_seconds: float) -> bool:
        """Wait until any rule was applied."""
        return bool((await self._control("GET", f"/_faults/fired?wait={within_seconds}"))["fired"])

    async def fired_count(self) -> int:
        rules: list[Json] = (await self._control("GET", "/_faults"))["rules"]
        return sum(rule["fired"] for rule in rules)

    async def forget_history(self) -> None:
        """From now on a watch from any earlier version is answered 410."""
        await self._control("POST", "/_compact")

    async def writes(self) -> Counter[tuple[str, str, str]]:
        """Return how many writes the operator's own session made, by verb, resource and subresource."""
        return Counter({key: n for key, n in (await self._requests()).items() if key[0] in OPERATOR_WRITES["verb"]})

    async def requests(self, verb: str, resource: str) -> int:
        """Return how many requests of one kind the operator's own session made."""
        return (await self._requests())[verb, resource, ""]

    async def _requests(self) -> Counter[tuple[str, str, str]]:
        listed: list[Json] = (await self._control("GET", "/_stats"))["requests"]
        counted: Counter[tuple[str, str, str]] = Counter()
        for request in listed:
            if request["userAgent"] == "hatchet-operator":
                counted[request["verb"], request["resource"], request["subresource"]] += request["count"]
        return counted

    async def _control(self, method: str, path: str, body: Any = None) -> Json:
        async with self._http.request(method, path, json=body) as response:
            assert response.status == 200, await response.text()
            answer: Json = await response.json()
            return answer


def make_run(name: str, workflow: str, input: Json) -> Json:  # the field
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"workflow": workflow, "input": input},
    }


def phase_of(run: Json) -> str:
    return str(run.get("status", {}).get("phase", "Pending"))


def output_of(run: Json, step: str = "spawn") -> Any:
    """Return what a step of a run returned."""
    assert phase_of(run) == "Succeeded", run["status"]
    return json.loads(run["status"]["steps"][step]["output"])


def fan_out_results(children: int) -> Json:
    """Return what a parent of so many children returns."""
    return {"results": [{"process": {"status": f"success {number}"}} for number in range(children)]}


def write_light_crds(folder: Path) -> Path:
    """Write the CRDs with the version that light runs are made in, for a `Cluster`."""
    folder.mkdir()
    for crd in load_crds(light_runs=True):
        (folder / f"{crd['spec']['names']['plural']}.yaml").write_text(render_crd(crd))
    return folder


async def assert_done_once(
    cluster: Cluster, name: str, *, children: int, within_seconds: float = SOON_SECONDS, called_before: int = 0
) -> None:
    """A parent has its result soon, each child was created once, and each function called once.

    Args:
        cluster: Where.
        name: The parent run.
        children: How many it has.
        within_seconds: From now.
        called_before: Calls that another run made under this name.
    """
    parent = await cluster.finished(name, within_seconds=within_seconds)
    assert output_of(parent) == fan_out_results(children)
    found = await cluster.children_of(name)
    assert len(found) == children
    assert {phase_of(child) for child in found} == {"Succeeded"}
    assert [child["status"]["steps"]["process"].get("losses", 0) for child in found] == [0] * children
    calls = Counter((call.run, call.step) for call in cluster.executions(run=name)[called_before:])
    assert len(calls) == children + 1
    assert set(calls.values()) == {1}, f"called more than once: {[call for call, n in calls.items() if n > 1]}"
