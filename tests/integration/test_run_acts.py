"""Runs as people handle them: by the commands of hatchet-operator, and by kubectl alone, on either API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.resources.base import Json
from hatchet_sdk import ClientConfig
from tests.integration.commands import ENDS_WITHIN_SECONDS, install_crds, running
from tests.integration.inprocess import FINAL, KEY, NAMESPACE, POOL, ScriptedWorker, make_run, operator_at
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi, find_binaries


@dataclass
class Place:
    """An API server with an operator, and a worker that does what the test says."""

    kubeconfig: Path
    api: Api
    worker: ScriptedWorker

    async def run(self, name: str) -> Json:
        return await self.api.get(RUNS, NAMESPACE, name)

    async def until(self, name: str, **want: Any) -> Json:
        """Wait until the status of a run says this; return it."""
        status: Json = {}

        async def holds() -> bool:
            nonlocal status
            status = (await self.run(name)).get("status", {})
            return all(status.get(field, 0 if field == "reruns" else None) == value for field, value in want.items())

        await eventually(holds)
        return status

    async def until_workflow_seen(self, name: str) -> None:
        """Wait until the operator knows the last change of a Workflow."""

        async def holds() -> bool:
            workflow = await self.api.get(WORKFLOWS, NAMESPACE, name)
            return bool(workflow["status"].get("observedGeneration") == workflow["metadata"]["generation"])

        await eventually(holds)

    async def fails(self, name: str) -> None:
        """Have a run fail since its child does."""
        await self.api.create(RUNS, NAMESPACE, make_run(name, "parent"))
        parent = await self.worker.next()
        child = await self.worker.spawn(parent, key="a")
        await self.worker.fail(await self.worker.next(), "it broke")
        await self.until(child, phase="Failed")
        await self.worker.fail(parent, "a child failed")
        await self.until(name, phase="Failed")

    async def cli(self, *arguments: str) -> tuple[int | None, str, str]:
        options = ("--kubeconfig", str(self.kubeconfig))
        async with running("hatchet_operator", *arguments, *options) as process:
            stdout, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
            return process.returncode, stdout.decode(), stderr.decode()


@pytest.fixture
async def place(server: EmbeddedApi | RealApi) -> AsyncIterator[Place]:
    endpoint = find_endpoint(server.kubeconfig)
    async with Api(endpoint, user_agent="test", may_write=always) as api:
        await install_crds(api)
        async with operator_at(endpoint, rejoin=timedelta(seconds=0.2), running_after=timedelta()) as operator:
            token = mint_token(Caller(namespace=NAMESPACE, pool=POOL), key=KEY, grpc_address=operator.grpc_address)
            config = ClientConfig(host_port=operator.grpc_address, token=token, tls_strategy="none")
            worker = ScriptedWorker(config)
            await worker.put_workflow("parent")
            await worker.put_workflow("child")
            await worker.start()
            yield Place(server.kubeconfig, api, worker)
            await worker.close()


async def test_retry_and_replay_of_a_tree(place: Place) -> None:
    await place.fails("r")
    assert await place.cli("retry", "r") == (0, "run default/r runs again what failed, in all below it first\n", "")
    child = await place.worker.next()
    assert child.workflow_run_id != "r"
    await place.worker.complete(child)
    await place.worker.complete(await place.worker.next())
    await place.until("r", phase="Succeeded", reruns=1)
    code, stdout, stderr = await place.cli("retry", "r")
    assert (code, stdout) == (1, "")
    assert stderr == "error: run default/r succeeded, so nothing of it failed; replay it to run all of it again\n"
    assert (await place.cli("replay", "r"))[0] == 0
    again = await place.worker.next()
    assert again.workflow_run_id == "r"
    assert len((await place.api.list_all(RUNS, NAMESPACE))[0]) == 1
    await place.worker.complete(again)
    await place.until("r", phase="Succeeded", reruns=2)


async def test_suspend_resume_and_cancel(place: Place, tmp_path: Path) -> None:
    await place.api.create(RUNS, NAMESPACE, make_run("r", "child", suspended=True))
    await place.until("r", reason="Suspended")
    assert await place.cli("suspend", "r") == (0, "run default/r is already suspended\n", "")
    assert await place.cli("resume", "r", "-n", NAMESPACE) == (0, "run default/r goes on\n", "")
    await place.worker.next()
    code, stdout, stderr = await place.cli("cancel", "r", "nobody")
    assert (code, stdout) == (1, "run default/r is cancelled, with all below it\n")
    assert 'there is no run "nobody" in namespace "default"' in stderr
    await place.until("r", phase="Cancelled")
    code, _, stderr = await place.cli("retry", "r")
    assert (code, stderr) == (1, "error: run default/r was cancelled, and stays so; create another run\n")


async def test_a_context_of_the_kubeconfig(place: Place, tmp_path: Path) -> None:
    await place.api.create(RUNS, NAMESPACE, make_run("r", "child", suspended=True))
    content = yaml.safe_load(place.kubeconfig.read_text())
    (context,) = content["contexts"]
    nowhere = {"name": "nowhere", "cluster": {"server": "https://127.0.0.1:1"}}
    content["clusters"].append(nowhere)
    content["contexts"].append({"name": "gone", "context": {**context["context"], "cluster": "nowhere"}})
    content["current-context"] = "gone"
    place.kubeconfig = tmp_path / "two-contexts"
    place.kubeconfig.write_text(yaml.safe_dump(content))
    assert (await place.cli("resume", "r", "--context", context["name"]))[0] == 0
    code, _, stderr = await place.cli("resume", "r", "--context", "third")
    assert (code, "third" in stderr) == (1, True)


async def test_kubectl_alone(place: Place) -> None:
    try:
        binary = find_binaries() / "kubectl"
    except BinariesMissingError as missing:
        pytest.skip(str(missing))

    async def kubectl(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(str(binary), "--kubeconfig", str(place.kubeconfig), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
        return output.decode()

    async def patch(**spec: Any) -> str:
        return await kubectl("patch", "wfr", "r", "--type=merge", "-p", json.dumps({"spec": spec}))

    await place.fails("r")
    assert "patched" in await patch(suspended=True, replay={"number": 1, "from": "Failed"})
    await place.until("r", reason="Suspended")
    assert "r" in (await kubectl("get", "wfr", "--field-selector", "status.reason=Suspended", "-o", "name"))
    assert "patched" in await patch(suspended=False)
    await place.worker.complete(await place.worker.next())
    await place.worker.complete(await place.worker.next())
    await kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "wfr/r", "--timeout=60s")
    status = await place.until("r", reruns=1)
    assert status["phase"] in FINAL
    refused = await patch(replay={"number": 1, "from": "Start"})
    assert "replay.from says how replay.number goes, and can't be changed alone" in refused
    await kubectl("patch", "wf", "parent", "--type=merge", "-p", '{"spec": {"onRetriesExhausted": "Pause"}}')
    await place.until_workflow_seen("parent")
    assert "patched" in await patch(replay={"number": 2, "from": "Start"})
    await place.worker.fail(await place.worker.next(), "out of disk")
    await place.until("r", reason="Paused")
    assert "out of disk" in await kubectl("get", "wfr", "r", "-o", "jsonpath={.status.message}")
    assert "patched" in await patch(resumes=1)
    await place.worker.complete(await place.worker.next())
    await place.until("r", phase="Succeeded", reruns=2)
