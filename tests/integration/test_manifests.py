"""``hatchet-operator manifests``, and what it prints beside a registration, on either API server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.dev.one_run import make_run
from hatchet_operator.errors import NotFound
from tests.integration.commands import ENDS_WITHIN_SECONDS, install_crds, running, stdout_of
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi, find_binaries

EXAMPLES = Path(__file__).parents[2] / "examples"
FANOUT = EXAMPLES / "fanout" / "worker.py"
NAMESPACE = "default"
POOL = "fanout-worker"
KINDS = {"Workflow": WORKFLOWS, "WorkerPool": POOLS}

Server = EmbeddedApi | RealApi


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    stderr: str


async def manifests(*arguments: str | Path) -> Ended:
    async with running("hatchet_operator", "manifests", *arguments) as process:
        stdout, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
        assert process.returncode is not None
        return Ended(process.returncode, stdout.decode(), stderr.decode())


# --- The command


async def test_the_objects_of_a_program() -> None:
    printed = await manifests(FANOUT, "--image", "registry.example/fanout:1.2", "--replicas", "1:5")
    assert (printed.exit_code, printed.stderr) == (0, "")
    parent, child, pool = yaml.safe_load_all(printed.stdout)
    assert [parent["spec"], child["spec"]] == [{"name": name, "pool": POOL} for name in ("Parent", "Child")]
    assert pool["metadata"] == {"name": POOL}
    assert {name: value for name, value in pool["spec"].items() if name != "template"} == {
        "minReplicas": 1,
        "maxReplicas": 5,
        "slots": 40,
    }
    (container,) = pool["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/fanout:1.2"
    assert container["command"] == ["python", "worker.py"]


async def test_a_broken_program_shows_its_own_traceback(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text("import hatchet_skd\n")
    printed = await manifests(program)
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert "ModuleNotFoundError: No module named 'hatchet_skd'" in printed.stderr
    assert printed.stderr.splitlines()[-1] == f"error: {program} failed (exit code 1); what it says is above"


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param(["nowhere.py"], "error: there is no file nowhere.py; name a Python file", id="no file"),
        pytest.param([FANOUT, "--replicas=x"], 'error: --replicas is "x"; expected MIN or MIN:MAX', id="no replicas"),
        pytest.param([FANOUT, "--pool=A"], 'error: --pool is "A"; expected at most 63', id="no name"),
    ],
)
async def test_nonsense_is_refused_in_words(arguments: Sequence[str | Path], want: str) -> None:
    printed = await manifests(*arguments)
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert printed.stderr.startswith(want)


# --- Beside a registration


class Deployer:
    """Applies what is in a repository, as a GitOps tool does."""

    def __init__(self, server: Server, *options: str) -> None:
        try:
            kubectl = find_binaries() / "kubectl"
        except BinariesMissingError as missing:
            pytest.skip(str(missing))
        self._command = [str(kubectl), f"--kubeconfig={server.kubeconfig}", "apply", *options, "-f", "-"]

    async def apply(self, text: str) -> list[str]:
        """Apply; return what it says was done, a line for each object."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, stderr=pipe)
        stdout, stderr = await process.communicate(text.encode())
        assert process.returncode == 0, stderr.decode()
        return stdout.decode().splitlines()


class Program:
    """A cluster with an operator and a node that runs the pods of the example's pool."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def get(self, kind: str, name: str) -> Json:
        return await self.api.get(KINDS[kind], NAMESPACE, name)

    async def state(self, objects: Sequence[Json]) -> dict[str, tuple[int, Any, Any]]:
        """What a person and a registration wrote, by object."""
        found = [await self.get(each["kind"], each["metadata"]["name"]) for each in objects]
        return {
            f"{each['kind']} {each['metadata']['name']}": (
                each["metadata"]["generation"],
                each["spec"],
                each["status"].get("definition"),
            )
            for each in found
        }

    async def until_registered_by_new_pods(self) -> None:
        """Have the pool's pods replaced, whose workers register as those before them did."""
        old = {pod["metadata"]["name"] for pod in await self.pods()}
        for name in old:
            await self.api.delete(PODS, NAMESPACE, name)

        async def holds() -> bool:
            now = {pod["metadata"]["name"] for pod in await self.pods()}
            return bool(now) and not now & old

        await eventually(holds)
        await self.until_registered()

    async def until_registered(self) -> None:
        async def holds() -> bool:
            try:
                pool = await self.get("WorkerPool", POOL)
                workflows = [await self.get("Workflow", name) for name in ("parent", "child")]
            except NotFound:
                return False
            registered = all(each.get("status", {}).get("pool") == POOL for each in workflows)
            return registered and pool.get("status", {}).get("readyReplicas") == 1

        await eventually(holds)

    async def pods(self) -> list[Json]:
        return (await self.api.list_all(PODS, NAMESPACE))[0]

    async def run(self) -> Json:
        """Have the parent run; return the final run."""
        name = (await self.api.create(RUNS, NAMESPACE, make_run("parent", "{}")))["metadata"]["name"]

        async def holds() -> bool:
            run = await self.api.get(RUNS, NAMESPACE, name)
            return run.get("status", {}).get("phase") in ("Succeeded", "Failed")

        await eventually(holds)
        return await self.api.get(RUNS, NAMESPACE, name)


@asynccontextmanager
async def operating(server: Server, directory: Path) -> AsyncIterator[Program]:
    options = ("--kubeconfig", server.kubeconfig)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    async with Api(find_endpoint(server.kubeconfig)) as api:
        await install_crds(api)
        async with (
            running("hatchet_operator", "run", *options, "--grpc-port", "0"),
            running(  # "python worker.py" means the example's here, as it does in its image
                *("hatchet_operator.localnode", *options, "--state-dir", directory / "node"),
                directory=FANOUT.parent,
                environment={"PATH": path},
            ),
        ):
            yield Program(api)


@pytest.mark.parametrize(
    ("options", "want_again"),
    [
        pytest.param([], "unchanged", id="client-side"),
        pytest.param(["--server-side"], "serverside-applied", id="server-side"),
    ],
)
@pytest.mark.parametrize("registered_first", [False, True], ids=["applied first", "registered first"])
async def test_applying_and_registering_do_not_fight(
    server: Server, options: list[str], want_again: str, registered_first: bool, tmp_path: Path
) -> None:
    deployer = Deployer(server, *options)
    text = await stdout_of("hatchet_operator", "manifests", FANOUT)
    objects = list(yaml.safe_load_all(text))
    async with operating(server, tmp_path) as program:
        await deployer.apply(yaml.safe_dump(objects[-1]) if registered_first else text)
        await program.until_registered()
        await deployer.apply(text)
        before = await program.state(objects)
        assert [spec["pool"] for _, spec, _ in before.values() if "pool" in spec] == [POOL, POOL]
        assert [generation for generation, _, _ in before.values()] == ([2, 2, 1] if registered_first else [1, 1, 1])

        await program.until_registered_by_new_pods()
        assert await program.state(objects) == before
        assert [line.split()[-1] for line in await deployer.apply(text)] == [want_again] * 3
        assert await program.state(objects) == before

        run = await program.run()
        assert run["status"]["phase"] == "Succeeded", run["status"]
        assert run["status"]["children"]["summary"] == "10/10"
