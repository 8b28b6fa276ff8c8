"""Labels and sticky runs with worker processes: who executed a step says so itself, by its process."""

from __future__ import annotations

import json
from pathlib import Path

from hatchet_operator.resources.base import Json
from tests.integration.harness import Cluster, Process, output_of, phase_of
from tests.kube.eventually import eventually

WORKER = Path(__file__).with_name("placed_worker.py")
WORKFLOWS = ("required", "preferred", "hard", "soft", "family")


async def start_worker(cluster: Cluster, name: str, *, slots: int = 10, **labels: str | int) -> Process:
    return await cluster.start_worker_program(name, WORKER, str(slots), json.dumps(labels), workflows=WORKFLOWS)


async def done_by(cluster: Cluster, run: str, step: str = "work") -> int:
    """Wait for a run's end; return the process that executed a step of it."""
    output: Json = output_of(await cluster.finished(run), step)
    return int(output["pid"])


async def message_of(cluster: Cluster, run: str) -> str:
    return str((await cluster.run(run)).get("status", {}).get("message", ""))


async def test_a_step_goes_to_the_worker_with_the_label_that_it_requires_and_waits_for_one(cluster: Cluster) -> None:
    await cluster.start_operator(waiting_told_after=0.2)
    small = await start_worker(cluster, "small", memory=128)
    await cluster.create_run("waits", "required")

    async def is_told() -> bool:
        return '"memory" GreaterThan 256' in await message_of(cluster, "waits")

    await eventually(is_told)
    large = await start_worker(cluster, "large", memory=512)
    assert await done_by(cluster, "waits") == large.pid != small.pid
    for number in range(6):
        await cluster.create_run(f"run-{number}", "required")
    assert {await done_by(cluster, f"run-{number}") for number in range(6)} == {large.pid}
    said = output_of(await cluster.run("run-0"), "work")
    assert said["labels"] == {"memory": 512}


async def test_the_greater_weight_decides_and_nothing_waits_for_what_it_prefers(cluster: Cluster) -> None:
    await cluster.start_operator()
    near = await start_worker(cluster, "near", zone="a", model="small")
    best = await start_worker(cluster, "best", slots=2, zone="b", model="large")
    for name in ("held-0", "held-1"):
        await cluster.create_run(name, "preferred", gate="best")
    for number in range(2):
        await cluster.create_run(f"next-{number}", "preferred")
    assert {await done_by(cluster, f"next-{number}") for number in range(2)} == {near.pid}, "the best one is full"
    cluster.open_gate("best")
    assert {await done_by(cluster, f"held-{number}") for number in range(2)} == {best.pid}


async def test_children_that_stick_are_executed_by_their_parents_process(cluster: Cluster) -> None:
    await cluster.start_operator()
    workers = {(await start_worker(cluster, name)).pid for name in ("first", "second", "third")}
    for workflow in ("Hard", "Soft"):
        names = [f"{workflow.lower()}-{number}" for number in range(4)]
        for name in names:
            await cluster.create_run(name, "family", of=workflow, children=3)
        parents = set()
        for name in names:
            said = output_of(await cluster.finished(name), "spawn")
            parents.add(said["by"]["pid"])
            assert set(said["children"]) == {said["by"]["pid"]}, name
        assert len(parents) > 1, "one worker took all parents, so their children proved nothing"
        assert parents <= workers


async def test_a_hard_child_waits_for_its_busy_worker_and_a_soft_one_goes_elsewhere(cluster: Cluster) -> None:
    await cluster.start_operator(waiting_told_after=0.2)
    owner = await start_worker(cluster, "owner", slots=2)
    for name, workflow in (("waits", "Hard"), ("leaves", "Soft")):
        await cluster.create_run(name, "family", of=workflow, children=1, before="spawn", gate="await")

    async def owner_is_full() -> bool:
        return all([phase_of(await cluster.run(name)) == "Running" for name in ("waits", "leaves")])

    await eventually(owner_is_full)
    cluster.open_gate("spawn")
    (waits,), (leaves,) = [await cluster.until_children(name, 1) for name in ("waits", "leaves")]
    other = await start_worker(cluster, "other")
    assert await done_by(cluster, leaves["metadata"]["name"], "first") == other.pid

    async def is_told() -> bool:
        return "is sticky (Hard)" in await message_of(cluster, waits["metadata"]["name"])

    await eventually(is_told)
    cluster.open_gate("await")
    assert output_of(await cluster.finished("waits"), "spawn")["children"] == [owner.pid] * 2
