"""An operator process that is watched: its memory, its CPU, and how long its event loop does but one thing."""

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from benchmarks.loop_lag import Lag, longest_lag
from benchmarks.machine import ROOT
from benchmarks.processes import NAMESPACE
from benchmarks.stage import BenchmarkFailed
from tests.kube.real_api import die_with_parent


class WatchedOperator:
    """An operator process, and what it leaves to be read."""

    def __init__(self, kubeconfig: Path, directory: Path, source: Path = ROOT) -> None:
        self._notes = directory
        paths = [str(source / "operator"), str(source / "sdk"), str(ROOT)]
        command = [
            sys.executable,
            "-m",
            "benchmarks.operator_process",
            str(kubeconfig),
            NAMESPACE,
            str(directory),
            "lag",
        ]
        self.began = time.monotonic()
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*die_with_parent(), *command],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until_ready(self) -> float:
        while not (self._notes / "ready").exists():  # a local file: microseconds
            if self._process.poll() is not None:
                raise BenchmarkFailed(f"the operator ended:\n{(self._notes / 'log').read_text()[-3000:]}")
            await asyncio.sleep(0.02)
        return time.monotonic() - self.began

    @property
    def peak_bytes(self) -> int:
        return peak_bytes(self._process.pid)

    @property
    def cpu_seconds(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    async def until_idle(self) -> None:
        """Return when it has used next to no CPU for a second."""
        before, calm = self.cpu_seconds, 0
        while calm < 2:
            await asyncio.sleep(0.5)
            calm = calm + 1 if self.cpu_seconds - before < 0.05 else 0
            before = self.cpu_seconds

    def scrape(self) -> None:
        """Read its metrics, as Prometheus does."""
        port = (self._notes / "ready").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            answer.read()

    def longest_lag(self, since: float) -> Lag:
        return longest_lag(self._notes / "lag", since=since)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
