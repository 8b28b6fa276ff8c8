"""Text on its way to become a line: what counts of it once a carriage return replaced it. No effects but its own."""

import json
import time


class UnfinishedLine:
    """What was written to a stream since the end of its last line.

    A carriage return is what it is on a terminal: what comes next replaces the line.

    Args:
        redrawn_seconds: How often one that replaces itself is due before it is done.
    """

    def __init__(self, redrawn_seconds: float) -> None:
        self._redrawn_seconds = redrawn_seconds
        self.length = 0
        self._parts: list[str] = []
        self._is_replaced = False  # by whatever comes next
        self._seen_at: float | None = None  # for lines that replace themselves

    def add(self, text: str) -> None:
        """Append text without a newline."""
        if self._is_replaced:
            self._clear()
        if "\r" in text:
            if self._seen_at is None:
                self._seen_at = time.monotonic()
            self._is_replaced = text[-1] == "\r"
            if "\r" in text.rstrip("\r"):
                self._parts.clear()
                self.length = 0
            text = last_drawn(text)
        self._parts.append(text)
        self.length += len(text)

    def shown(self) -> str:
        return "".join(self._parts)

    def take(self) -> str:
        """Return the text and begin a new line."""
        text = self.shown()
        self._clear()
        self._seen_at = None
        return text

    def is_due(self) -> bool:
        """Return whether a line that replaces itself has not been written for long; then it counts as written."""
        if self._seen_at is None or time.monotonic() - self._seen_at < self._redrawn_seconds:
            return False
        self._seen_at = time.monotonic()
        return True

    def _clear(self) -> None:
        self._parts.clear()
        self.length = 0
        self._is_replaced = False


def last_drawn(line: str) -> str:
    """Return what was written after the carriage returns within a line."""
    if "\r" not in line:
        return line
    line = line.rstrip("\r")
    return line[line.rfind("\r") + 1 :]


def is_json(line: str) -> bool:
    if line[1:].lstrip()[:1] not in ('"', "}"):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
