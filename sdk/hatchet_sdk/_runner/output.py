"""What steps print: each line that they print or log gets the mark of its attempt, and whole lines are written at once.

    print(), logging's handlers ──► write() of sys.stdout, sys.stderr ──► is a step at work here? ──► marked line
    context.log ───────────────────────────────────────────────────────────────────────────────────► marked line

While a worker runs, the ``write`` of the process's text streams is ours. The streams themselves stay, since handlers of
``logging`` and other libraries refer to them from the time when the program was set up. A context variable says which
attempt is running; a thread that a step starts, and a function that it gives to a ThreadPoolExecutor, belong to the
step until it has ended. What no attempt wrote passes unchanged.

`context.log` is output, not logging: it goes to what was the process's standard output when the worker
began, however the program changes logging, ``sys.stdout`` or descriptor 1.
"""

import functools
import io
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TextIO

from hatchet_sdk._client.tracing import current_ids, traceparent_of
from hatchet_sdk._runner.unfinished_line import UnfinishedLine, is_json, last_drawn
from hatchet_sdk.contracts.step_lines import mark_of, start_of_json, start_of_text

LONGEST_PART = 1024 * 1024  # of a line without an end
_current: "ContextVar[StepOutput | None]" = ContextVar("hatchet_step_output", default=None)
_lock = threading.RLock()  # reentrant: a signal handler may print in the middle of a print
_forks = 0
_installed: "_Installed | None" = None
_installs = 0


class StepOutput:
    """The output of one attempt.

    Args:
        run: Name of the run.
        step: Name of the step.
        attempt: Number of the attempt, from 1.
        redrawn_seconds: How often a line that replaces itself, such as a progress bar, is written before it is done.
    """

    def __init__(self, run: str, step: str, attempt: int, *, redrawn_seconds: float = 5.0) -> None:
        self.run = run
        self.step = step
        self.attempt = attempt
        self.traceparent: str | None = None  # of its span
        self._redrawn_seconds = redrawn_seconds
        self._mark = mark_of(run, step, attempt)
        self._rests: dict[_Stream, UnfinishedLine] = {}
        self._forks = _forks
        self.has_ended = False

    def begin(self) -> None:
        """Capture what is printed and logged in the current context from now on."""
        _current.set(self)

    def end(self) -> None:
        """Write what has no newline yet, and capture nothing more."""
        self.has_ended = True
        self.flush()

    def log(self, text: str) -> None:
        """Write lines that nothing can hide."""
        lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
        data = "".join([self._marked(line) for line in lines.split("\n")])
        with _lock:
            if _installed is not None:
                _installed.write_log(data)
            else:  # a context without a worker, as in a test of a step
                sys.stdout.write(data)

    def add(self, stream: "_Stream", text: str) -> None:
        """Add what was written to a stream; lines are passed on when they are complete."""
        with _lock:
            rest = self._rests.get(stream)
            if rest is None or self._forks != _forks:
                rest = self._rest_of(stream)
            first, newline, others = text.partition("\n")
            if first:
                rest.add(first)
            if not newline:
                if rest.length > LONGEST_PART:
                    stream.write_marked(self._marked(rest.take()))
                elif rest.is_due():
                    stream.write_marked(self._marked(rest.shown()))
                return
            data = self._marked(rest.take())
            if others:
                *lines, last = others.split("\n")
                data = "".join([data, *(self._marked(last_drawn(line)) for line in lines)])
                if last:
                    rest.add(last)
            stream.write_marked(data)

    def flush(self) -> None:
        """Write what has no newline yet."""
        with _lock:
            if self._forks == _forks:
                for stream, rest in self._rests.items():
                    self._write_rest(stream, rest)
            self._rests.clear()

    def flush_in_fork(self, stream: "_Stream") -> None:
        """Write what has no newline yet, in a process that was forked: its end is not announced."""
        with _lock:
            if self._forks == _forks and (rest := self._rests.get(stream)) is not None:
                self._write_rest(stream, rest)

    def _rest_of(self, stream: "_Stream") -> "UnfinishedLine":
        if self._forks != _forks:  # what was begun before the fork is the other process's to write
            self._rests.clear()
            self._forks = _forks
        return self._rests.setdefault(stream, UnfinishedLine(self._redrawn_seconds))

    def _write_rest(self, stream: "_Stream", rest: "UnfinishedLine") -> None:
        if (text := rest.take()).strip():
            stream.write_marked(self._marked(text))

    def _marked(self, line: str) -> str:
        ids = current_ids(self.traceparent) if self.traceparent is not None else None
        if line[:1] == "{" and line[-1:] == "}" and is_json(line):
            more = line[1:].lstrip()
            return f"{start_of_json(self._mark, ids)}{'' if more[0] == '}' else ', '}{more}\n"
        return f"{start_of_text(self._mark, ids)}{line}\n"


_NOBODY = StepOutput("", "", 0)
_NOBODY.has_ended = True


def _do_nothing() -> None:
    pass


def current() -> StepOutput | None:
    """Return the output of the attempt that is running here."""
    output = _current.get()
    if output is None:
        output = getattr(threading.current_thread(), "hatchet_step_output", None)
    return None if output is None or output.has_ended else output


class _Stream:
    """A text stream of the process, whose ``write`` and ``flush`` are ours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._write, self._flush = stream.write, getattr(stream, "flush", _do_nothing)
        self._is_clean = False  # whether nothing unmarked waits in its buffers
        self._descriptor: int | None = None
        # A program's own class may do more with text than write it to the descriptor that it names.
        if getattr(type(stream), "write", None) is io.TextIOWrapper.write:
            with suppress(OSError, ValueError):
                self._descriptor = stream.fileno()
        # Attributes of the instance, which its class knows nothing of; print() and logging find them like any other.
        stream.write = self.write  # type: ignore[method-assign]
        stream.flush = self.flush  # type: ignore[method-assign]

    def restore(self) -> None:
        for name in ("write", "flush"):
            if vars(self._stream).get(name) == getattr(self, name):  # otherwise somebody has put another over ours
                delattr(self._stream, name)

    def write(self, text: str, /) -> int:
        output = current()
        if output is None or not isinstance(text, str) or getattr(self._stream, "closed", False):
            self._is_clean = False
            return self._write(text)
        if text:
            output.add(self, text)
        return len(text)

    def flush(self) -> None:
        if not self._is_clean:
            self._flush()
        if _forks and (output := current()) is not None:
            output.flush_in_fork(self)

    def write_marked(self, text: str) -> None:
        if self._descriptor is None:
            _call_in(_NOBODY, self._write, text)  # which may write to another of these streams
            return
        self.pass_on()
        _write_all(self._descriptor, text)

    def pass_on(self) -> None:
        """Write what waits in the stream's buffers, which came first."""
        if not self._is_clean:
            with suppress(OSError, ValueError):  # nobody reads it any more, or it was closed
                self._flush()
            self._is_clean = True


def _write_all(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            data = data[written:]
            written = os.write(descriptor, data)
    except BlockingIOError:
        select.select([], [descriptor], [])
        _write_all(descriptor, text)
    except OSError:
        # Nobody reads it any more. A plain print would raise that in the step, which has nothing to do with it.
        return


class _Installed:
    """What is changed in this process while a worker runs."""

    def __init__(self) -> None:
        self._joined = _join_streams()
        try:
            self._log_to: int | None = os.dup(1)
            os.set_inheritable(self._log_to, False)
        except OSError:
            self._log_to = None
        candidates = {id(stream): stream for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}
        self._streams = [
            _Stream(stream)
            for stream in candidates.values()
            if stream is not None and hasattr(stream, "__dict__")  # one of somebody's slots stays as it is
        ]
        self._undo = [
            _replace(threading.Thread, "start", _starting_thread),
            _replace(ThreadPoolExecutor, "submit", _submitting),
            _replace(logging.Handler, "handle", _handling),
            _name_steps_in_records(),
        ]

    def write_log(self, data: str) -> None:
        if self._log_to is not None:
            for stream in self._streams:
                stream.pass_on()
            _write_all(self._log_to, data)

    def restore(self) -> None:
        for undo in self._undo:
            undo()
        for stream in self._streams:
            stream.restore()
        if self._log_to is not None:
            os.close(self._log_to)
        if self._joined is not None:
            os.dup2(self._joined, 2)
            os.close(self._joined)


def install() -> Callable[[], None]:
    """Begin to mark what steps print; return a function that ends it. Several workers of a process may call it."""
    global _installed, _installs
    with _lock:
        if _installed is None:
            _installed = _Installed()
        _installs += 1

    def uninstall() -> None:
        global _installed, _installs
        with _lock:
            _installs -= 1
            if _installs == 0 and _installed is not None:
                _installed.restore()
                _installed = None

    return uninstall


def _join_streams() -> int | None:
    """In a pod, redirect standard error to standard output: two pipes would not keep the order of a step's lines.

    Returns:
        A descriptor of the previous standard error; None: nothing was changed.
    """
    if not os.environ.get("HATCHET_POD_NAME"):
        return None
    try:
        out, error = os.fstat(1), os.fstat(2)
        if (out.st_dev, out.st_ino) == (error.st_dev, error.st_ino):
            return None
        before = os.dup(2)
        os.dup2(1, 2)
    except OSError:  # one of them is closed
        return None
    return before


def _replace(owner: type, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    before = getattr(owner, name)
    ours = functools.wraps(before)(make(before))
    setattr(owner, name, ours)

    def undo() -> None:
        if getattr(owner, name) is ours:
            setattr(owner, name, before)

    return undo


def _starting_thread(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start_as_part_of_step(thread: threading.Thread) -> None:
        if (output := current()) is not None:
            thread.hatchet_step_output = output  # type: ignore[attr-defined]
        start(thread)

    return start_as_part_of_step


def _submitting(submit: Callable[..., Any]) -> Callable[..., Any]:
    def submit_as_part_of_step(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
        if (output := current()) is not None:  # the pool's threads may serve other steps next
            return submit(pool, _call_in, output, function, *args, **kw)
        return submit(pool, function, *args, **kw)

    return submit_as_part_of_step


def _call_in(output: StepOutput, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Any:
    token = _current.set(output)
    try:
        return function(*args, **kw)
    finally:
        _current.reset(token)


def _name_steps_in_records() -> Callable[[], None]:
    """Let each record of ``logging`` name its attempt and its trace; None for what it has not."""
    before = logging.getLogRecordFactory()

    def make_record(*args: Any, **kw: Any) -> logging.LogRecord:
        record = before(*args, **kw)
        output = current()
        if output is None:
            record.hatchet_run = record.hatchet_step = record.hatchet_attempt = None
            record.hatchet_trace = record.hatchet_span = None
        else:
            record.hatchet_run, record.hatchet_step, record.hatchet_attempt = output.run, output.step, output.attempt
            ids = current_ids(output.traceparent)
            record.hatchet_trace, record.hatchet_span = ids if ids is not None else (None, None)
        return record

    logging.setLogRecordFactory(make_record)

    def undo() -> None:
        if logging.getLogRecordFactory() is make_record:
            logging.setLogRecordFactory(before)

    return undo


def _handling(handle: Callable[[logging.Handler, logging.LogRecord], Any]) -> Callable[..., Any]:
    """Wrap a handler so that a record written later, by another thread, still belongs to its own step."""

    def handle_as_part_of_step(handler: logging.Handler, record: logging.LogRecord) -> Any:
        run = getattr(record, "hatchet_run", None)
        if run is None:
            return handle(handler, record)
        output, step, attempt = current(), record.hatchet_step, record.hatchet_attempt  # type: ignore[attr-defined]
        if output is not None and (output.run, output.step, output.attempt) == (run, step, attempt):
            return handle(handler, record)
        waited = StepOutput(run, step, attempt)
        waited.traceparent = traceparent_of(record.hatchet_trace, record.hatchet_span)  # type: ignore[attr-defined]
        try:
            return _call_in(waited, handle, handler, record)
        finally:
            waited.flush()

    return handle_as_part_of_step


def _after_fork() -> None:
    global _forks, _lock
    _lock = threading.RLock()
    _forks += 1


# A forked process continues marking, without the lock that may be held by a thread that does not exist there.
os.register_at_fork(after_in_child=_after_fork)
