from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest

from tests.integration.harness import Cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """An API server; the test starts the operator and workers."""
    async with Cluster(tmp_path) as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show every process's log with a test that failed."""
    report = yield
    started = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(started, Cluster):
        report.sections += [(f"log of {name}", text) for name, text in started.logs()]
    return report
