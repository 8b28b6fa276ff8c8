"""Who looks into a step has time: one prompt at a time gets the terminal, and clocks stand still."""

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from hatchet_cli.screen import Screen
from hatchet_operator_dev.in_worker import DOOR, HOOK, TERMINAL

_TICK_SECONDS = 0.2
_AHEAD = timedelta(seconds=1)  # more than a tick, also on a busy machine


class Debugging:
    """Lends the terminal to steps at a breakpoint.

    Args:
        screen: Draws nothing while a step is being debugged.
        always: Attempts have no timeout at all: a debugger may hold the worker at any time.
    """

    def __init__(self, screen: Screen, *, always: bool) -> None:
        self._screen = screen
        self._always = always
        self._token = secrets.token_urlsafe(16)
        self._port = 0
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._any_waiting = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen for workers while the block runs."""
        server = await asyncio.start_server(self._lend, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    def environment(self) -> dict[str, str]:
        """Return the variables by which workers find the terminal, if there is one."""
        if self._always or "PYTHONBREAKPOINT" in os.environ:
            return {}
        found = {"PYTHONBREAKPOINT": HOOK}
        if self._screen.console.is_terminal and sys.stderr.isatty():
            found |= {TERMINAL: os.ttyname(sys.stderr.fileno()), DOOR: f"{self._port} {self._token}"}
        return found

    async def hold_clocks(self, let_run_longer: Callable[[timedelta], None]) -> None:
        """Keep extending all deadlines while a step is being debugged; never returns."""
        now = asyncio.get_running_loop().time
        while True:
            if not self._always:
                await self._any_waiting.wait()
            seen_at = now()
            let_run_longer(_AHEAD)
            while self._always or self._waiting:
                await asyncio.sleep(_TICK_SECONDS)
                elapsed, seen_at = now() - seen_at, now()
                let_run_longer(timedelta(seconds=elapsed))

    async def _lend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            if not secrets.compare_digest((await reader.readline()).strip(), self._token.encode()):
                return
            self._waiting += 1
            self._any_waiting.set()
            try:
                async with self._turn:
                    with self._screen.lent():
                        writer.write(b"!")
                        await reader.read()  # until it is given back
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._any_waiting.clear()
