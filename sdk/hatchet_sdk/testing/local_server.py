"""The real operator in its own process on this machine: what ``hatchet-operator dev`` starts without a program."""

import importlib.util
import re
import shlex
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self, overload

from hatchet_sdk._client.arguments import check_seconds
from hatchet_sdk._client.config import ClientConfig
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import TriggerWorkflowOptions
from hatchet_sdk._client.typed import InputT, ResultT, RunResult, Workflow
from hatchet_sdk._hatchet import Hatchet

_SAYS_WHERE = re.compile(r"\bsource\s+(.+/client\.env'?)\s*$")
_LAST_LINES = 30
_START_SECONDS = 120.0
_END_SECONDS = 30.0


class OperatorMissing(RuntimeError):
    """The package hatchet-operator, whose operator a `LocalServer` runs, is not installed."""


class LocalServer:
    """An operator with its API server, as a context manager; workers run in this process.

        with LocalServer() as server, server.worker(Parent(), Child()):
            assert server.run("Parent", {"n": 3}) == {"spawn": {"results": …}}

    Args:
        payloads: Folder for inputs and outputs above 256 KiB; None: they are refused.

    Raises:
        OperatorMissing: The package hatchet-operator is not installed beside this one.
    """

    def __init__(self, *, payloads: str | PathLike[str] | None = None) -> None:
        if importlib.util.find_spec("hatchet_operator") is None:
            raise OperatorMissing(
                "a local server runs hatchet-operator, which is not installed in this environment; install it beside "
                "hatchet-operator-sdk (see docs/install.md), or test steps alone with hatchet_sdk.testing.FakeContext"
            )
        if payloads is not None and not isinstance(payloads, str | PathLike):
            raise TypeError(f"LocalServer: payloads is {payloads!r} (expected the path of a folder)")
        self._payloads = payloads
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._environment_file: Path | None = None
        self._is_ready = threading.Event()
        self.environment: Mapping[str, str] = {}
        """What a program needs in its environment to be a client of this server, as variables ``HATCHET_CLIENT_…``"""
        self.hatchet = Hatchet()
        """A client of this server."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "hatchet_operator", "dev"]
        if self._payloads is not None:
            command += ["--payloads", fspath(self._payloads)]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, args=(self._process,), name="hatchet-server-output", daemon=True).start()
        if not self._is_ready.wait(_START_SECONDS) or self._environment_file is None:
            self.__exit__()
            raise RuntimeError("hatchet-operator dev did not start; it said:\n" + "".join(self._said))
        self.environment = _exports(self._environment_file.read_text())
        self.hatchet = Hatchet(
            config=ClientConfig(
                host_port=self.environment["HATCHET_CLIENT_HOST_PORT"],
                token=self.environment["HATCHET_CLIENT_TOKEN"],
                tls_strategy="none",
                payloads=self.environment.get("HATCHET_CLIENT_PAYLOADS"),
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def worker(self, *workflows: object, max_runs: int | None = None) -> Iterator[None]:
        """Run a worker with these workflows during the block: its steps run in threads of this process.

        Args:
            workflows: Instances of decorated classes, whatever `Hatchet` object decorated them.
            max_runs: Attempts at a time.
        """
        self._refuse_unless_started("worker")
        worker = self.hatchet.worker("test", max_runs=max_runs)
        for workflow in workflows:
            worker.register_workflow(workflow)
        failed: list[BaseException] = []

        def start() -> None:
            try:
                worker.start()
            except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
                failed.append(error)

        thread = threading.Thread(target=start, name="hatchet-test-worker", daemon=True)
        thread.start()
        while not worker._registered.wait(0.05) and thread.is_alive():
            pass
        if failed:
            raise failed[0]
        try:
            yield
        finally:
            worker.stop()
            thread.join(_END_SECONDS)
        if failed:
            raise failed[0]
        if thread.is_alive():
            raise RuntimeError(f"the test's worker did not end within {_END_SECONDS:g} s: a step of it still runs")

    @overload
    def run(
        self,
        workflow_name: type[Workflow[InputT, ResultT]],
        input: InputT,
        *,
        options: TriggerWorkflowOptions | None = None,
        timeout: float = 60.0,
    ) -> ResultT: ...

    @overload
    def run(
        self,
        workflow_name: str,
        input: JsonObject | None = None,
        *,
        options: TriggerWorkflowOptions | None = None,
        timeout: float = 60.0,
    ) -> RunResult: ...

    def run(
        self,
        workflow_name: Any,
        input: Any = None,
        *,
        options: TriggerWorkflowOptions | None = None,
        timeout: float = 60.0,
    ) -> Any:
        """Run a workflow, named or given as its class, to its result: outputs by step name.

        Raises:
            WorkflowRunFailed: It failed; `errors` has the tracebacks.
            TimeoutError: It did not end within ``timeout`` seconds.
        """
        check_seconds(timeout, what="run: timeout")
        self._refuse_unless_started("run")
        ref = self.hatchet.admin.run_workflow(workflow_name, {} if input is None else input, options)
        return ref.sync_result(timeout)

    def _refuse_unless_started(self, call: str) -> None:
        if not self.environment:
            raise RuntimeError(
                f"LocalServer: {call} was called before the server was started (expected inside of "
                '"with LocalServer() as server:", or on the fixture hatchet_server)'
            )

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._said.append(line)
            if (found := _SAYS_WHERE.search(line)) is not None:
                self._environment_file = Path(shlex.split(found[1])[0])
                self._is_ready.set()
        process.stderr.close()
        self._is_ready.set()  # it ended


def _exports(text: str) -> dict[str, str]:
    """Parse lines of the form ``export NAME=value``."""
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for _, word in words)
