"""A scenario of the benchmarks, so that they still run when somebody wants figures; the figures are of no account."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.machine import ROOT
from benchmarks.results import load


async def bench(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.timeout(240)
async def test_a_scenario_is_measured_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "performance.json"
    options = ("serial-10", "--api=embedded", "--repeat=1", "--attempts=1", "--window=0.3", f"--json={file}")
    assert "serial-10 is left out" in await bench(*options, "--budget=10s")
    said = await bench(*options)
    (sample,) = load(file).scenarios["serial-10"].samples
    assert f"{sample.ratio:.2f} of the raw rate" in said
    assert sample.units == 10
    assert sample.writes is not None
    assert 2.1 <= sample.writes <= 3, "two a child, the parent's, and on a slow machine those that come by the clock"
    assert sample.grpc_messages is not None
    assert sample.grpc_messages > 1
    assert {"operator", "worker", "apiserver", "client"} <= sample.cpu_ms.keys()
    assert "spawn to start p95, ms" in sample.figures
    in_turn = sample.figures["raw pairs/s, in turn"]
    assert sample.figures["ratio to these"] == pytest.approx(sample.per_second / in_turn)
    assert sample.cores is not None
    assert sample.cores > 0

    assert "serial-10 is measured already" in await bench(*options)
    assert load(file).scenarios["serial-10"].samples == (sample,)
