"""The local node: pods of the embedded API server as child processes, and nothing left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hatchet_operator.localnode.environment import expand
from hatchet_operator.localnode.process import CannotStart, Process
from hatchet_operator.localnode.status import next_back_off, should_restart

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
            import signal, sys, time
            def leave(*_):
                print("bye", flush=True)
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
        from hatchet_operator.localnode.process import Process
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
