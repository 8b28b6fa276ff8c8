"""What workers write: kept from the start, so that a failure can show it, and shown once it is wanted."""

import re
from collections import deque

from rich.text import Text

from hatchet_operator.dev.screen import Screen

_KEPT_LINES = 1000
_INVISIBLE = dict.fromkeys({*range(32), 127} - {ord("\t"), ord("\x1b")})  # a NUL makes a saved output binary
_ABOUT_ITSELF = re.compile(r" INFO hatchet_sdk: ")
"""The SDK's own news: registered, stops. The screen says so already."""


class WorkerOutput:
    """Lines of all pods of the pool.

    Args:
        screen: Where they are shown.
        held_back: Show nothing before `let_through`: what a worker says while it starts is of interest only when
            it fails, and is then shown with the failure.
    """

    def __init__(self, screen: Screen, *, held_back: bool) -> None:
        self._screen = screen
        self._held_back = held_back
        self._muted: set[str] = set()
        self._lines: dict[str, deque[str]] = {}

    def add(self, pod: str, line: str) -> None:
        self._lines.setdefault(pod, deque(maxlen=_KEPT_LINES)).append(line)
        if not self._held_back and pod not in self._muted and not _ABOUT_ITSELF.search(line):
            self._show(pod, line)

    def let_through(self) -> None:
        """Show lines from now on."""
        self._held_back = False

    def hold_back(self) -> None:
        """Show no lines from now on."""
        self._held_back = True

    def mute(self, pod: str) -> None:
        """Show no lines of this pod."""
        self._muted.add(pod)

    def unmute(self, pod: str) -> None:
        self._muted.discard(pod)

    def of(self, pod: str) -> str:
        """Return what a pod has written."""
        return "\n".join(self._lines.get(pod, ()))

    def _show(self, pod: str, line: str) -> None:
        prefix = f"{pod} │ " if len(self._lines) > 1 else "│ "
        self._screen.print(Text(prefix, "dim") + Text.from_ansi(line.translate(_INVISIBLE)))
