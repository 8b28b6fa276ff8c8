"""The standard streams, before anything else: a shell may have closed them (``>&-``), a locale narrowed them."""

import codecs
import os
import sys

_ESCAPES = "hatchet-escapes"


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


def escape_what_streams_cannot_write() -> None:
    """Write characters that the encoding of a stream lacks (``LANG=C``, ``PYTHONIOENCODING``) as JSON writes them."""
    codecs.register_error(_ESCAPES, _escaped)
    for name in ("stdout", "stderr"):
        if callable(change := getattr(getattr(sys, name), "reconfigure", None)):  # not of what a test put there
            change(errors=_ESCAPES)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end
