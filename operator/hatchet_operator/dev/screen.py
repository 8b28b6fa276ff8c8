"""What is on the terminal (stderr): lines that stay, and below them one thing that lives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_FRAMES_PER_SECOND = 10
_REST_TO_WORK = 20
_WIDTH_OF_FILES = 240  # a pipe has no width; nothing is cut there


class Screen:
    """Draws on a terminal; where there is none, only the lines that stay are written.

    Args:
        quiet: Write nothing at all; the result on stdout and the error are not this one's.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        if not self.console.is_terminal:
            self.console.width = _WIDTH_OF_FILES
        self._is_live = self.console.is_terminal and not quiet
        self._draw: Callable[[], RenderableType] = Text

    def show(self, draw: Callable[[], RenderableType]) -> None:
        """Let this be the thing that lives; it is drawn again ten times a second."""
        self._draw = draw

    def show_status(self, words: str) -> None:
        """Let a spinner with these words be the thing that lives."""
        spinner = Spinner("dots", Text(words, "dim"), style="cyan")
        self._draw = lambda: spinner

    def print(self, *lines: RenderableType) -> None:
        """Write something that stays."""
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

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Draw the thing that lives while the block runs, and take it away at its end."""
        if not self._is_live:
            yield
            return
        # No thread of rich's: it would read objects that the event loop is changing.
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            drawing = asyncio.create_task(self._keep_drawing(live))
            try:
                yield
            finally:
                drawing.cancel()
                with suppress(asyncio.CancelledError):
                    await drawing
                live.update(Text(), refresh=True)

    async def _keep_drawing(self, live: Live) -> None:
        now = asyncio.get_running_loop().time
        while True:
            started_at = now()
            live.update(self._draw(), refresh=True)
            # The operator lives in this loop too: a tree of thousands is drawn less often.
            await asyncio.sleep(max(1 / _FRAMES_PER_SECOND, _REST_TO_WORK * (now() - started_at)))
