"""Some seconds of the mixed load; ten minutes of it are `make mixed-load`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.mixed_load.scenario import run_mixed_load


@pytest.mark.timeout(300)
async def test_promises_are_kept_under_a_mixed_load_with_kills_and_faults(tmp_path: Path) -> None:
    seed = random.randrange(10_000)
    verdict = await run_mixed_load(tmp_path, seconds=30, seed=seed, operator_lives_seconds=9)
    assert not verdict.broken, f"seed {seed}"
    assert verdict.operators_killed >= 1
    assert verdict.faults >= 1
    assert sum(verdict.runs.values()) > 100
