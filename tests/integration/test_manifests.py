"""``hatchet-operator manifests``, and what it prints beside a registration, on either API server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import PODS, POOLS, RATE_LIMITS, RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.one_run import make_run
from tests.integration.commands import ENDS_WITHIN_SECONDS, install_crds, running, stdout_of
from tests.kube.client import APPLY_PATCH
from tests.kube.client import Api as RawApi
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi, find_binaries

EXAMPLES = Path(__file__).parents[2] / "examples"
FANOUT = EXAMPLES / "fanout" / "worker.py"
NAMESPACE = "default"
POOL = "fanout-worker"
KINDS = {kind.kind: kind for kind in (WORKFLOWS, POOLS, RUNS, RATE_LIMITS)}

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


class Deployer(Protocol):
    """Applies what is in a repository, as a GitOps tool does."""

    async def apply(self, objects: Sequence[Json]) -> set[str]:
        """Return what was done: created, configured, unchanged."""


class ServerSide:
    """Server-side apply, by a field manager that takes nothing from others."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def apply(self, objects: Sequence[Json]) -> set[str]:
        async with RawApi.connect(self._server.endpoint, NAMESPACE) as api:
            return {await self._apply(api, obj) for obj in objects}

    async def _apply(self, api: RawApi, obj: Json) -> str:
        path = KINDS[obj["kind"]].path(NAMESPACE, obj["metadata"]["name"])
        before = await api.call("GET", path)
        params = {"fieldManager": "deployer"}
        after = (await api.call("PATCH", path, obj, content_type=APPLY_PATCH, params=params)).ok()
        if before.status == 404:
            return "created"
        # Not by the resourceVersion: kube-apiserver 1.37 stores the defaults of an absent status with the second apply.
        same = before.ok()["metadata"]["generation"] == after["metadata"]["generation"]
        return "unchanged" if same else "configured"


class ClientSide:
    """``kubectl apply``."""

    def __init__(self, server: Server) -> None:
        try:
            self._kubectl = find_binaries() / "kubectl"
        except BinariesMissingError as missing:
            pytest.skip(str(missing))
        self._server = server

    async def apply(self, objects: Sequence[Json]) -> set[str]:
        return {line.split()[-1] for line in await self._run("apply", objects)}

    async def differences(self, objects: Sequence[Json]) -> list[str]:
        """Return how the cluster differs; kubectl fails where it does, so that an error shows them."""
        return await self._run("diff", objects)

    async def _run(self, verb: str, objects: Sequence[Json]) -> list[str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(self._kubectl, f"--kubeconfig={self._server.kubeconfig}", verb, "--filename=-"),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        stdout, stderr = await process.communicate(yaml.safe_dump_all(objects).encode())
        assert process.returncode == 0, (stdout + stderr).decode()
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
            now = [pod["metadata"] for pod in await self.pods()]
            is_kept = all(labels.REGISTRATION in pod.get("annotations", {}) for pod in now)
            return bool(now) and is_kept and not old & {pod["name"] for pod in now}

        await eventually(holds)  # until then, the pool's status may still be about the old ones
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
    async with Api(find_endpoint(server.kubeconfig), may_write=always) as api:
        await install_crds(api)
        async with (
            running("hatchet_operator", "run", *options, "--grpc-port", "0"),
            running(  # "python worker.py" means the example's here, as it does in its image
                *("hatchet_operator_dev.localnode", *options, "--state-dir", directory / "node"),
                directory=FANOUT.parent,
                environment={"PATH": path},
            ),
        ):
            yield Program(api)


@pytest.fixture(params=[ServerSide, ClientSide], ids=["server-side", "client-side"])
def deployer(request: pytest.FixtureRequest, server: Server) -> Deployer:
    made: Deployer = request.param(server)
    return made


@pytest.mark.parametrize("registered_first", [False, True], ids=["applied first", "registered first"])
async def test_applying_and_registering_do_not_fight(
    server: Server, deployer: Deployer, registered_first: bool, tmp_path: Path
) -> None:
    objects = list(yaml.safe_load_all(await stdout_of("hatchet_operator", "manifests", FANOUT)))
    async with operating(server, tmp_path) as program:
        assert await deployer.apply(objects[-1:] if registered_first else objects) == {"created"}
        await program.until_registered()
        await deployer.apply(objects)
        before = await program.state(objects)
        assert [spec["pool"] for _, spec, _ in before.values() if "pool" in spec] == [POOL, POOL]
        assert [generation for generation, _, _ in before.values()] == ([2, 2, 1] if registered_first else [1, 1, 1])

        await program.until_registered_by_new_pods()
        assert await program.state(objects) == before
        if isinstance(deployer, ClientSide):
            assert await deployer.differences(objects) == []
        assert await deployer.apply(objects) == {"unchanged"}
        assert await program.state(objects) == before

        run = await program.run()
        assert run["status"]["phase"] == "Succeeded", run["status"]
        assert run["status"]["children"]["summary"] == "10/10"


async def test_the_folder_of_each_example_can_be_applied(server: Server, deployer: Deployer) -> None:
    async with Api(find_endpoint(server.kubeconfig), may_write=always) as api:
        await install_crds(api)
    for folder in sorted({path.parent for path in EXAMPLES.glob("*/*.yaml")}):
        objects = [obj for file in sorted(folder.glob("*.yaml")) for obj in yaml.safe_load_all(file.read_text())]
        assert "WorkflowRun" in {obj["kind"] for obj in objects}, folder
        assert await deployer.apply(objects) == {"created"}
        assert await deployer.apply(objects) == {"unchanged"}
