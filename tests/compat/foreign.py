"""A cluster whose workers and clients are a program in another language, written with Hatchet's SDK for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatchet_operator.cluster.kinds import RATE_LIMITS, WORKFLOWS
from hatchet_operator.resources.base import Json
from tests.compat.published import PATIENCE_SECONDS, PublishedCluster, PublishedSdk
from tests.integration.harness import NAMESPACE, Process, output_of, phase_of
from tests.kube.eventually import eventually


@dataclass(frozen=True, slots=True)
class Program:
    """One program: with "worker" it works, with "ask" it pushes an event and prints what its parent returns.

    With "twice" it runs a workflow two times with one idempotency key, and prints both ids that it is told.
    With "later" it schedules a child, starts another with a low priority, and prints both ids.
    """

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


class ForeignCluster(PublishedCluster):
    """API server and operator of ours, one program of theirs."""

    def __init__(self, directory: Path, program: Program) -> None:
        super().__init__(directory, PublishedSdk(program.command[0], "0"))
        self._program = program

    async def start_theirs(self, *workflows: str) -> None:
        """Start their worker, and return when all of its workflows are registered."""
        command = [*self._program.command, "worker"]
        environment = self.environment() | self._program.environment
        process = Process("theirs", command, directory=self.directory, environment=environment)
        self.processes.append(process)
        self._programs.append(process)
        await self.until_listening(process, *workflows)

    async def ask_theirs(self, what: str = "ask") -> Any:
        """Have their client push an event and run the parent, or what else it can do; return what it prints."""
        process = await asyncio.create_subprocess_exec(
            *self._program.command,
            what,
            env=os.environ | self.environment() | self._program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert process.returncode == 0, (out + err).decode()
        return json.loads(out.splitlines()[-1])

    def noted(self, file: str) -> list[str]:
        path = self.directory / file
        return path.read_text().split("\n")[:-1] if path.exists() else []

    async def runs_of(self, workflow: str) -> list[Json]:
        return [run for run in await self.runs() if run["spec"]["workflow"] == workflow]

    async def output_of_event(self, workflow: str, step: str) -> Any:
        """Wait for the one run that an event started; return what its step returned."""
        await eventually(self._has_a_run_of(workflow), within_seconds=PATIENCE_SECONDS)
        (run,) = await self.runs_of(workflow)
        assert run["metadata"]["labels"]["hatchet-operator.dev/triggered-by"] == "event"
        return output_of(await self.finished(run["metadata"]["uid"]), step)

    def _has_a_run_of(self, workflow: str) -> Callable[[], Any]:
        async def holds() -> bool:
            return bool(await self.runs_of(workflow))

        return holds

    async def crons_of(self, workflow: str) -> list[Json]:
        """Wait until a workflow's crons tick; return them."""
        crons: list[Json] = []

        async def holds() -> bool:
            nonlocal crons
            crons = (await self.api.get(WORKFLOWS, NAMESPACE, workflow))["status"].get("crons", [])
            return any("nextTick" in cron for cron in crons)

        await eventually(holds)
        return crons

    async def run_in_turns(self, workflow: str, file: str) -> list[str]:
        """Start two runs of one group; return what they noted."""
        for number in range(2):
            await self.create_run(f"{workflow}-{number}", workflow, user="ada")
        for number in range(2):
            assert phase_of(await self.finished(f"{workflow}-{number}")) == "Succeeded"
        return self.noted(file)


async def assert_counted(cluster: ForeignCluster, workflow: str, key: str) -> None:
    """Of three runs that need two of a limit's four units each, two go."""
    assert (await cluster.api.get(RATE_LIMITS, NAMESPACE, key))["spec"] == {"limit": 4, "window": "1h"}
    for number in (1, 2):
        await cluster.create_run(f"{workflow}-{number}", workflow)
        assert phase_of(await cluster.finished(f"{workflow}-{number}")) == "Succeeded"
    await cluster.create_run(f"{workflow}-3", workflow)
    words = f'rate limit "{key}" has 4 units per 1h, of which 4 are used'

    async def says_why() -> bool:
        return words in ((await cluster.run(f"{workflow}-3"))["status"].get("message") or "")

    await eventually(says_why, within_seconds=PATIENCE_SECONDS)


async def assert_stuck(cluster: ForeignCluster, workflow: str) -> None:
    """Of two workers, one executes both steps of a run; its workflow's priority was registered too."""
    definition = (await cluster.api.get(WORKFLOWS, NAMESPACE, workflow))["status"]["definition"]
    assert (definition["sticky"], definition["defaultPriority"]) == ("Hard", 3)
    for number in range(4):
        await cluster.create_run(f"{workflow}-{number}", workflow)
    for number in range(4):
        run = await cluster.finished(f"{workflow}-{number}")
        assert output_of(run, "first") == output_of(run, "second")


async def assert_later(cluster: ForeignCluster, step: str) -> None:
    """A run starts at its time, and runs have the priorities that they were given."""
    told = await cluster.ask_theirs("later")
    later, low = await cluster.finished(told["later"]), await cluster.finished(told["low"])
    assert (later["spec"]["priority"], low["spec"]["priority"]) == (2, 1)
    assert output_of(later, step) == {"n": 14}
    assert later["status"]["startedAt"] >= later["spec"]["startAt"]


async def keys_of_children(cluster: ForeignCluster, parent: str) -> list[str]:
    """Return the keys of the children of the one run of a workflow."""
    (run,) = await cluster.runs_of(parent)
    children = await cluster.children_of(run["metadata"]["uid"])
    return sorted(child["spec"]["parent"]["key"] for child in children)
