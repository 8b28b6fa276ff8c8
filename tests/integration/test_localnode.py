"""The local node: pods of the embedded API server as child processes, and nothing left of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import CONFIG_MAPS, PODS, SECRETS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.apiserver.server import ApiServer
from hatchet_operator_dev.localnode import LOG_PATH_ANNOTATION, LocalNode
from hatchet_operator_dev.localnode.environment import expand
from hatchet_operator_dev.localnode.process import CannotStart, Process
from hatchet_operator_dev.localnode.status import next_back_off, should_restart
from tests.kube.eventually import eventually

ENVIRONMENT = {"PATH": os.environ["PATH"]}

# Starts a grandchild that leaves the session and the process group, prints both pids, and waits.
FAMILY = textwrap.dedent("""
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(os.getpid(), child.pid, flush=True)
    time.sleep(600)
""")


async def start(program: str, tmp_path: Path) -> tuple[Process, asyncio.Queue[str]]:
    lines: asyncio.Queue[str] = asyncio.Queue()
    process = await Process.start(
        [sys.executable, "-c", program],
        environment=ENVIRONMENT,
        directory=tmp_path,
        log=tmp_path / "log",
        on_line=lines.put_nowait,
    )
    return process, lines


async def start_plainly(program: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", program, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    return process, process.stdout


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(holds: Callable[[], bool], *, within_seconds: float = 20) -> None:
    async with asyncio.timeout(within_seconds):
        while not holds():  # noqa: ASYNC110  # a process that ends tells only its parent
            await asyncio.sleep(0.01)


class TestProcess:
    async def test_output_reaches_log_and_callback_whole(self, tmp_path: Path) -> None:
        program = "import sys; print('a' * 200_000, flush=True); print('é', file=sys.stderr); sys.stdout.write('end')"
        process, lines = await start(program, tmp_path)
        ended = await process.wait()
        assert (ended.exit_code, ended.signal) == (0, None)
        assert sorted(len(lines.get_nowait()) for _ in range(lines.qsize())) == [1, 3, 200_000]
        assert (tmp_path / "log").stat().st_size == 200_001 + 3 + 3

    @pytest.mark.parametrize(
        ("program", "want"),
        [
            pytest.param("raise SystemExit(7)", (7, None, "exit code 7"), id="an exit code is reported"),
            pytest.param(
                "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
                (137, 9, "signal SIGKILL"),
                id="a signal is reported as a shell does",
            ),
        ],
    )
    async def test_how_it_ended(self, program: str, want: tuple[int, int | None, str], tmp_path: Path) -> None:
        process, _ = await start(program, tmp_path)
        ended = await process.wait()
        assert (ended.exit_code, ended.signal, ended.how) == want

    @pytest.mark.parametrize(
        ("command", "directory", "want"),
        [
            pytest.param(["/no/such/program"], None, "No such file or directory: /no/such/program", id="no program"),
            pytest.param(["no-such-program"], None, "No such file or directory: no-such-program", id="not on PATH"),
            pytest.param([str(Path(__file__))], None, "Permission denied", id="not executable"),
            pytest.param(["true"], Path("/no/such"), 'working directory "/no/such" is not there', id="no directory"),
        ],
    )
    async def test_what_cannot_start_says_why(
        self, command: list[str], directory: Path | None, want: str, tmp_path: Path
    ) -> None:
        with pytest.raises(CannotStart, match=want):
            await Process.start(command, environment=ENVIRONMENT, directory=directory, log=tmp_path / "log")

    async def test_ending_asks_first(self, tmp_path: Path) -> None:
        program = """
            import os, signal, sys, time
            def leave(*_):
                os.write(1, b"bye")
                sys.exit(3)
            signal.signal(signal.SIGTERM, leave)
            print("up", flush=True)
            time.sleep(600)
        """
        process, lines = await start(textwrap.dedent(program), tmp_path)
        assert await lines.get() == "up"
        ended = await process.end(grace_seconds=20)
        assert (ended.exit_code, ended.tail) == (3, "up\nbye")

    async def test_ending_kills_who_does_not_listen_and_all_that_it_started(self, tmp_path: Path) -> None:
        process, lines = await start("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + FAMILY, tmp_path)
        pids = [int(pid) for pid in (await lines.get()).split()]
        ended = await process.end(grace_seconds=0.1)
        assert ended.signal == signal.SIGKILL
        assert all(gone(pid) for pid in pids)

    async def test_descendants_go_with_a_command_that_ends_by_itself(self, tmp_path: Path) -> None:
        process, lines = await start(FAMILY.replace("time.sleep(600)\n", "\n"), tmp_path)
        await process.wait()
        assert all(gone(int(pid)) for pid in (await lines.get()).split())

    async def test_a_killed_shim_takes_its_command_with_it(self, tmp_path: Path) -> None:
        process, lines = await start("import time; print('up', flush=True); time.sleep(600)", tmp_path)
        assert await lines.get() == "up"
        shim = psutil.Process(process.pid).parent()
        assert shim is not None
        os.kill(shim.pid, signal.SIGKILL)
        assert (await process.wait()).signal == signal.SIGKILL
        await until(lambda: gone(process.pid))


async def test_nothing_outlives_a_node_that_is_killed(tmp_path: Path) -> None:
    node = f"""
        import asyncio, pathlib, sys
        from hatchet_operator_dev.localnode.process import Process
        async def main():
            command = [sys.executable, "-c", {FAMILY!r}]
            log = pathlib.Path({str(tmp_path / "log")!r})
            process = await Process.start(command, environment={{}}, directory=None, log=log, on_line=print)
            await process.wait()
        asyncio.run(main())
    """
    process, lines = await start_plainly(textwrap.dedent(node))
    pids = [int(pid) for pid in (await lines.readline()).split()]
    assert not any(gone(pid) for pid in pids)
    process.kill()
    await process.wait()
    await until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("a $(X) b", "a 1 b", id="a reference is replaced"),
        pytest.param("$(NO) $X ${X}", "$(NO) $X ${X}", id="what is no reference to a variable stays"),
        pytest.param("$$(X) $$$(X)", "$(X) $1", id="$$ stands for $"),
    ],
)
def test_expansion(text: str, want: str) -> None:
    assert expand(text, {"X": "1"}) == want


@pytest.mark.parametrize(
    ("policy", "exit_code", "want"),
    [
        pytest.param("Always", 0, True, id="Always starts again after success"),
        pytest.param("OnFailure", 0, False, id="OnFailure rests after success"),
        pytest.param("OnFailure", 1, True, id="OnFailure starts again after failure"),
        pytest.param("Never", 1, False, id="Never is final"),
    ],
)
def test_restart_policy(policy: str, exit_code: int, want: bool) -> None:
    assert should_restart(policy, exit_code) is want


def test_back_off_doubles_up_to_half_a_minute_and_forgets_after_a_good_run() -> None:
    waits: list[float] = []
    current: float | None = None
    for _ in range(7):
        current = next_back_off(current, ran_seconds=0)
        waits.append(current)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert next_back_off(current, ran_seconds=61) == 1


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with ApiServer() as url, Api(Endpoint(server=url), may_write=always) as api:
        yield Cluster(api, tmp_path)


class Cluster:
    """An API server in memory, and nodes for it."""

    def __init__(self, api: Api, directory: Path) -> None:
        self.api = api
        self.directory = directory
        self.lines: list[tuple[str, str]] = []

    @asynccontextmanager
    async def node(self, name: str = "local", *, takes_unbound: bool = True) -> AsyncIterator[LocalNode]:
        stop = asyncio.Event()
        node = LocalNode(
            self.api,
            state_directory=self.directory,
            name=name,
            takes_unbound=takes_unbound,
            stop_seconds=0.5,
            farewell_seconds=20,
            on_output=lambda pod, line: self.lines.append((pod, line)),
        )
        running = asyncio.create_task(node.run(stop))
        try:
            yield node
        finally:
            stop.set()
            await running

    async def create_pod(
        self, program: str, *, name: str = "pod", policy: str = "Always", grace_seconds: int = 1, **container: Any
    ) -> Json:
        command = [sys.executable, "-u", "-c", textwrap.dedent(program)]
        return await self.api.create(
            PODS,
            "default",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": "x"}},
                "spec": {
                    "restartPolicy": policy,
                    "terminationGracePeriodSeconds": grace_seconds,
                    "containers": [{"name": "main", "image": "none", "command": command} | container],
                },
            },
        )

    async def until(self, holds: Callable[[Json], bool], *, name: str = "pod", within_seconds: float = 20) -> Json:
        try:
            async with asyncio.timeout(within_seconds):
                while not holds(pod := await self.api.get(PODS, "default", name)):  # noqa: ASYNC110  # a poll
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"never: {json.dumps(pod['status'], indent=1)}")
        return pod

    async def is_gone(self, name: str = "pod") -> bool:
        try:
            await self.api.get(PODS, "default", name)
        except NotFound:
            return True
        return False


def container_of(pod: Json) -> Json:
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{"state": {}}]
    return dict(statuses[0])


def is_running(pod: Json) -> bool:
    return "running" in container_of(pod)["state"]


def in_phase(*phases: str) -> Callable[[Json], bool]:
    return lambda pod: pod["status"].get("phase") in phases


SLEEP = "import os, time; print(os.getpid()); time.sleep(600)"


class TestPods:
    async def test_a_running_pod_looks_as_a_kubelet_would_show_it(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod(SLEEP)
            pod = await cluster.until(is_running)
            status = pod["status"]
            assert pod["spec"]["nodeName"] == "local"
            assert (status["phase"], status["podIP"]) == ("Running", "127.0.0.1")
            assert {one["type"] for one in status["conditions"] if one["status"] == "True"} == {
                *("PodScheduled", "Initialized", "ContainersReady", "Ready")
            }
            container = container_of(pod)
            assert (container["ready"], container["restartCount"]) == (True, 0)
            assert container["containerID"].startswith("local://")

    @pytest.mark.parametrize(
        ("policy", "exit_code", "want"),
        [("Never", 0, "Succeeded"), ("Never", 3, "Failed"), ("OnFailure", 0, "Succeeded")],
    )
    async def test_a_pod_that_is_not_started_again_is_final(
        self, policy: str, exit_code: int, want: str, cluster: Cluster
    ) -> None:
        async with cluster.node():
            await cluster.create_pod(f"print('last words'); raise SystemExit({exit_code})", policy=policy)
            pod = await cluster.until(in_phase("Succeeded", "Failed"))
            terminated = container_of(pod)["state"]["terminated"]
            assert (pod["status"]["phase"], terminated["exitCode"]) == (want, exit_code)
            assert terminated.get("message") == ("last words" if exit_code else None)
            assert "signal" not in terminated
        pod = await cluster.until(in_phase("Succeeded", "Failed"))
        assert pod["status"]["phase"] == want

    async def test_a_crashing_container_is_started_again_with_its_last_words_kept(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod("import os; print('no'); os.kill(os.getpid(), 9)")
            pod = await cluster.until(lambda pod: "waiting" in container_of(pod)["state"])
            container = container_of(pod)
            assert container["state"]["waiting"] == {
                "reason": "CrashLoopBackOff",
                "message": 'container "main" ended (signal SIGKILL) and is started again after a pause',
            }
            last = container["lastState"]["terminated"]
            assert (last["exitCode"], last["signal"], last["message"]) == (137, 9, "no")
            await cluster.until(lambda pod: container_of(pod)["restartCount"] == 1)

    async def test_a_deleted_pod_ends_in_order_and_disappears(self, cluster: Cluster) -> None:
        program = """
            import os, signal, sys, time
            signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"bye"), sys.exit(0)))
            print("up")
            time.sleep(600)
        """
        async with cluster.node():
            await cluster.create_pod(program, grace_seconds=30)
            await until(lambda: ("pod", "up") in cluster.lines)
            await cluster.api.delete(PODS, "default", "pod")
            await eventually(cluster.is_gone)
            assert cluster.lines == [("pod", "up"), ("pod", "bye")]

    async def test_a_deleted_pod_that_does_not_listen_is_killed_after_its_grace_period(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP)
            await until(lambda: len(cluster.lines) == 1)
            await cluster.api.delete(PODS, "default", "pod")
            await eventually(cluster.is_gone)
            assert gone(int(cluster.lines[0][1]))

    async def test_a_stopping_node_leaves_no_process_and_says_so(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod(FAMILY)
            await until(lambda: len(cluster.lines) == 1)
        assert all(gone(int(pid)) for pid in cluster.lines[0][1].split())
        pod = await cluster.until(in_phase("Failed"))
        assert pod["status"]["reason"] == "Terminated"

    async def test_a_node_that_comes_back_starts_again_what_died_with_it(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod(SLEEP)
            running = await cluster.until(is_running)
        # As if the node had been killed: nobody wrote that the container is gone.
        await cluster.api.patch(PODS, "default", "pod", {"status": running["status"]}, subresource="status")
        async with cluster.node(takes_unbound=False):
            pod = await cluster.until(lambda pod: container_of(pod)["restartCount"] == 1 and is_running(pod))
            assert container_of(pod)["containerID"] != container_of(running)["containerID"]

    async def test_unbound_pods_wait_for_a_scheduler_when_told_so(self, cluster: Cluster) -> None:
        async with cluster.node("picky", takes_unbound=False), cluster.node("willing") as willing:
            await willing.synced.wait()
            await cluster.create_pod(SLEEP)
            pod = await cluster.until(is_running)
            assert pod["spec"]["nodeName"] == "willing"

    @pytest.mark.parametrize(
        ("container", "want"),
        [
            pytest.param(
                {"command": ["/no/such"]},
                {"reason": "CreateContainerError", "message": "No such file or directory: /no/such"},
                id="a missing executable",
            ),
            pytest.param(
                {"command": None},
                {
                    "reason": "CreateContainerError",
                    "message": 'container "main" has no command, and a local node has no images to ask',
                },
                id="no command",
            ),
            pytest.param(
                {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
                {"reason": "CreateContainerConfigError", "message": 'env X: Secret "s" is not there'},
                id="a missing secret",
            ),
        ],
    )
    async def test_what_cannot_start_says_why_in_its_status(
        self, container: Json, want: Json, cluster: Cluster
    ) -> None:
        async with cluster.node():
            await cluster.create_pod(SLEEP, **container)
            pod = await cluster.until(lambda pod: bool(container_of(pod)["state"].get("waiting")))
            assert container_of(pod)["state"]["waiting"] == want
            assert pod["status"]["phase"] == "Pending"

    async def test_the_environment_is_resolved(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOBODYS", "business")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "c2VjcmV0"}}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "config"}}
        await cluster.api.create(SECRETS, "default", secret)
        await cluster.api.create(CONFIG_MAPS, "default", config)
        fields = {
            "NAME": "metadata.name",
            "UID": "metadata.uid",
            "LABEL": "metadata.labels['app']",
            "NODE": "spec.nodeName",
            "IP": "status.podIP",
        }
        env = [
            {"name": "PLAIN", "value": "a"},
            {"name": "EXPANDED", "value": "$(PLAIN)b"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": True}}},
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        ]
        program = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.argv[1:]]))"
        async with cluster.node():
            pod = await cluster.create_pod(
                program,
                policy="Never",
                env=env,
                envFrom=[{"prefix": "P_", "configMapRef": {"name": "c"}}],
                args=["$(SECRET)"],
                workingDir=str(cluster.directory),
            )
            await cluster.until(in_phase("Succeeded", "Failed"))
            seen, directory, arguments = json.loads(cluster.lines[0][1])
            assert (directory, arguments) == (str(cluster.directory), ["secret"])
            assert seen["PATH"] == os.environ["PATH"]
            assert "NOBODYS" not in seen
            want = {
                "PLAIN": "a",
                "EXPANDED": "ab",
                "SECRET": "secret",
                "CONFIG": "config",
                "P_k": "config",
                "NAME": "pod",
                "UID": pod["metadata"]["uid"],
                "LABEL": "x",
                "NODE": "local",
                "IP": "127.0.0.1",
            }
            assert {name: seen.get(name) for name in want} == want

    async def test_the_log_is_where_the_api_server_looks_for_it(self, cluster: Cluster) -> None:
        async with cluster.node():
            await cluster.create_pod("print('one'); print('two')", policy="Never")
            pod = await cluster.until(in_phase("Succeeded"))
            path = pod["metadata"]["annotations"][LOG_PATH_ANNOTATION]
            assert Path(path).read_text() == "one\ntwo\n"  # noqa: ASYNC240  # two lines
            url = f"{cluster.api.endpoint.server}/api/v1/namespaces/default/pods/pod/log"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                assert await response.text() == "one\ntwo\n"
