"""What workers write: shown as it comes, each line with who wrote it, and kept, so that a failure can show it.

    etl-7 load#2 | what a step said        as `hatchet-operator logs --children` shows it
    worker | the rest                      or the pod's name, where there are several

A script tells these lines from the drawing by their "|", where the drawing's lines are drawn.
"""

import re
from collections import deque

from rich.text import Text

from hatchet_cli.screen import Screen
from hatchet_operator import terminal
from hatchet_operator.run_logs.lines import with_colours
from hatchet_sdk.contracts.step_lines import read_line

_KEPT_LINES = 1000
_ABOUT_ITSELF = re.compile(r" INFO hatchet_sdk: ")
"""The SDK's own news: registered, stops. The screen says so already."""


class WorkerOutput:
    """Lines of all pods of the pool."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._held_back = False
        self._muted: set[str] = set()
        self._lines: dict[str, deque[str]] = {}

    def add(self, pod: str, line: str) -> None:
        self._lines.setdefault(pod, deque(maxlen=_KEPT_LINES)).append(line)
        if (
            not (self._held_back or self._screen.console.quiet)
            and pod not in self._muted
            and not _ABOUT_ITSELF.search(line)
        ):
            self._show(pod, line)

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

    def not_shown(self, pod: str) -> str:
        """Return what a pod has written, for an error to show where the screen shows nothing."""
        return self.of(pod) if self._screen.console.quiet else ""

    def _show(self, pod: str, line: str) -> None:
        of_step = read_line(line)
        rest = line if of_step is None else of_step.before
        if rest or of_step is None:
            self._print(pod if len(self._lines) > 1 else "worker", rest)
        if of_step is not None:
            self._print(f"{of_step.run} {terminal.one_line(of_step.step)}#{of_step.attempt}", of_step.text)

    def _print(self, who: str, text: str) -> None:
        self._screen.print(Text(f"{who} | ", "dim") + Text.from_ansi(with_colours(text)))
