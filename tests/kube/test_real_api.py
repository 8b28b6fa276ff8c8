"""The harness itself: it counts requests and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.kube.client import CONFIG_MAPS, Api
from tests.kube.real_api import BinariesMissingError, RealApi, RequestKind, find_binaries

HOLDER = """
import sys
from pathlib import Path
from tests.kube.real_api import RealApi

with RealApi(Path(sys.argv[1]), unsafe_no_fsync=True) as api:
    print(*api.pids.values(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _binaries() -> None:
    try:
        find_binaries()
    except BinariesMissingError as missing:
        pytest.skip(str(missing))


async def test_requests_are_counted_by_kind(tmp_path: Path) -> None:
    with RealApi(tmp_path, unsafe_no_fsync=True) as server:
        before = server.request_counts()
        async with Api.connect(server.endpoint, "default") as api:
            for _ in range(3):
                (await api.create(CONFIG_MAPS, CONFIG_MAPS.make(metadata={"generateName": "a-"}))).ok()
        pids = server.pids
        made = RequestKind(verb="POST", group="", resource="configmaps", subresource="", code=201)
        assert (server.request_counts() - before)[made] == 3
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


@pytest.mark.skipif(not shutil.which("setpriv"), reason="without setpriv nobody ends the servers of a killed process")
def test_servers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        pids = [int(word) for word in holder.stdout.readline().split()]
        holder.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
