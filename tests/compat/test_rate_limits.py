"""Rate limits of programs with Hatchet's class API: set by them, used by a key, from 0.47 on by expressions too."""

from __future__ import annotations

import pytest

from tests.compat.limits import assert_counted, assert_measured
from tests.compat.published import PROGRAMS, PublishedCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_limits_that_a_program_sets_hold(cluster: PublishedCluster) -> None:
    names = ("counted", "measured") if cluster.sdk.spawns_in_bulk else ("counted",)
    await cluster.until_listening(cluster.start_program(PROGRAMS / "limited.py", name="limited"), *names)
    await assert_counted(cluster)
    if cluster.sdk.spawns_in_bulk:
        await assert_measured(cluster)
