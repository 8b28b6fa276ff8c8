"""`kubectl hatchet` against an operator: each command, its exit code, and what it says where."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from hatchet_cli.app import app
from hatchet_operator.resources.crds import load_crds
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_operator_dev.apiserver.access import write_kubeconfig
from hatchet_sdk import ChildTriggerWorkflowOptions, Context, Hatchet, WorkflowRunRef, gather_runs
from tests.integration.inprocess import Instance, operator_of, running_operator

hatchet = Hatchet()  # for its decorators
fixed = threading.Event()
go_on = threading.Event()


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="1m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        options: ChildTriggerWorkflowOptions = {"record": "result"} if given.get("light") else {}
        children: list[WorkflowRunRef] = [
            await context.aio.spawn_workflow(
                "Child", {"number": number, **given}, key=f"child{number}", options=options
            )
            for number in range(3)
        ]
        if given.get("tolerates"):
            done = await gather_runs(children, max_failed="100%")
            return {"results": [result["work"]["number"] for result in done.results]}
        return {"results": [(await child.result())["work"]["number"] for child in children]}


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="1m")
    def work(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        if given.get("waits"):
            go_on.wait(30)
        if given.get("fails") == given["number"] and not fixed.is_set():
            raise ValueError("no such customer: 7")
        return {"number": given["number"]}


@hatchet.workflow(on_events=["user:*"])
class Greet:
    @hatchet.step()
    def hello(self, context: Context) -> dict[str, Any]:
        return {"hello": context.workflow_input()["user"]}


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Types commands for a user who has this kubeconfig."""

    kubeconfig: Path

    async def types(self, *arguments: str, code: int = 0) -> Result:
        command = ["--kubeconfig", str(self.kubeconfig), *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert result.exit_code == code, f"{result.exit_code}: {result.output}\n{result.exception!r}"
        return result

    async def begins(self, *arguments: str) -> asyncio.subprocess.Process:
        """Type a command that goes on while others are typed."""
        command = [sys.executable, "-m", "hatchet_cli", "--kubeconfig", str(self.kubeconfig), *arguments]
        return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    async def prints(self, *arguments: str) -> str:
        return (await self.types(*arguments)).stdout


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    fixed.clear()
    go_on.clear()
    async with running_operator(running_after=0.2) as instance:
        await instance.work(Parent(), Child(), Greet())
        yield instance
        go_on.set()


@pytest.fixture
def terminal(world: Instance, tmp_path: Path) -> Terminal:
    file = tmp_path / "kubeconfig"
    write_kubeconfig(file, server=world.url)
    return Terminal(kubeconfig=file)


async def test_a_run_is_started_waited_for_and_shown(world: Instance, terminal: Terminal) -> None:
    done = await terminal.types("run", "Parent", "--name", "a", "--metadata", "team=blue", "--priority", "2", "--wait")
    assert json.loads(done.stdout) == {"spawn": {"results": [0, 1, 2]}}
    assert "✔ Parent  a" in done.stderr
    assert "✔ Child  child2" in done.stderr

    page = await terminal.prints("get", "a")
    assert "phase     Succeeded" in page
    assert 'metadata  {"team": "blue"}' in page
    assert '{"spawn": {"results": [0, 1, 2]}}' in page
    assert json.loads(await terminal.prints("get", "a", "-o", "json"))["spec"]["priority"] == 2
    assert yaml.safe_load(await terminal.prints("get", "a", "-o", "yaml"))["metadata"]["name"] == "a"
    assert (await terminal.prints("tree", "a")).splitlines()[1].startswith("├── ✔ Child  child0")
    told = (await terminal.prints("why", "a")).splitlines()
    assert told[0].startswith("run a succeeded in ")
    assert told[1].startswith("3 runs of Child, at most ")
    await terminal.types("retry", "a", code=1)


async def test_a_failure_is_explained_from_its_leaf_and_retried_from_there(world: Instance, terminal: Terminal) -> None:
    failed = await terminal.types("run", "parent", "--name", "a", "--input", '{"fails": 1}', "-w", code=1)
    assert failed.stdout == ""
    assert 'error: run a: Failed: step "spawn"' in failed.stderr
    why = await terminal.prints("why", "a")
    assert "└─ ✘ Child child1 (a-" in why
    assert "ValueError: no such customer: 7" in why
    listed = await terminal.prints("list", "-o", "wide")
    assert listed.splitlines()[1].split()[:4] == ["a", "Parent", "Failed", "StepFailed"]
    before = {run["metadata"]["uid"]: run["status"].get("finishedAt") for run in await world.runs()}

    fixed.set()
    retried = await terminal.types("retry", "a", "--wait")
    assert retried.stdout.startswith("run default/a runs again what failed, in all below it first\n")
    assert json.loads(retried.stdout.partition("\n")[2]) == {"spawn": {"results": [0, 1, 2]}}
    after = {run["metadata"]["uid"]: run["status"].get("finishedAt") for run in await world.runs()}
    assert after.keys() == before.keys(), "the children are those of before"
    assert len([uid for uid in after if after[uid] != before[uid]]) == 2, "the parent and the child that failed"

    again = await terminal.types("replay", "a", "-w")
    assert json.loads(again.stdout.partition("\n")[2]) == {"spawn": {"results": [0, 1, 2]}}


async def test_a_retry_finds_what_failed_below_a_run_that_succeeded(world: Instance, terminal: Terminal) -> None:
    await terminal.types("run", "Parent", "--name", "a", "--input", '{"fails": 1, "tolerates": true}', "-w")
    fixed.set()
    retried = await terminal.types("retry", "a", "--wait")
    assert retried.stdout.splitlines()[0].startswith("run default/a-")
    assert json.loads(retried.stdout.partition("\n")[2]) == {"work": {"number": 1}}


async def test_what_goes_on_is_explained_watched_cancelled(world: Instance, terminal: Terminal) -> None:
    assert await terminal.prints("run", "Parent", "--name", "a", "--input", '{"waits": true}') == "a\n"
    await world.until_phase("a", "Running")
    for child in [run["metadata"]["name"] for run in await world.runs() if "parent" in run["spec"]]:
        await world.until_phase(child, "Running")
    why = await terminal.prints("why", "a")
    assert "3 runs of Child: step work is running on " in why
    watching = await terminal.begins("tree", "a", "--watch")
    cancelled = await terminal.types("cancel", "a", "nobody", code=1)
    assert cancelled.stdout == "run default/a is cancelled, with all below it\n"
    assert 'error: there is no run "nobody" in namespace "default"' in cancelled.stderr
    go_on.set()
    drawn, _ = await asyncio.wait_for(watching.communicate(), 60)
    assert "⊘ Parent  a" in drawn.decode()
    assert (await terminal.prints("why", "a")).startswith("run a was cancelled: CancelRequested")
    await terminal.types("cancel", "a", code=1)
    await terminal.types("retry", "a", code=1)


async def test_lists_choose_by_workflow_phase_and_metadata(world: Instance, terminal: Terminal) -> None:
    for name, metadata in (("a", "team=blue"), ("b", "team=red")):
        await terminal.types("run", "Parent", "--name", name, "--metadata", metadata, "--wait")
    await terminal.types("run", "Greet", "--name", "c", "--input", '{"user": "ada"}', "--wait")

    async def names(*options: str) -> set[str]:
        printed = await terminal.prints("list", "-o", "name", *options)
        return {line.removeprefix("workflowrun.hatchet-operator.dev/") for line in printed.splitlines()}

    assert await names() == {"a", "b", "c"}
    assert await names("--workflow", "Parent", "--metadata", "team=red") == {"b"}
    assert await names("--phase", "Failed") == set()
    assert await names("--phase", "Succeeded", "--since", "1h", "--workflow", "greet") == {"c"}
    assert len(await names("--children")) == 3 + 2 * 3
    limited = await terminal.types("list", "--limit", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert "… and 2 more; --limit 3 shows all" in limited.stderr


async def test_runs_are_scheduled_suspended_and_resumed(world: Instance, terminal: Terminal) -> None:
    user = ["--input", '{"user": "ada"}']
    await terminal.types("schedule", "Greet", "--in", "1h", "--name", "later", *user)
    later = await world.run("later")
    assert "startAt" in later["spec"]
    assert later["metadata"]["labels"]["hatchet-operator.dev/triggered-by"] == "schedule"
    await terminal.types("schedule", "Greet", "--in", "1h", "--at", "2030-01-01T00:00:00Z", code=2)
    await terminal.types("schedule", "Greet", "--at", "tomorrow", code=2)

    await terminal.types("run", "Greet", "--suspended", "--name", "a", *user)
    assert await terminal.prints("resume", "a") == "run default/a goes on\n"
    assert (await world.finished("a"))["phase"] == "Succeeded"
    await terminal.types("suspend", "a", code=1)

    assert await terminal.prints("suspend", "--workflow", "Greet") == "workflow greet suspended\n"
    await terminal.types("run", "Greet", "--name", "b", *user)
    assert await terminal.prints("resume", "--workflow", "Greet") == "workflow greet resumed\n"
    assert (await world.finished("b"))["phase"] == "Succeeded"
    await terminal.types("suspend", code=2)


async def test_what_is_typed_wrong_is_said_in_one_line(world: Instance, terminal: Terminal) -> None:
    unknown = await terminal.types("run", "Prent", code=2)
    assert unknown.stderr == (
        'error: there is no workflow "Prent" in namespace "default" (there are: Child, Greet, Parent); '
        'did you mean "Parent"?\n'
    )
    assert "--input is not JSON" in (await terminal.types("run", "Parent", "--input", "{", code=2)).stderr
    listed = await terminal.types("run", "Parent", "--input", "[1]", code=2)
    assert listed.stderr == "error: --input must be a JSON object, as in '{\"k\": 1}'; it is a list\n"
    assert "nofile can't be read" in (await terminal.types("run", "Parent", "--input", "@nofile", code=2)).stderr
    assert "expected KEY=VALUE" in (await terminal.types("list", "--metadata", "team", code=2)).stderr
    for command in ("get", "tree", "why"):
        said = await terminal.types(command, "nobody", code=1)
        assert 'there is no run "nobody"' in said.stderr
    nowhere = await terminal.types("--context", "nowhere", "list", code=1)
    assert "nowhere" in nowhere.stderr
    empty = await terminal.types("-n", "elsewhere", "list")
    assert (empty.stdout, empty.stderr) == ("", 'no such runs in namespace "elsewhere"\n')


async def test_events_are_pushed_and_pools_shown(world: Instance, terminal: Terminal) -> None:
    await terminal.types("events", "push", "user:create", "--payload", '{"user": "ada"}', "--id", "e-1")
    (run,) = await world.runs("hatchet-operator.dev/event=e-1")
    assert (await world.finished(run["metadata"]["name"]))["phase"] == "Succeeded"
    assert await terminal.prints("top", "--once") == "no pools here\n"


async def test_children_without_an_object_are_shown_once_they_are_over_as_any_other(tmp_path: Path) -> None:
    go_on.clear()
    server = ApiServer()
    for crd in load_crds(light_runs=True):
        server.create(crd)
    url = await server.start()
    try:
        async with operator_of(server, url, light_runs=True, running_after=60, children_every=60) as world:
            await world.work(Parent(), Child())
            write_kubeconfig(tmp_path / "kubeconfig", server=url)
            await _shows_light_children(world, Terminal(kubeconfig=tmp_path / "kubeconfig"))
    finally:
        go_on.set()
        await server.stop()


async def _shows_light_children(world: Instance, terminal: Terminal) -> None:
    await terminal.types("run", "Parent", "--name", "a", "--input", '{"waits": true, "light": true}')
    await world.until(lambda: len(list(world.engine.store)) == 4)
    assert "Child" not in await terminal.prints("tree", "a")
    assert len((await terminal.prints("list", "--children", "-o", "name")).splitlines()) == 1
    go_on.set()
    await world.finished("a")
    tree = await terminal.prints("tree", "a")
    assert [f"✔ Child  child{number}" in tree for number in range(3)] == [True] * 3
    names = (await terminal.prints("list", "--children", "--workflow", "Child", "-o", "name")).split()
    assert len(names) == 3
    page = await terminal.prints("get", names[0].rpartition("/")[2])
    assert "phase     Succeeded" in page
    assert '{"work": {"number": ' in page
