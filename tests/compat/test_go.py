"""What programs of Hatchet's Go SDK do with this operator."""

from __future__ import annotations

import os
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

pytestmark = pytest.mark.asyncio(loop_scope="module")

VARIABLE = "HATCHET_TEST_GO_PROGRAM"
NAMES = ("go-child", "go-parent", "go-event", "go-cron", "go-limited", "go-same", "go-counted", "go-stuck")


def find_program() -> Program:
    path = os.environ.get(VARIABLE, "")
    if not path or not Path(path).is_file():
        pytest.skip(f"{VARIABLE} names no program made of tests/compat/programs/golang; see make test-published")
    return Program((path,))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ForeignCluster]:
    program = find_program()
    async with ForeignCluster(tmp_path_factory.mktemp("cluster"), program) as cluster:
        await cluster.start_operator()
        await cluster.start_theirs(*NAMES)
        yield cluster


async def test_a_retried_parent_finds_its_keyed_children_and_a_filter_lets_one_event_in(
    cluster: ForeignCluster,
) -> None:
    assert await cluster.ask_theirs() == {"results": [0, 2, 4], "retry": 1}
    assert sorted(cluster.noted("go-children")) == ["0", "1", "2"], "each child ran once"
    assert await keys_of_children(cluster, "go-parent") == ["child0", "child1", "child2"]
    assert await cluster.output_of_event("go-event", "go-event") == {"text": "hello ada"}


async def test_a_cron_ticks(cluster: ForeignCluster) -> None:
    assert [cron["schedule"] for cron in await cluster.crons_of("go-cron")] == ["30 6 * * MON-FRI"]


async def test_runs_of_one_group_take_turns(cluster: ForeignCluster) -> None:
    assert await cluster.run_in_turns("go-limited", "go-limited") == ["begin ada", "end ada"] * 2


async def test_a_second_run_with_a_key_raises_an_error_that_names_the_first(cluster: ForeignCluster) -> None:
    told = await cluster.ask_theirs("twice")
    assert told["existing"] == told["first"]
    assert len(await cluster.runs_of("go-same")) == 1


async def test_a_limit_that_a_program_sets_holds(cluster: ForeignCluster) -> None:
    await assert_counted(cluster, "go-counted", "go-calls")


async def test_a_scheduled_run_starts_at_its_time_and_runs_have_priorities(cluster: ForeignCluster) -> None:
    await assert_later(cluster, "go-child")


async def test_steps_of_a_sticky_run_stay_with_one_worker(cluster: ForeignCluster) -> None:
    await cluster.start_theirs(*NAMES)
    await assert_stuck(cluster, "go-stuck")
