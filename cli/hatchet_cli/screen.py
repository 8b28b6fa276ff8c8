"""What is on the terminal (stderr): lines that stay, and below them one live drawing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_FRAMES_PER_SECOND = 10
_REST_TO_WORK = 20
_WIDTH_OF_FILES = 240  # a pipe has no width; nothing is cut there
_SAID_AFTER_SECONDS = 3.0  # what takes longer is named, if no live drawing shows it
_SAID_QUIETLY_AFTER_SECONDS = 30.0
_LOOK_SECONDS = 0.25


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """React to a reader that is gone as if the terminal had been closed."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        signal.raise_signal(signal.SIGHUP)


class Screen:
    """Draws on a terminal; where there is none, only the lines that stay are written.

    Args:
        quiet: Write nothing at all except the names of long waits; the result on stdout and the error are not written
            here.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.console = _Console(stderr=True, quiet=quiet, highlight=False)
        if not self.console.is_terminal:
            self.console.width = _WIDTH_OF_FILES
        self._is_live = self.console.is_terminal and not quiet
        self._draw: Callable[[], RenderableType] = Text
        self._live: Live | None = None
        self._held: list[RenderableType] | None = None  # what to write when the terminal is returned
        self._waits_for: str | None = None

    def show(self, draw: Callable[[], RenderableType]) -> None:
        """Make this the live drawing; it is redrawn ten times a second."""
        self._draw = draw
        self._waits_for = None
        self._draw_now()

    def show_status(self, words: str) -> None:
        """Make a spinner with these words the live drawing."""
        spinner = Spinner("dots", Text(words, "dim"), style="cyan")
        self._draw = lambda: spinner
        self._waits_for = words
        self._draw_now()

    def wait_for(self, words: str | None) -> None:
        """Name what is being waited for, beside the live drawing; None: nothing."""
        self._waits_for = words

    def print(self, *lines: RenderableType) -> None:
        """Write something that stays."""
        if self._held is not None:
            self._held += lines
            return
        for line in lines:
            if isinstance(line, Text) and line.no_wrap:
                self.console.print(line, no_wrap=True, overflow=line.overflow)
            else:
                self.console.print(line, soft_wrap=isinstance(line, Text))

    @staticmethod
    def plain(drawing: RenderableType) -> str:
        """Return a drawing as text."""
        console = Console(width=_WIDTH_OF_FILES, color_system=None)
        with console.capture() as capture:
            console.print(drawing, soft_wrap=True)
        return capture.get()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lend the terminal to others while the block runs; what is printed meanwhile comes after it."""
        live, self._live = self._live, None
        if live is not None:
            live.update(Text(), refresh=True)
            live.stop()
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if live is not None:
                live.start()
                self._live = live
            self.print(*held)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Show the live drawing while the block runs, and remove it at its end."""
        # Not rich's own thread: it would read objects that the event loop is changing.
        live = None
        if self._is_live:
            # A result that goes to a file or a pipe is no part of the drawing: rich would print it to the terminal.
            shares = sys.stdout.isatty()
            live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stdout=shares)
            live.start()
            self._live = live
        keeping = asyncio.create_task(self._keep_drawing() if live is not None else self._keep_saying())
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            if live is not None:
                live.update(Text(), refresh=True)
                live.stop()
                self._live = None

    def _draw_now(self) -> None:
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)

    async def _keep_drawing(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            started_at = now()
            self._draw_now()
            # The operator runs in this loop too, so a tree of thousands is drawn less often.
            await asyncio.sleep(max(1 / _FRAMES_PER_SECOND, _REST_TO_WORK * (now() - started_at)))

    async def _keep_saying(self) -> None:
        """Name waits that take long, once each."""
        now = asyncio.get_running_loop().time
        patience = _SAID_QUIETLY_AFTER_SECONDS if self.console.quiet else _SAID_AFTER_SECONDS
        waits_for, since, said = self._waits_for, now(), set[str]()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._waits_for != waits_for:
                waits_for, since = self._waits_for, now()
            elif waits_for is not None and waits_for not in said and now() - since >= patience:
                said.add(waits_for)
                _Console(stderr=True, highlight=False).print(Text(f"… {waits_for}"), soft_wrap=True)
