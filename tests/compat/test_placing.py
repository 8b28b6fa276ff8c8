"""Which worker gets what, with programs of Hatchet's published class API."""

from __future__ import annotations

import json

import pytest

from tests.compat.published import PROGRAMS, PublishedCluster
from tests.integration.harness import output_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_labels_that_a_step_requires_and_a_worker_gets(cluster: PublishedCluster) -> None:
    labels = {"model": "small", "memory": 512}
    program = cluster.start_program(PROGRAMS / "placed.py", json.dumps(labels), name="placed")
    await cluster.until_listening(program, "labelled", "relabel")
    await cluster.create_run("labelled", "labelled")

    async def is_told() -> bool:
        message = (await cluster.run("labelled"))["status"].get("message", "")
        return 'the label that it requires: "model" Equal "large" (there is: "model" is "small")' in message

    await eventually(is_told)
    await cluster.create_run("relabelling", "relabel", labels={"model": "large"})
    await cluster.finished("relabelling")
    assert output_of(await cluster.finished("labelled"), "work")["id"]


async def test_steps_and_children_that_stick_to_a_worker(cluster: PublishedCluster) -> None:
    for name in ("first", "second", "third"):
        program = cluster.start_program(PROGRAMS / "placed.py", "{}", name=f"sticky-{name}")
        await cluster.until_listening(program, "stuck", "parents")
    for number in range(3):
        await cluster.create_run(f"parents-{number}", "parents")
    for number in range(3):
        said = output_of(await cluster.finished(f"parents-{number}"), "spawn")
        assert said["children"] == [said["own"]] * 3
