"""Event loops whose time jumps to the next timer when nothing else is to do: minutes pass in milliseconds.

Where both ends of connections are in the loop, the kernel may take a moment to bring over what was sent, longer on a
busy machine, and to jump meanwhile to the timer that gives an answer up would be wrong. There the time goes on in small
jumps, each after a real moment in which nothing happens: some twenty times as quickly as it really does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

_MOMENT_SECONDS = 0.005
_JUMP_SECONDS = 0.1


class _JumpingSelector(selectors.DefaultSelector):
    """Adds to the loop's time what the loop would have slept."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits, and nobody for the time: a deadlock"
            self.now += timeout
        return events


class _HoppingSelector(_JumpingSelector):
    """Adds a little of it at a time, after a moment in which nothing came."""

    def select(self, timeout: float | None = None) -> Any:
        must_wait = timeout is None or timeout > 0
        events = selectors.DefaultSelector.select(self, _MOMENT_SECONDS if must_wait else 0)
        if not events and must_wait:
            # a little more, or by rounding it might not be time yet for one who looks at the clock, again and again
            self.now += min(_JUMP_SECONDS if timeout is None else timeout, _JUMP_SECONDS) + 1e-6
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Nothing in it may wait for another thread or process, which live in the real time.

    Args:
        with_connections: Both ends of connections are in it.

    Attributes:
        before_each: Called before each callback of the loop that is set from then on.
    """

    before_each: Callable[[], None] | None = None

    def __init__(self, *, with_connections: bool = False) -> None:
        self._jumping = _HoppingSelector() if with_connections else _JumpingSelector()
        self._began = datetime.now(UTC)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def call_soon(  # type: ignore[override]  # the callback's arguments are the caller's business
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return super().call_soon(self._announced(callback), *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, self._announced(callback), *args, context=context)

    def _announced(self, callback: Callable[..., object]) -> Callable[..., object]:
        if (before_each := self.before_each) is None:
            return callback

        def announced(*args: Any) -> None:
            before_each()
            callback(*args)

        return announced

    def skip(self, seconds: float) -> None:
        """Have time pass in which nothing of this process runs, as after SIGSTOP."""
        self._jumping.now += seconds

    def now(self) -> datetime:
        """Return the time of day as it is in the virtual time."""
        return self._began + timedelta(seconds=self.time())
