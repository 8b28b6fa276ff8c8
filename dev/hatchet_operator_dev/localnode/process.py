"""One command as a child process, under a shim that ends it when this process is gone."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Self

SHIM = Path(__file__).with_name("shim.py")
TAIL_LINES = 80  # what the kubelet keeps with FallbackToLogsOnError
_DRAIN_SECONDS = 2.0
_SAME_TIME_SECONDS = 0.001


class CannotStart(Exception):
    """The command is not there or not executable; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        exit_code: As a shell has it: 128 + n after signal n.
        signal: The signal that ended it, or None.
        tail: The last lines of its output.
    """

    exit_code: int
    signal: int | None
    tail: str

    @property
    def how(self) -> str:
        """Return the end in words: "exit code 1" or "signal SIGKILL"."""
        return f"exit code {self.exit_code}" if self.signal is None else f"signal {Signals(self.signal).name}"


class Process:
    """A command that runs; made by `start`."""

    def __init__(
        self, shim: asyncio.subprocess.Process, reports: asyncio.StreamReader, orders: asyncio.StreamWriter
    ) -> None:
        self.pid = 0
        self._shim = shim
        self._reports = reports
        self._orders = orders
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._ended: asyncio.Task[Ended] | None = None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path | None,
        log: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> Self:
        """Start a command.

        Args:
            command: Program and arguments.
            environment: All that the command sees.
            directory: Where it runs; None: where this process does.
            log: Its output is appended to this file; the times of lines go to one next to it, as "offset seconds".
            on_line: Called with each line of output.

        Raises:
            CannotStart: The program or the directory is not there, or the program is not executable.
        """
        _check_directory(directory)
        ours, theirs = socket.socketpair()
        output, output_end = os.pipe()
        with theirs, os.fdopen(output_end, "wb") as output_file:
            # -I -S: nothing of the environment and no site-packages, so that the shim starts in milliseconds
            shim = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(SHIM), *command),
                stdin=theirs.fileno(),
                stdout=output_file,
                stderr=output_file,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,  # Ctrl-C goes to the node, which ends its commands in order
            )
        reports, orders = await asyncio.open_connection(sock=ours)
        process = cls(shim, reports, orders)
        try:
            report = json.loads(await reports.readline() or b'{"failed": "its shim ended at once"}')
        except asyncio.CancelledError:
            orders.close()  # the end of the socket ends the shim, and the shim everything else
            os.close(output)
            await shim.wait()
            raise
        if "failed" in report:
            orders.close()
            os.close(output)
            await shim.wait()
            raise CannotStart(report["failed"])
        process.pid = report["started"]
        process._ended = asyncio.create_task(process._run_to_end(output, log, on_line))
        return process

    async def wait(self) -> Ended:
        """Return once the command and all that it started are gone, and its output is in the log."""
        assert self._ended is not None, "Process is made by start()"
        return await asyncio.shield(self._ended)

    async def end(self, grace_seconds: float) -> Ended:
        """Ask the command to end, and kill it with all that it started when the time is up or the caller cancelled."""
        try:
            self._order(b"T")
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            self._order(b"K")
            return await self.wait()
        except asyncio.CancelledError:
            self._order(b"K")
            raise

    def _order(self, order: bytes) -> None:
        if not self._orders.is_closing():
            self._orders.write(order)

    async def _run_to_end(self, output: int, log: Path, on_line: Callable[[str], None] | None) -> Ended:
        copying = asyncio.create_task(self._copy_output(output, log, on_line))
        try:
            report = await self._reports.readline()
        except ConnectionError:  # an order met a shim that had just ended
            report = b""
        # No report: the shim was killed, and the kernel killed its command.
        status = json.loads(report or b'{"exited": -9}')["exited"]
        self._orders.close()
        await self._shim.wait()
        # Only where there are no subreapers, or without the shim, can a descendant be left that keeps the pipe open.
        await asyncio.wait([copying], timeout=_DRAIN_SECONDS)
        copying.cancel()
        tail = "\n".join(self._tail)
        if status < 0:
            return Ended(exit_code=128 - status, signal=-status, tail=tail)
        return Ended(exit_code=status, signal=None, tail=tail)

    async def _copy_output(self, output: int, log: Path, on_line: Callable[[str], None] | None) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        rest = b""
        times = log.with_name(f"{log.name}.times")
        told_at = 0.0
        with (
            contextlib.closing(transport),
            log.open("ab", buffering=0) as file,
            times.open("a", buffering=1, encoding="ascii") as times_file,
        ):
            # Not readline(): it refuses lines over its buffer's limit.
            while chunk := await reader.read(65536):
                if (now := time.time()) - told_at > _SAME_TIME_SECONDS:
                    times_file.write(f"{file.tell()} {now:.6f}\n")
                    told_at = now
                file.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hand_on(line, on_line)
            if rest:
                self._hand_on(rest, on_line)

    def _hand_on(self, line: bytes, on_line: Callable[[str], None] | None) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        text = text[text.rfind("\r") + 1 :]  # of a progress bar, what a terminal shows in the end
        self._tail.append(text)
        if on_line is not None:
            on_line(text)


def _check_directory(directory: Path | None) -> None:
    if directory is not None and not directory.is_dir():
        raise CannotStart(f'working directory "{directory}" is not there')
