"""An operator, a pool of one pod and a node that runs pods as processes; what runs with pods of their own need."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import PODS, POOLS, WORKFLOWS
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator_dev.localnode import LocalNode
from tests.integration.inprocess import NAMESPACE, POOL, Instance, running_operator
from tests.kube.eventually import eventually

WORKER = Path(__file__).with_name("pods_worker.py")
NODE_SECONDS = 60.0  # a pod is a Python process that starts, on a machine with other work


class Pods:
    """An operator, a pool of one pod, and a node that runs pods as processes."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self.instance = instance
        self.api = instance.api
        self.directory = directory

    async def pods(self, run: str | None = None) -> list[Json]:
        """Return the pods that were made for runs, or for one."""
        items, _ = await self.api.list_all(PODS, NAMESPACE, label_selector=labels.RUN_UID)
        return [pod for pod in items if run is None or pod["metadata"]["ownerReferences"][0]["name"] == run]

    async def of_pool(self) -> list[Json]:
        """Return the pods of the pool, without those that are about to go."""
        items, _ = await self.api.list_all(PODS, NAMESPACE, label_selector=f"{labels.POOL}={POOL},!{labels.RUN_UID}")
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    async def patch_pool(self, spec: Json) -> None:
        await self.api.patch(POOLS, NAMESPACE, POOL, {"spec": spec})

    async def until_pods(self, run: str, *names: str) -> list[Json]:
        found: list[Json] = []

        async def are_there() -> bool:
            nonlocal found
            found = await self.pods(run)
            return sorted(pod["metadata"]["name"] for pod in found) == sorted(names)

        try:
            await eventually(are_there, within_seconds=NODE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"run {run} has {found}, and not {names}; {await self.instance.run(run)}") from None
        return found

    async def began(self, run: str, retry: int = 0) -> str:
        """Wait until a run's first step began; return in which pod."""
        file = self.directory / f"began-{run}-{retry}"

        async def is_there() -> bool:
            return file.exists() and bool(file.read_text())

        await eventually(is_there, within_seconds=NODE_SECONDS)
        return file.read_text()

    async def finished(self, run: str, *, reruns: int = 0) -> Json:
        status: Json = {}

        async def is_final() -> bool:
            nonlocal status
            status = (await self.instance.run(run)).get("status", {})
            is_done = status.get("phase") in ("Succeeded", "Failed", "Cancelled")
            return is_done and status.get("reruns", 0) >= reruns

        try:
            await eventually(is_final, within_seconds=NODE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"run {run} is not final: {await self.instance.run(run)}, {self.logs()}") from None
        return status

    def open(self, gate: str) -> None:
        (self.directory / gate).touch()

    def logs(self) -> dict[str, str]:
        return {log.stem: log.read_text()[-1500:] for log in (self.directory / "logs").glob("*.log")}

    def processes(self, pod: str) -> list[int]:
        """Return the processes of a pod that are alive."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if process.environ().get("HATCHET_POD_NAME") == pod:
                    found.append(process.pid)
            except psutil.Error:
                continue  # it is ending just now
        return found

    async def until_no_process(self, pod: str) -> None:
        """Wait until a pod's processes are dead: the node hears of its deletion as the operator's next pod does."""

        async def are_dead() -> bool:
            return not self.processes(pod)

        await eventually(are_dead, within_seconds=NODE_SECONDS)


def make_pool(directory: Path, *, command: list[str] | None = None) -> Json:
    container = {
        "name": "worker",
        "image": "local",
        "command": command or [sys.executable, "-u", str(WORKER)],
        "env": [{"name": "HATCHET_TEST_DIRECTORY", "value": str(directory)}],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL},
        "spec": {"minReplicas": 1, "template": {"spec": {"containers": [container]}}},
    }


@asynccontextmanager
async def running_pods(
    directory: Path,
    *workflows: str,
    pool: Json | None = None,
    workflow: Json | None = None,
    settings: Json | None = None,
    **spec: Any,
) -> AsyncIterator[Pods]:
    """Start everything, with ``execution: Pod`` and these fields for the workflows named, or with these objects."""
    async with (
        running_operator(**(settings or {})) as instance,
        Api(Endpoint(server=instance.url), user_agent="node", may_write=always) as node_api,
    ):
        node = LocalNode(node_api, state_directory=directory, stop_seconds=0)
        stop = asyncio.Event()
        running = asyncio.create_task(node.run(stop))
        try:
            for name in workflows:
                await instance.create_workflow(name, execution="Pod", **spec)
            if workflow is not None:
                await instance.api.create(WORKFLOWS, NAMESPACE, workflow)
            await instance.api.create(POOLS, NAMESPACE, pool or make_pool(directory))

            async def is_registered() -> bool:
                known = instance.engine.workflows.known()
                return len(known) >= 2 and all(ref in instance.engine.workflows for ref in known)

            await eventually(is_registered, within_seconds=NODE_SECONDS)
            yield Pods(instance, directory)
        finally:
            stop.set()
            await running


def output_of(status: Json, step: str = "work") -> Any:
    assert status["phase"] == "Succeeded", status
    return json.loads(status["steps"][step]["output"])
