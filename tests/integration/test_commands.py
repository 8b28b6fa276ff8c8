"""The other commands, each as a process of its own: a cluster put together from its parts, on either API server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CRDS, POOLS, RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.dev.one_run import make_run
from hatchet_operator.dev.worker_pool import make_pool
from hatchet_operator.errors import ConfigurationError, NotFound
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi

FANOUT = Path(__file__).parents[2] / "examples" / "fanout" / "worker.py"
ENDS_WITHIN_SECONDS = 30.0


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stdout_of(*arguments: str | Path) -> str:
    async with running(*arguments) as process:
        stdout, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
        assert process.returncode == 0, stderr.decode()
        return stdout.decode()


async def end(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Ask a process to end; return its exit code and what it wrote to stderr."""
    process.send_signal(signal.SIGTERM)
    _, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
    assert process.returncode is not None
    return process.returncode, stderr.decode()


@pytest.fixture(params=["embedded", "real"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedApi | RealApi]:
    try:
        starting = EmbeddedApi(tmp_path) if request.param == "embedded" else RealApi(tmp_path, unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with starting as started:
        yield started


async def install_crds(api: Api) -> None:
    for crd in yaml.safe_load_all(await stdout_of("hatchet_operator", "crds")):
        await api.create(CRDS, None, crd)

    async def are_served() -> bool:
        try:
            await api.list_all(RUNS)
            await api.list_all(POOLS)
        except NotFound:
            return False
        return True

    await eventually(are_served)


async def test_a_run_on_a_cluster_of_processes(server: EmbeddedApi | RealApi, tmp_path: Path) -> None:
    kubeconfig = server.kubeconfig
    options = ("--kubeconfig", kubeconfig)
    async with Api(find_endpoint(kubeconfig)) as api:
        await install_crds(api)
        async with (
            running("hatchet_operator", "run", *options, "--grpc-port", "0", "--log-format", "json") as operator,
            running("hatchet_operator.localnode", *options, "--state-dir", tmp_path / "node") as node,
        ):
            await api.create(POOLS, "default", make_pool(FANOUT, replicas=1))
            # Waits for its workflow, which the pool's worker has yet to register.
            run = await api.create(RUNS, "default", make_run("parent", "{}"))

            async def has_succeeded() -> bool:
                status = (await api.get(RUNS, "default", run["metadata"]["name"])).get("status") or {}
                return bool(status.get("phase") == "Succeeded")

            await eventually(has_succeeded)
            runs, _ = await api.list_all(RUNS, "default")
            assert len(runs) == 11
            node_exit_code, _ = await end(node)
            exit_code, log = await end(operator)
        assert (exit_code, node_exit_code) == (0, 0), log
        assert '"operator ready"' in log


async def test_run_without_crds_says_what_to_install(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path) as server:
        async with running("hatchet_operator", "run", "--kubeconfig", server.kubeconfig) as process:
            _, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
            assert process.returncode == 1
            assert stderr.decode().splitlines()[-1] == (
                f"error: {server.endpoint.url} has no WorkflowRun CRD; run hatchet-operator crds | kubectl apply -f -"
            )


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(None, "config", id="no such file"),
        pytest.param("a: [", "expected", id="no YAML"),
        pytest.param("kind: Config", "--kubeconfig", id="no cluster"),
    ],
)
def test_a_bad_kubeconfig_is_refused_in_words(text: str | None, want: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=want):
        find_endpoint(path)
