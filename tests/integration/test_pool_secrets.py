"""A pool's Secret that somebody deletes, say to have another token, is made again before a pod waits for it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.resources.base import Json
from tests.integration.inprocess import NAMESPACE, POOL
from tests.integration.pods import NODE_SECONDS, Pods, make_pool, output_of, running_pods
from tests.kube.eventually import eventually

SECRET = f"{POOL}-token"


async def data_of_secret(pods: Pods) -> dict[str, str]:
    data: dict[str, str] = (await pods.api.get(SECRETS, NAMESPACE, SECRET))["data"]
    return data


async def connected(pods: Pods, count: int) -> None:
    async def are_connected() -> bool:
        return pods.instance.connected() == count

    try:
        await eventually(are_connected, within_seconds=NODE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{pods.instance.connected()} workers, and not {count}: {pods.logs()}") from None


async def test_a_pod_of_a_run_starts_though_the_secret_was_deleted(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        before = await data_of_secret(pods)
        await pods.api.delete(SECRETS, NAMESPACE, SECRET)
        await pods.instance.create_run("one", "solo", {})
        assert output_of(await pods.finished("one"))["pod"] == "one"
        assert await data_of_secret(pods) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"stringData": {"token": "nonsense"}}, id="with nonsense"),
        pytest.param({"data": {"token": "/w=="}}, id="with what is no text"),
    ],
)
async def test_a_pod_of_a_run_starts_though_the_secret_was_overwritten(tmp_path: Path, change: Json) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        before = await data_of_secret(pods)
        await pods.api.patch(SECRETS, NAMESPACE, SECRET, change)
        await pods.instance.create_run("one", "solo", {})
        output_of(await pods.finished("one"))
        assert await data_of_secret(pods) == before


async def test_a_pod_of_the_pool_starts_though_the_secret_was_deleted(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await connected(pods, 1)
        await pods.api.delete(SECRETS, NAMESPACE, SECRET)
        grown = make_pool(tmp_path)["spec"] | {"minReplicas": 2}
        await pods.patch_pool(grown)
        await connected(pods, 2)


async def test_a_container_is_started_again_though_the_secret_was_deleted(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await connected(pods, 1)
        (pod,) = await pods.of_pool()
        await pods.api.delete(SECRETS, NAMESPACE, SECRET)
        for process in pods.processes(pod["metadata"]["name"]):
            with suppress(ProcessLookupError):  # it went with the one before it
                os.kill(process, signal.SIGKILL)
        await connected(pods, 0)
        await connected(pods, 1)
        assert [found["metadata"]["name"] for found in await pods.of_pool()] == [pod["metadata"]["name"]]
