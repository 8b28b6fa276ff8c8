"""Cleans up what a forked process must not inherit from this package, before user code continues in the child.

`os.fork`, multiprocessing's "fork" and subprocess with a ``preexec_fn`` copy the process in the middle of whatever its
other threads do. The copy has none of those threads, but their locks as they were, the signal handlers, the running
event loop and gRPC's memory. So in the child: signals do what they did before the worker started, locks are new, the
loop executes nothing any more, and what gRPC left behind is never touched, not even to free it.

gRPC has fork handlers of its own. With calls in flight, as a worker always has, they do nothing but say so on
stderr, and the child sometimes dies of SIGSEGV (measured with 1.85: 1 of 15). They are switched off, by a variable
that gRPC reads when it is imported; that is why it is set here, with the first import of this package.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

log = logging.getLogger("hatchet_sdk")

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
if "grpc" not in sys.modules:
    os.environ.setdefault(FORK_SUPPORT, "0")
_forks_are_safe = os.environ.get(FORK_SUPPORT, "").lower() in ("0", "f", "false", "n", "no")

Handler = Callable[[int, FrameType | None], object]

_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
_previous: dict[signal.Signals, tuple[Handler, "signal._HANDLER"]] = {}
_step_loops: list[tuple[asyncio.AbstractEventLoop, int]] = []  # each with the thread it runs in
_in_thread = threading.local()
_connecting = threading.RLock()
_speaks_grpc = False


def install_handlers(handler: Handler, numbers: tuple[signal.Signals, ...]) -> None:
    """Handle signals in this process, and in none that is forked from it. Main thread only."""
    for number in numbers:
        _previous[number] = (handler, signal.signal(number, handler))


def restore_handlers() -> None:
    """Restore the previous handlers, unless others were installed meanwhile."""
    while _previous:
        number, (ours, before) = _previous.popitem()
        if signal.getsignal(number) is ours:
            signal.signal(number, signal.SIG_DFL if before is None else before)


def note_step_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Remember that steps are executed in this loop, in the current thread."""
    _step_loops.append((loop, threading.get_ident()))


def forget_step_loop(loop: asyncio.AbstractEventLoop) -> None:
    _step_loops.remove((loop, threading.get_ident()))


def is_step_loop(loop: asyncio.AbstractEventLoop) -> bool:
    return any(known is loop for known, _ in _step_loops)


def note_grpc() -> None:
    """Remember that this process uses gRPC, which no child of it can."""
    global _speaks_grpc
    _speaks_grpc = True


def connecting() -> "threading.RLock":
    """Return the lock for creating this process's client and I/O thread: each process has its own."""
    return _connecting


def end_forked_process(error: BaseException | None = None) -> NoReturn:
    """End a process that user code forked and returned in: a copy of a worker must not continue as one.

    It ends as a Python program does: exit code 0, that of a SystemExit, or 1 with the traceback on stderr.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    _end(code)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # there is nobody left to tell
            stream.flush()
    os._exit(code & 0xFF)


def _end_instead_of_awaiting() -> NoReturn:
    sys.stderr.write(
        f"hatchet_sdk: process {os.getpid()} was forked by an async step and awaits something of the worker's event "
        "loop, which it does not have (expected asyncio.run() of its own, or os._exit()); it ends\n"
    )
    _end(_EXIT_CODE)


def _before() -> None:
    global _forks_are_safe
    if _speaks_grpc and not _forks_are_safe:
        _forks_are_safe = True  # once is enough
        log.warning(
            "this process forks, and gRPC was imported before hatchet_sdk: children may die of SIGSEGV (import "
            "hatchet_sdk first, or set %s=0 in the environment)",
            FORK_SUPPORT,
        )
    # A signal between the fork and the change of handlers would be taken by ours, and lost.
    _in_thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, tuple(_previous)) if _previous else None


def _after_in_parent() -> None:
    _restore_mask()


def _after_in_child() -> None:
    global _connecting
    try:
        if _speaks_grpc:
            gc.freeze()  # channels and calls that were garbage already would wait for threads that are not here
        _connecting = threading.RLock()  # the thread that held it may not exist here to release it
        restore_handlers()
        _leave_step_loops()
    finally:
        _restore_mask()


def _restore_mask() -> None:
    if (mask := getattr(_in_thread, "mask", None)) is not None:
        _in_thread.mask = None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_step_loops() -> None:
    """Stop execution in the loop that forked, and keep our signals out of its parent's pipe."""
    if not _step_loops:
        return
    signal.set_wakeup_fd(-1)
    for loop, thread in _step_loops:
        if thread == threading.get_ident():
            asyncio.set_event_loop(None)
            for handle in getattr(loop, "_ready", ()):  # private: what is due in this turn, including other steps
                handle.cancel()
            loop.call_soon(_end_instead_of_awaiting)
    _step_loops.clear()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
