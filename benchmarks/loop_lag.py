"""How long an event loop did nothing but one thing: a timer that notes how late it is called.

Late by the clock, and by the CPU that the thread of the loop used meanwhile: where others work on the same machine,
that is what the loop itself is to blame for.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 0.002
_NOTED_SECONDS = 0.003


@dataclass(frozen=True, kw_only=True)
class Lag:
    """The longest delays in a while, in seconds; none is said of less than 3 ms."""

    clock: float = 0.0
    cpu: float = 0.0


def note_lag(file: Path) -> None:
    """Append "MOMENT SECONDS CPU-SECONDS" to a file for each delay of the running loop, by the machine's clock."""
    loop = asyncio.get_running_loop()
    out = file.open("a", buffering=1)

    def look(due: float, cpu_before: float) -> None:
        late, cpu = loop.time() - due, time.thread_time()
        if max(late, cpu - cpu_before) > _NOTED_SECONDS:
            out.write(f"{time.monotonic():.6f} {late:.6f} {cpu - cpu_before:.6f}\n")
        again = loop.time() + _EVERY_SECONDS
        loop.call_at(again, look, again, time.thread_time())

    look(loop.time(), time.thread_time())


def longest_lag(file: Path, *, since: float) -> Lag:
    """Return the longest delays since a moment."""
    lines = [[float(word) for word in line.split()] for line in file.read_text().splitlines()]
    found = [(late, cpu) for moment, late, cpu in lines if moment >= since]
    return Lag(clock=max((late for late, _ in found), default=0.0), cpu=max((cpu for _, cpu in found), default=0.0))
