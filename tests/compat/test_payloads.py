"""Inputs and outputs above 256 KiB of programs that know of no store: the operator reads and writes it for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hatchet_sdk.payloads.reference import reference_in
from tests.compat.published import PROGRAMS, PublishedCluster, PublishedSdk

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    sdk: PublishedSdk, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PublishedCluster]:
    directory = tmp_path_factory.mktemp("cluster")
    async with PublishedCluster(directory, sdk, payload_store=store.as_uri()) as cluster:
        await cluster.start_operator()
        process = cluster.start_program(PROGRAMS / "payloads.py")
        await cluster.until_listening(process, "swell", "reflect", "mirror", "twice")
        yield cluster


async def test_a_step_reads_what_a_step_before_it_returned(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Swell", "input": {"characters": 400_000}})
    assert answer["result"] == {"make": {"text": "ä" * 400_000}, "measure": {"characters": 400_000}}
    run = await cluster.run(answer["run"])
    reference = reference_in(run["status"]["steps"]["make"]["output"])
    assert reference is not None
    assert reference.size > 800_000


async def test_a_child_gets_and_returns_what_is_large(cluster: PublishedCluster, store: Path) -> None:
    [answer] = await cluster.ask({"workflow": "Mirror", "input": {"characters": 400_000}})
    assert answer["result"] == {"look": {"same": True}}
    (child,) = await cluster.children_of(answer["run"])
    given, returned = child["spec"]["inputJson"], child["status"]["steps"]["reflect"]["output"]
    assert (reference_in(given) or pytest.fail(given)).owner == child["spec"]["parent"]["uid"]
    assert (reference_in(returned) or pytest.fail(returned)).owner == child["metadata"]["uid"]


async def test_what_no_message_takes_is_told(cluster: PublishedCluster) -> None:
    """Two outputs of 3 MB fit into a message each, and the result of their run into none."""
    [answer] = await cluster.ask({"workflow": "Twice", "input": {"characters": 500_000}})
    assert "more than the 4194304 (4 MiB) that clients take in a message" in answer["error"]


async def test_an_output_that_no_message_takes_fails_its_step(cluster: PublishedCluster) -> None:
    """Their client says so itself; it sends 4 MiB at most."""
    if not cluster.sdk.spawns_in_bulk:
        pytest.skip("0.36.24 says it in its worker's log alone, and the step times out")
    [answer] = await cluster.ask({"workflow": "Swell", "input": {"characters": 1_000_000}})
    assert "larger than max" in answer["error"]
