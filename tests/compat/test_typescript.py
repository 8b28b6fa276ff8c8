"""What programs of Hatchet's TypeScript SDK do with this operator."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.compat.foreign import ForeignCluster, Program, keys_of_children
from tests.compat.published import PROGRAMS

pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIABLE = "HATCHET_TEST_TYPESCRIPT_SDK"
NAMES = ("tschild", "tsparent", "tsevent", "tscron", "tslimited", "tssame")


def find_program() -> Program:
    modules, node = os.environ.get(VARIABLE, ""), shutil.which("node")
    if node is None:
        pytest.skip("node is not in the PATH")
    if not Path(modules, "@hatchet-dev", "typescript-sdk").is_dir():
        pytest.skip(
            f"{VARIABLE} names no folder node_modules with @hatchet-dev/typescript-sdk; see make test-published"
        )
    return Program((node, str(PROGRAMS / "typescript" / "worker.cjs")), {"NODE_PATH": modules})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ForeignCluster]:
    program = find_program()
    async with ForeignCluster(tmp_path_factory.mktemp("cluster"), program) as cluster:
        await cluster.start_operator()
        await cluster.start_theirs(*NAMES)
        yield cluster


async def test_a_retried_parent_finds_its_keyed_children_and_an_event_starts_a_run(cluster: ForeignCluster) -> None:
    assert await cluster.ask_theirs() == {"results": [0, 2, 4], "retry": 1}
    assert sorted(cluster.noted("ts-children")) == ["0", "1", "2"], "each child ran once"
    assert await keys_of_children(cluster, "tsparent") == ["child0", "child1", "child2"]
    assert await cluster.output_of_event("tsevent", "TsEvent") == {"got": "hello"}


async def test_a_cron_ticks(cluster: ForeignCluster) -> None:
    assert [cron["schedule"] for cron in await cluster.crons_of("tscron")] == ["30 6 * * MON-FRI"]


async def test_runs_of_one_group_take_turns(cluster: ForeignCluster) -> None:
    assert await cluster.run_in_turns("tslimited", "ts-limited") == ["begin ada", "end ada"] * 2


async def test_a_second_run_with_a_key_raises_an_error_that_names_the_first(cluster: ForeignCluster) -> None:
    told = await cluster.ask_theirs("twice")
    assert told["existing"] == told["first"]
    assert len(await cluster.runs_of("tssame")) == 1
