"""``hatchet-operator dev`` on a terminal of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Self

import pexpect
import psutil
import pytest

from tests.integration.test_dev import ENDS_WITHIN_SECONDS, write

LOOKING = """
    import time
    from hatchet_sdk import Context, Hatchet

    hatchet = Hatchet()

    @hatchet.workflow()
    class Look:
        @hatchet.step(timeout="2s")
        async def go(self, context: Context):
            secret = 41
            breakpoint()
            return {"n": secret + 1}

        @hatchet.step(timeout="2s", parents=["go"])
        def in_a_thread(self, context: Context):
            other = 5
            breakpoint()
            return {"n": other}

    @hatchet.workflow()
    class Sleep:
        @hatchet.step(timeout="10m")
        def go(self, context: Context):
            print("sleeping now")
            time.sleep(600)

    worker = hatchet.worker("look")
    worker.register_workflow(Look())
    worker.register_workflow(Sleep())
    worker.start()
"""


@pytest.fixture(autouse=True)
def _state_directories_are_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "state"))


def on_a_terminal(directory: Path, *arguments: str | Path) -> pexpect.spawn[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HATCHET_CLIENT_")}
    return pexpect.spawn(
        sys.executable,
        ["-m", "hatchet_operator", "dev", *map(str, arguments)],
        cwd=str(directory),
        env={**ours, "TERM": "xterm", "NO_COLOR": "1"},
        encoding="utf-8",
        timeout=ENDS_WITHIN_SECONDS,
        dimensions=(50, 200),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Adapter:
    """What an editor does to attach: the Debug Adapter Protocol, as far as that needs it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0

    def __enter__(self) -> Self:
        deadline = time.monotonic() + ENDS_WITHIN_SECONDS
        while True:  # it is said a moment before the port is open
            try:
                self._socket = socket.create_connection(("127.0.0.1", self._port), ENDS_WITHIN_SECONDS)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "nobody listens"
                time.sleep(0.1)
        self._file = self._socket.makefile("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def request(self, command: str, arguments: dict[str, object], *, answered: bool = True) -> None:
        self._number += 1
        body = json.dumps({"seq": self._number, "type": "request", "command": command, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        if answered:
            self.wait_for(command)

    def wait_for(self, name: str) -> None:
        """Wait for the answer to a command, or an event."""
        while True:
            length = int(self._file.readline().removeprefix(b"Content-Length: "))
            self._file.readline()
            message = json.loads(self._file.read(length))
            if name in (message.get("command"), message.get("event")):
                assert message.get("success", True), message
                return


def end_of(process: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Wait for the end; return the exit code and what was written since the last text that was expected."""
    process.expect(pexpect.EOF)
    process.close()
    return process.exitstatus, str(process.before)


def test_breakpoint_gets_the_terminal_and_stops_the_clock(tmp_path: Path) -> None:
    worker = write(tmp_path / "worker.py", LOOKING)
    dev = on_a_terminal(tmp_path, worker, "--run", "Look")
    dev.expect_exact("(Pdb) ")
    dev.sendline("import time; time.sleep(3.5)")  # more than the step's timeout and its grace
    dev.expect_exact("(Pdb) ")
    dev.sendline("p secret + 59")
    dev.expect_exact("100")
    dev.expect_exact("(Pdb) ")
    dev.sendline("c")
    dev.expect_exact("(Pdb) ")
    dev.sendline("p other * 40")
    dev.expect_exact("200")
    dev.expect_exact("(Pdb) ")
    dev.sendline("c")
    exit_code, written = end_of(dev)
    assert exit_code == 0, written
    assert '"go": {"n": 42}, "in_a_thread": {"n": 5}' in written


def test_quitting_the_prompt_fails_the_step(tmp_path: Path) -> None:
    dev = on_a_terminal(tmp_path, write(tmp_path / "worker.py", LOOKING), "--run", "Look")
    dev.expect_exact("(Pdb) ")
    dev.sendline("q")
    exit_code, written = end_of(dev)
    assert exit_code == 1
    assert "BdbQuit" in written


def test_who_interrupts_a_running_step_is_told_what_is_waited_for(tmp_path: Path) -> None:
    dev = on_a_terminal(tmp_path, write(tmp_path / "worker.py", LOOKING), "--run", "Sleep")
    dev.expect_exact("sleeping now")
    dev.sendintr()
    dev.expect(r"ending: steps of 1 unfinished run \(sleep-\w+\) have a few seconds to finish; Ctrl-C again ends them")
    exit_code, written = end_of(dev)
    assert exit_code == 128 + signal.SIGINT
    assert re.search(r"Sleep +sleep-\w+", re.sub(r"\x1b\[[\d;]*m", "", written)), "the tree stays as it was"
    assert list((tmp_path / "state").iterdir()) == []


def test_a_debugger_is_waited_for(tmp_path: Path) -> None:
    """As an editor attaches; without one it would wait for ever."""
    worker = write(tmp_path / "worker.py", LOOKING.replace("breakpoint()", "pass"))
    port = _free_port()
    dev = on_a_terminal(tmp_path, worker, "--run", "Look", "--debug", str(port))
    dev.expect_exact(f"waits for a debugger at 127.0.0.1:{port}")
    with _Adapter(port) as adapter:
        adapter.request("initialize", {"adapterID": "test"})
        adapter.request("attach", {"justMyCode": True}, answered=False)
        adapter.wait_for("initialized")
        adapter.request("configurationDone", {})
        exit_code, written = end_of(dev)
    assert exit_code == 0, written
    assert '"go": {"n": 42}' in written


def test_bash_completes(tmp_path: Path) -> None:
    binary = Path(sys.executable).with_name("hatchet-operator")
    script = f"""
        PATH={shlex.quote(str(binary.parent))}:$PATH
        source <(hatchet-operator completion bash)
        complete -p hatchet-operator
        COMP_WORDS=(hatchet-operator de) COMP_CWORD=1
        _hatchet_operator_completion hatchet-operator; echo "words: ${{COMPREPLY[*]}}"
        COMP_WORDS=(hatchet-operator dev --work) COMP_CWORD=2
        _hatchet_operator_completion hatchet-operator; echo "options: ${{COMPREPLY[*]}}"
    """
    bash = pexpect.spawn("bash", ["-c", script], encoding="utf-8", timeout=ENDS_WITHIN_SECONDS)
    exit_code, written = end_of(bash)
    assert exit_code == 0, written
    assert "words: dev" in written
    assert "options: --workers" in written


@pytest.mark.parametrize(
    ("shell", "variables", "want"),
    [
        pytest.param("zsh", {"_TYPER_COMPLETE_ARGS": "hatchet-operator de"}, '"dev"', id="zsh"),
        pytest.param(
            "fish",
            {"_TYPER_COMPLETE_ARGS": "hatchet-operator de", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "dev",
            id="fish",
        ),
    ],
)
def test_other_shells_are_answered(shell: str, variables: dict[str, str], want: str) -> None:
    binary = str(Path(sys.executable).with_name("hatchet-operator"))
    script = str(pexpect.run(f"{binary} completion {shell}", encoding="utf-8", timeout=ENDS_WITHIN_SECONDS))
    assert f"_HATCHET_OPERATOR_COMPLETE=complete_{shell}" in script
    environment = {**os.environ, **variables, "_HATCHET_OPERATOR_COMPLETE": f"complete_{shell}"}
    environment = {name: value for name, value in environment.items() if isinstance(value, str)}
    written = pexpect.run(binary, env=environment, encoding="utf-8", timeout=ENDS_WITHIN_SECONDS)
    assert want in str(written)


def test_no_process_keeps_the_terminal(tmp_path: Path) -> None:
    dev = on_a_terminal(tmp_path, write(tmp_path / "worker.py", LOOKING), "--run", "Look")
    dev.expect_exact("(Pdb) ")
    family = psutil.Process(dev.pid).children(recursive=True)
    assert family
    dev.sendintr()
    dev.sendintr()
    end_of(dev)
    _, alive = psutil.wait_procs(family, 20)
    assert [one.cmdline() for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
