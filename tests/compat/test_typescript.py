"""What programs of Hatchet's TypeScript SDK do with this operator."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.compat.foreign import (
    ForeignCluster,
    Program,
    assert_counted,
    assert_later,
    assert_stuck,
    keys_of_children,
)
from tests.compat.published import PATIENCE_SECONDS, PROGRAMS
from tests.integration.harness import phase_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIABLE = "HATCHET_TEST_TYPESCRIPT_SDK"
NAMES = (
    "tschild",
    "tsparent",
    "tsevent",
    "tscron",
    "tslimited",
    "tssame",
    "tscounted",
    "tslabelled",
    "tsrelabel",
    "tsstuck",
)


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


async def test_a_limit_that_a_program_sets_holds(cluster: ForeignCluster) -> None:
    await assert_counted(cluster, "tscounted", "ts-calls")


async def test_a_scheduled_run_starts_at_its_time_and_runs_have_priorities(cluster: ForeignCluster) -> None:
    await assert_later(cluster, "TsChild")


async def test_a_task_waits_for_the_label_that_it_requires(cluster: ForeignCluster) -> None:
    await cluster.create_run("labelled", "tslabelled")

    async def is_told() -> bool:
        message = (await cluster.run("labelled"))["status"].get("message") or ""
        return 'the label that it requires: "model" Equal "large" (there is: "model" is "small")' in message

    await eventually(is_told, within_seconds=PATIENCE_SECONDS)
    await cluster.create_run("relabelling", "tsrelabel")
    assert phase_of(await cluster.finished("relabelling")) == "Succeeded"
    assert phase_of(await cluster.finished("labelled")) == "Succeeded"


async def test_steps_of_a_sticky_run_stay_with_one_worker(cluster: ForeignCluster) -> None:
    await cluster.start_theirs(*NAMES)
    await assert_stuck(cluster, "tsstuck")
