from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.compat.published import (
    PATIENCE_SECONDS,
    PROGRAMS,
    VARIABLE,
    PublishedCluster,
    PublishedSdk,
    find_published_sdks,
)

FOLDER = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once per published SDK, and say why not where there is none."""
    if "sdk" not in metafunc.fixturenames:
        return
    functions = metafunc.module.__name__.endswith("_tasks")  # how SDKs from 1.0 on write workflows
    found = [pytest.param(sdk, id=sdk.version) for sdk in find_published_sdks() if sdk.is_class_based is not functions]
    reason = f"{VARIABLE} names no interpreter with Hatchet's published SDK; see make test-published"
    nothing = pytest.param(None, id="no published SDK", marks=pytest.mark.skip(reason=reason))
    metafunc.parametrize("sdk", found or [nothing], scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Be patient: each of these starts interpreters with a large SDK, often beside others."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.timeout(4 * PATIENCE_SECONDS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(sdk: PublishedSdk, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PublishedCluster]:
    """Operator and API server; tests start workers, or take `worker` and `narrow`."""
    async with PublishedCluster(tmp_path_factory.mktemp("cluster"), sdk) as cluster:
        await cluster.start_operator()
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(cluster: PublishedCluster) -> None:
    """A worker with the workflows of programs/worker.py."""
    process = cluster.start_program(PROGRAMS / "worker.py", "20")
    last = "bulkparent" if cluster.sdk.spawns_in_bulk else "extras"
    await cluster.until_listening(process, "echo", last)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(cluster: PublishedCluster) -> None:
    """A worker with one slot and the workflows of programs/narrow.py."""
    process = cluster.start_program(PROGRAMS / "narrow.py")
    await cluster.until_listening(process, "holder", "quick", "urgent")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show every process's log with a test that failed."""
    report = yield
    started = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(started, PublishedCluster):
        report.sections += [(f"log of {name}", text) for name, text in started.logs()]
    return report
