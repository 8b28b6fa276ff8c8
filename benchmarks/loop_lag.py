"""How long an event loop did nothing but one thing: a timer that notes how late it is called."""

import asyncio
import time
from pathlib import Path

_EVERY_SECONDS = 0.002
_NOTED_SECONDS = 0.005


def note_lag(file: Path) -> None:
    """Append "MOMENT SECONDS" to a file for each delay of the running loop, by the machine's monotonic clock."""
    loop = asyncio.get_running_loop()
    out = file.open("a", buffering=1)

    def look(due: float) -> None:
        now = loop.time()
        if now - due > _NOTED_SECONDS:
            out.write(f"{time.monotonic():.6f} {now - due:.6f}\n")
        again = loop.time() + _EVERY_SECONDS
        loop.call_at(again, look, again)

    look(loop.time())


def longest_lag(file: Path, *, since: float) -> float:
    """Return the longest delay since a moment, in seconds; what is shorter than 5 ms counts as none."""
    lines = (line.split() for line in file.read_text().splitlines())
    return max((float(lag) for moment, lag in lines if float(moment) >= since), default=0.0)
