"""The only background thread in which this process uses gRPC.

grpc.aio wants a single event loop per process, and user code may block its own loop as long as it likes without
stopping heartbeats. So every call has one asynchronous body in the loop here and returns a
`concurrent.futures.Future`: sync callers block on it, async callers wrap it.
"""

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from hatchet_sdk._client import forks

T = TypeVar("T")

_EXIT_SECONDS = 2.0
_only: "IoThread | None" = None


class IoThread:
    """A daemon thread that runs an event loop until the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._home = os.getpid()
        forks.note_grpc()
        self._thread = threading.Thread(target=self.loop.run_forever, name="hatchet-io", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def submit(self, body: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run ``body`` in the loop; cancelling the future cancels it."""
        try:
            self.refuse_after_fork()
        except RuntimeError:
            body.close()
            raise
        return asyncio.run_coroutine_threadsafe(body, self.loop)

    def refuse_after_fork(self) -> None:
        """Raise in a process that was forked: the thread does not exist there, and gRPC does not survive a fork."""
        if os.getpid() != self._home:
            raise RuntimeError(
                "this process was forked from one that had spoken to hatchet-operator, which its connection does not "
                'survive; start processes with multiprocessing.set_start_method("spawn"), or before the first call'
            )

    def _stop(self) -> None:
        """Close what is open before the interpreter exits, so that nothing complains about a loop that vanished."""
        if os.getpid() != self._home:
            return

        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=_EXIT_SECONDS)
            self.loop.call_soon(self.loop.stop)

        self.submit(cancel_all())
        self._thread.join(2 * _EXIT_SECONDS)


def io_thread() -> IoThread:
    """Return the process's I/O thread, started on first use."""
    global _only
    with forks.connecting():
        if _only is None:
            _only = IoThread()
        return _only


class Mailbox(Generic[T]):
    """Passes items from any thread to the I/O loop: many items, one wake-up, in order."""

    def __init__(self, io: IoThread, deliver: Callable[[list[T]], None]) -> None:
        self._io = io
        self._deliver = deliver
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, *items: T) -> None:
        """Pass items on at once."""
        self._io.refuse_after_fork()
        self._items.extend(items)
        self._wake()

    def put_with_others(self, *items: T) -> None:
        """Pass items on after the caller's event loop has let its other tasks put theirs."""
        self._io.refuse_after_fork()
        self._items.extend(items)
        asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        if self._items and not self._woken:
            self._woken = True
            self._io.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._woken = False  # before emptying: a put from now on wakes the loop again
        items = [self._items.popleft() for _ in range(len(self._items))]
        if items:
            self._deliver(items)


def settle(future: "Future[T]", result: "T | BaseException") -> None:
    """Give a future its result or error, unless nobody waits for it any more."""
    if future.done() or not future.set_running_or_notify_cancel():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
