"""``breakpoint()`` in a step, run in the worker's process: it borrows the terminal that ``dev`` runs in.

The worker has no terminal of its own, and shares the machine's with other workers and the drawing of ``dev``. So at
each prompt it asks ``dev`` for it, and gives it back by closing the connection, however it ends. Standard library only.
"""

import contextlib
import io
import os
import pdb
import socket
import sys
from collections.abc import Iterator
from typing import Any

HOOK = f"{__name__}.set_trace"
"""Value of PYTHONBREAKPOINT."""

TERMINAL = "HATCHET_DEV_TERMINAL"
DOOR = "HATCHET_DEV_TERMINAL_DOOR"
"""Environment variables: the terminal's path; "port token" of who lends it."""

_has_said = False


def set_trace(*_: Any, **__: Any) -> None:
    """Stop where ``breakpoint()`` stands, or say why not."""
    global _has_said
    terminal = os.environ.get(TERMINAL)
    if terminal:
        _TerminalPdb(terminal).set_trace(sys._getframe().f_back)  # noqa: SLF001  # of Python, as bdb uses it
    elif not _has_said:
        _has_said = True
        sys.stderr.write(
            "breakpoint() is passed over: hatchet-operator dev was started without a terminal; "
            "use one, or --debug PORT and the debugger of an editor\n"
        )


class _TerminalPdb(pdb.Pdb):
    def __init__(self, path: str) -> None:
        # Not this process's controlling terminal, so no job control stands in the way.
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        reading, writing = os.fdopen(descriptor, "rb"), os.fdopen(os.dup(descriptor), "wb")
        super().__init__(
            stdin=io.TextIOWrapper(reading, "utf-8", "replace"),
            stdout=io.TextIOWrapper(writing, "utf-8", "replace", write_through=True),
            nosigint=True,  # a thread of a sync step can't handle signals; Ctrl-C ends `dev`
        )

    def interaction(self, *arguments: Any, **named: Any) -> None:
        with _terminal():
            super().interaction(*arguments, **named)


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    port, token = os.environ[DOOR].split()
    with socket.create_connection(("127.0.0.1", int(port))) as door:
        door.sendall(f"{token}\n".encode())
        door.recv(1)  # until it is our turn
        yield
