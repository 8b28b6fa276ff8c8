"""The standard streams, before anything else: a shell may have closed them (``>&-``)."""

import os
import sys


def open_closed_streams() -> None:
    """Open what of the standard streams is closed (``>&-``), for nothing.

    Otherwise a socket gets the number of the stream and whatever is printed, and libuv ends the process for it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
