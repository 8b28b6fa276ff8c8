"""A cluster whose workers and clients are programs of Hatchet's published SDK, one version in each interpreter.

The interpreters are named by HATCHET_TEST_PUBLISHED_SDK, separated as in PATH; ``make test-published`` makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from tests.integration.harness import NAMESPACE, POOL, ROOT, TOKEN_KEY, Cluster, Execution, Process, free_port
from tests.kube.eventually import eventually

VARIABLE = "HATCHET_TEST_PUBLISHED_SDK"
PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_SECONDS = 180.0
"""For what takes seconds on a machine with nothing else to do."""
FAN_OUT = ROOT / "examples" / "fanout" / "worker.py"


@dataclass(frozen=True, slots=True)
class PublishedSdk:
    """One version of the published SDK."""

    python: str
    version: str

    @property
    def spawns_in_bulk(self) -> bool:
        """Bulk spawns, and spawns from sync steps, came back with 0.47."""
        return tuple(int(part) for part in self.version.split(".")[:2]) >= (0, 47)

    @property
    def is_class_based(self) -> bool:
        """From 1.0 on workflows are functions."""
        return int(self.version.split(".")[0]) < 1


@functools.cache  # it is asked for each test that is collected
def find_published_sdks() -> list[PublishedSdk]:
    """Ask each interpreter that the environment names for its version of the SDK."""
    interpreters = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    question = "import importlib.metadata as m; print(m.version('hatchet-sdk'))"
    return [
        PublishedSdk(
            python, subprocess.run([python, "-c", question], capture_output=True, text=True, check=True).stdout.strip()
        )
        for python in interpreters
    ]


class PublishedCluster(Cluster):
    """API server and operator of ours, programs of theirs."""

    def __init__(self, directory: Path, sdk: PublishedSdk, **settings: Any) -> None:
        super().__init__(directory, **{"events_port": free_port()} | settings)
        self.sdk = sdk
        self._programs: list[Process] = []
        self._uids: dict[str, str] = {}  # of the runs that the test made, by name: programs know runs by their UIDs

    async def __aexit__(self, *error: object) -> None:
        for process in self._programs:  # a worker of theirs has a second process, which would be left
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await super().__aexit__(*error)

    async def create_run(self, name: str, workflow: str = "parent", **input: Any) -> Json:  # the field
        made = await super().create_run(name, workflow, **input)
        self._uids[name] = made["metadata"]["uid"]
        return made

    def uid_of(self, name: str) -> str:
        """Return the id by which programs know a run that the test made; other runs have it already."""
        return self._uids.get(name, name)

    async def finished(self, name: str, *, within_seconds: float = PATIENCE_SECONDS) -> Json:
        return await super().finished(name, within_seconds=within_seconds)

    async def run(self, name: str) -> Json:
        """Return a run by its name or UID."""
        uid = self.uid_of(name)
        return next(run for run in await self.runs() if uid in (run["metadata"]["uid"], run["metadata"]["name"]))

    async def children_of(self, parent: str) -> list[Json]:
        uid = self.uid_of(parent)
        return [run for run in await self.runs() if run["spec"].get("parent", {}).get("uid") == uid]

    def executions(self, step: str | None = None, run: str = "") -> list[Execution]:
        return super().executions(step, self.uid_of(run))

    def open_gate(self, name: str) -> None:
        super().open_gate(self.uid_of(name))

    def token(self, pool: str = POOL) -> str:
        """Return a pool's token, which says where the REST API is, too."""
        return mint_token(
            Caller(namespace=NAMESPACE, pool=pool),
            key=TOKEN_KEY,
            grpc_address=self.grpc_address,
            rest_url=f"http://127.0.0.1:{self.settings['events_port']}/behind/a/proxy",
        )

    def environment(self, *, pool: str = POOL, namespace: str = "") -> dict[str, str]:
        """Return all that a program of the published SDK needs to know."""
        return {
            "HATCHET_TEST_DIRECTORY": str(self.directory),
            "HATCHET_CLIENT_TOKEN": self.token(pool),
            "HATCHET_CLIENT_HOST_PORT": self.grpc_address,
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
            "HATCHET_CLIENT_NAMESPACE": namespace,
            "PYTHONPATH": "",  # else ours would stand in for theirs
            "PYTHONUNBUFFERED": "1",
        }

    def start_program(self, program: Path, *arguments: str, name: str | None = None, **environment: str) -> Process:
        given = self.environment() | environment
        process = Process(
            name or program.stem,
            [self.sdk.python, str(program), *arguments],
            directory=self.directory,
            environment=given,
        )
        self.processes.append(process)
        self._programs.append(process)
        return process

    async def until_listening(self, process: Process, *workflows: str) -> None:
        """Wait until workflows are registered; their runs wait for the worker from then on."""

        async def holds() -> bool:
            assert process.is_alive, f"{process.name} ended:\n{process.tail()}"
            for name in workflows:
                try:
                    found = await self.api.get(WORKFLOWS, NAMESPACE, name)
                except NotFound:
                    return False
                if "definition" not in found.get("status", {}):
                    return False
            return True

        await eventually(holds, within_seconds=PATIENCE_SECONDS)

    async def ask(self, *items: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
        """Run workflows with the published client, in a process of its own; return what it says of each."""
        process = await asyncio.create_subprocess_exec(
            self.sdk.python,
            str(PROGRAMS / "client.py"),
            json.dumps(items),
            env=os.environ | self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        answers: list[dict[str, Any]] = json.loads(out.splitlines()[-1])
        return answers

    async def rest(self, program: Path, *calls: list[Any], **environment: str) -> list[dict[str, Any]]:
        """Have a program make calls of the REST API; return the result of each, or its error."""
        process = await asyncio.create_subprocess_exec(
            self.sdk.python,
            str(program),
            "ask",
            json.dumps(calls),
            env=os.environ | self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        answers: list[dict[str, Any]] = json.loads(out.splitlines()[-1])
        return answers

    async def result(self, workflow: str, given: Any = None, **options: Any) -> Any:
        """Run one workflow with the published client; return its result, or fail with its error."""
        [answer] = await self.ask({"workflow": workflow, "input": given or {}, "options": options or None})
        assert "result" in answer, answer
        return answer["result"]
