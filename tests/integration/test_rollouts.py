"""Templates that are changed while there is work, one of them broken: real workers, and a node that runs pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hatchet_operator.cluster.kinds import POOLS
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from tests.integration.inprocess import NAMESPACE, POOL
from tests.integration.pods import NODE_SECONDS, Pods, make_pool, output_of, running_pods
from tests.kube.eventually import eventually

REPLICAS = 2


class Watched:
    """What happened to a pool's workers and to its runs while its template was changed."""

    def __init__(self) -> None:
        self.least_connected = REPLICAS
        self.most_staying = REPLICAS
        self.started: list[str] = []


@asynccontextmanager
async def load_on(pods: Pods) -> AsyncIterator[Watched]:
    """Start one run after the other, each with two children, and look at the pool all the time."""
    seen = Watched()

    async def start_runs() -> None:
        while True:
            name = f"family-{len(seen.started)}"
            await pods.instance.create_run(name, "family", {})
            seen.started.append(name)
            await asyncio.sleep(0.1)

    async def look() -> None:
        while True:
            seen.least_connected = min(seen.least_connected, pods.instance.connected())
            leaving = draining()  # and those that are gone when the answer comes
            names = {pod["metadata"]["name"] for pod in await pods.of_pool()}
            seen.most_staying = max(seen.most_staying, len(names - leaving - draining()))
            await asyncio.sleep(0.01)

    def draining() -> set[str]:
        workers = pods.instance.engine.registry.workers_of_pool(ObjectRef(NAMESPACE, POOL))
        return {worker.pod.name for worker in workers if worker.draining and worker.pod}

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(start_runs()), group.create_task(look())]
        yield seen
        for task in tasks:
            task.cancel()


def pool_of_version(directory: Path, version: str, *, works: bool = True) -> Json:
    pool = make_pool(directory, command=None if works else ["/no/such/program"])
    pool["spec"]["minReplicas"] = REPLICAS
    pool["spec"]["template"]["metadata"] = {"labels": {"version": version}}
    return pool


async def roll_out(pods: Pods, version: str, *, works: bool = True) -> None:
    changed = pool_of_version(pods.directory, version, works=works)
    await pods.patch_pool(changed["spec"])


def versions_of(found: list[Json]) -> list[str]:
    return sorted(pod["metadata"]["labels"]["version"] for pod in found)


async def until_versions(pods: Pods, *versions: str) -> None:
    """Wait until the pool has pods of these versions, and its two workers."""
    found: list[Json] = []

    async def are_there() -> bool:
        nonlocal found
        found = await pods.of_pool()
        return versions_of(found) == list(versions) and pods.instance.connected() == REPLICAS

    try:
        await eventually(are_there, within_seconds=NODE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{versions_of(found)}, and not {versions}; {pods.logs()}") from None


async def conditions_of(pods: Pods) -> dict[str, Json]:
    pool = await pods.api.get(POOLS, NAMESPACE, POOL)
    return {condition["type"]: condition for condition in pool["status"]["conditions"]}


async def until_rollout_says(pods: Pods, reason: str) -> str:
    """Wait until the pool says so of its template; return the whole message."""
    said: Json = {}

    async def is_said() -> bool:
        nonlocal said
        said = (await conditions_of(pods))["RolledOut"]
        return bool(said["reason"] == reason)

    try:
        await eventually(is_said, within_seconds=NODE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"the pool says {said}, and not {reason}") from None
    assert said["status"] == str(reason == "RolledOut")
    return str(said["message"])


async def losses_in(pods: Pods) -> dict[str, int]:
    steps = {
        f"{run['metadata']['name']}/{name}": step
        for run in await pods.instance.runs()
        for name, step in run["status"]["steps"].items()
    }
    return {name: step["losses"] for name, step in steps.items() if step.get("losses")}


@pytest.mark.parametrize(
    "repair", [pytest.param("3", id="by the next template"), pytest.param("1", id="by the one before")]
)
async def test_a_template_that_does_not_start_is_mended_while_work_goes_on(tmp_path: Path, repair: str) -> None:
    async with running_pods(tmp_path, pool=pool_of_version(tmp_path, "1")) as pods:
        await until_versions(pods, "1", "1")
        async with load_on(pods) as seen:
            await roll_out(pods, "2", works=False)
            await until_rollout_says(pods, "PodsFailing")
            await until_versions(pods, "1", "1", "2")
            await roll_out(pods, repair)
            await until_versions(pods, repair, repair)
            assert await until_rollout_says(pods, "RolledOut") == ""
        for run in seen.started:
            output_of(await pods.finished(run), "spawn")
        assert await losses_in(pods) == {}
        assert (seen.least_connected, seen.most_staying) == (REPLICAS, REPLICAS + 1)


async def test_a_pool_says_that_its_new_template_does_not_start_while_the_old_one_works(tmp_path: Path) -> None:
    async with running_pods(tmp_path, pool=pool_of_version(tmp_path, "1")) as pods:
        await until_versions(pods, "1", "1")
        assert await until_rollout_says(pods, "RolledOut") == ""
        await roll_out(pods, "2", works=False)
        why = await until_rollout_says(pods, "PodsFailing")
        said = await conditions_of(pods)
        assert (said["Available"]["status"], said["Available"]["message"]) == ("True", "2 of 2 workers are connected")
        (failing,) = (pod for pod in await pods.of_pool() if pod["metadata"]["labels"]["version"] == "2")
        assert why.startswith(f"pod {failing['metadata']['name']}: CreateContainerError: ")
        assert "/no/such/program" in why
        assert await pods.instance.event(POOL, "PodsFailing") == why
