"""A text that somebody gives to a command: itself, a file or stdin.

An editor of Windows may begin a file with a byte order mark, which says nothing in UTF-8.
"""

import sys
from pathlib import Path


class UnreadableError(ValueError):
    """A file can't be read, or is no text."""


def read_given(said: str) -> str:
    """Return the text that an option refers to: itself, that of a file after "@", or that of stdin for "-".

    Raises:
        UnreadableError: It can't be read; the message says why.
    """
    try:
        if said != "-" and not said.startswith("@"):
            # In a locale without these letters they are bytes in disguise.
            return said.encode("utf-8", "surrogateescape").decode()
        data = sys.stdin.buffer.read() if said == "-" else Path(said[1:]).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from error
    except UnicodeError as error:
        raise UnreadableError(f"it is not UTF-8 ({error})") from error
