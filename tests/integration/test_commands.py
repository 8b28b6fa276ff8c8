"""The other commands, each as a process of its own: a cluster put together from its parts, on either API server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import POOLS, RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ConfigurationError
from hatchet_operator_dev.one_run import make_run
from hatchet_operator_dev.worker_pool import make_pool
from tests.integration.commands import ENDS_WITHIN_SECONDS, end, install_crds, running
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import RealApi

FANOUT = Path(__file__).parents[2] / "examples" / "fanout" / "worker.py"


async def test_a_run_on_a_cluster_of_processes(server: EmbeddedApi | RealApi, tmp_path: Path) -> None:
    kubeconfig = server.kubeconfig
    options = ("--kubeconfig", kubeconfig)
    async with Api(find_endpoint(kubeconfig), may_write=always) as api:
        await install_crds(api)
        async with (
            running("hatchet_operator", "run", *options, "--grpc-port", "0", "--log-format", "json") as operator,
            running("hatchet_operator_dev.localnode", *options, "--state-dir", tmp_path / "node") as node,
        ):
            await api.create(POOLS, "default", make_pool([sys.executable, str(FANOUT)], replicas=1))
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


@pytest.mark.parametrize(
    ("module", "command"), [("hatchet_operator", "hatchet-operator"), ("hatchet_cli", "hatchet")], ids=str
)
async def test_the_version_is_that_of_the_chart(module: str, command: str) -> None:
    chart = yaml.safe_load((FANOUT.parents[2] / "charts/hatchet-operator/Chart.yaml").read_text())
    async with running(module, "--version") as process:
        stdout, _ = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
    assert (process.returncode, stdout.decode()) == (0, f"{command} {chart['appVersion']}\n")


SLOW_IMPORTS = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "hatchet_operator.serve":
            print("importing", flush=True)
            time.sleep(600)

sys.meta_path.insert(0, Slow())
from hatchet_operator.cli import app
app(["run"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a PID namespace, and so root")
async def test_the_first_process_of_a_container_is_ended_while_it_imports() -> None:
    """The kernel keeps signals from it that it does not handle."""
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", SLOW_IMPORTS),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), ENDS_WITHIN_SECONDS) == b"importing\n"
        (first,) = psutil.Process(process.pid).children()
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), ENDS_WITHIN_SECONDS) == 128 + signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_run_without_crds_says_what_to_install_and_waits_for_it(tmp_path: Path) -> None:
    want = "CRD workflowruns.hatchet-operator.dev is not installed; the CRD workerpools.hatchet-operator.dev is not"
    with EmbeddedApi(tmp_path) as server:
        async with running("hatchet_operator", "run", "--kubeconfig", server.kubeconfig) as process:
            assert process.stderr is not None
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                while want not in (line := (await process.stderr.readline()).decode()):
                    assert line, "it ended"
            assert 'else with "hatchet-operator crds | kubectl apply -f -"' in line
            process.terminate()
            await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
            assert process.returncode == 0


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
