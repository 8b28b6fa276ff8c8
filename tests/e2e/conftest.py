"""Tests on a cluster: `pytest tests/e2e --e2e` takes the one of KUBECONFIG, `make e2e` makes one.

HATCHET_TEST_IMAGES says where the cluster has the images from: the default, "localhost/hatchet-{}:dev", is for a
cluster that they were loaded into; "registry.example/team/hatchet-{}:1" for one that pulls them.
"""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster.__main__ import find_cluster
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.kind import KindCluster
from tests.e2e.cluster.native import NativeCluster
from tests.e2e.kubectl import Kubectl, new_namespace
from tests.e2e.operators import installed_operator, refusals

pytest.register_assert_rewrite("tests.e2e.slow_fan_out")

_HERE = Path(__file__).parent
_OPERATOR = pytest.StashKey[Kubectl]()
_LONGEST_SECONDS = 400  # longer than any wait within a test, which says better what was waited for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--e2e", action="store_true", help="run the tests of tests/e2e on the cluster of KUBECONFIG")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    runs = config.getoption("--e2e", default=False)
    if runs and "KUBECONFIG" not in os.environ:
        raise pytest.UsageError("--e2e needs KUBECONFIG; make e2e makes a cluster of its own")
    for item in items:
        if not item.path.is_relative_to(_HERE):
            continue
        if not runs:
            item.add_marker(pytest.mark.skip(reason="needs a cluster: make e2e, or --e2e with KUBECONFIG"))
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LONGEST_SECONDS))


@pytest.fixture(scope="session")
def operator(request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """The operator, installed with the chart for the whole cluster; the Kubectl of its namespace.

    Whatever the tests had it do, the chart's rights must have sufficed for it.
    """
    with installed_operator() as kubectl:
        request.session.stash[_OPERATOR] = kubectl
        yield kubectl
        assert refusals(kubectl) == []


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, operator: Kubectl) -> Iterator[Kubectl]:
    """A namespace of the test's own, served by the operator."""
    with new_namespace("e2e") as kubectl:
        yield kubectl


@pytest.fixture
def elsewhere(operator: Kubectl) -> Iterator[Kubectl]:
    """Another namespace, to see that nothing happens there."""
    with new_namespace("elsewhere") as kubectl:
        yield kubectl


@pytest.fixture
def cluster() -> KindCluster | NativeCluster:
    """The cluster that the suite made, of which a test may kill parts."""
    cluster = find_cluster()
    try:
        ours = cluster.kubeconfig == Path(os.environ["KUBECONFIG"])
    except ClusterError:
        ours = False
    if not ours:
        pytest.skip("needs a cluster whose components may be killed: make e2e")
    return cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show objects, events and logs with a test that failed, while they are still there."""
    report = yield
    if report.failed and report.when in ("setup", "call"):
        own = getattr(item, "funcargs", {}).get("kubectl")
        for who, kubectl in (("test", own), ("operator", item.session.stash.get(_OPERATOR, None))):
            if kubectl is not None:
                report.sections += [(f"{who}: {title}", text) for title, text in kubectl.story()]
    return report
