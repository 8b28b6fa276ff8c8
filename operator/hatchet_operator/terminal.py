"""Makes users' text safe for a terminal or a log: nothing in it moves the cursor, hides or reorders text.

Names, keys, messages and errors come from anybody who may create a run. Raw, an escape sequence in one of them rewrites
the lines above it, a bidi override displays it in a different order, and a newline forges a log line.
"""

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # all but tab and newline
_REORDERING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi marks, embeddings, overrides and isolates
_SEPARATORS = "\u2028\u2029"
_BEYOND_TEXT = "\ud800-\udfff\ufeff\ufff9-\ufffb"  # lone surrogates, which no stream takes; invisible annotations
_UNSAFE = re.compile(f"[{_CONTROLS}{_REORDERING}{_SEPARATORS}{_BEYOND_TEXT}\U000e0000-\U000e007f]")
_UNSAFE_IN_A_LINE = re.compile(f"[\t\n{_UNSAFE.pattern[1:]}")


def one_line(text: str) -> str:
    r"""Return the text with whatever is not plain text of one line written out: ``\n``, ``\x1b``, ``\u202e``."""
    return _UNSAFE_IN_A_LINE.sub(_written_out, text)


def lines(text: str) -> str:
    """Do the same for text of several lines; tabs and newlines stay, a carriage return before a newline is removed."""
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
