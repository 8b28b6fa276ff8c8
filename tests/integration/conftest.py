from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.integration.harness import PATIENT, Cluster
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.real_api import BinariesMissingError, RealApi


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """An API server; the test starts the operator and workers."""
    async with Cluster(tmp_path, **PATIENT) as started:
        yield started


@pytest.fixture(params=["embedded", "real"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedApi | RealApi]:
    """Either API server; the test starts the rest."""
    try:
        starting = EmbeddedApi(tmp_path) if request.param == "embedded" else RealApi(tmp_path, unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with starting as started:
        yield started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show every process's log with a test that failed."""
    report = yield
    started = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(started, Cluster):
        report.sections += [(f"log of {name}", text) for name, text in started.logs()]
    return report
