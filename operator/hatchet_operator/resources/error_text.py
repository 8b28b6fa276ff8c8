"""What the text of a step's error says in one line, and which part of it is about what. Pure.

Workers send Python's own words. Ours and the published SDKs write the exception's message, then its traceback:

    1 validation error for Order            the message, which may have many lines and tracebacks of others in it
    id
      Field required
    Traceback (most recent call last):      what led to it: causes first, frames, for groups drawn with "|" and "+"
      File "worker.py", line 7, in load
    ValidationError: 1 validation error for Order
    id
      Field required                        the message again, and notes

The one line that tells most is ``Type: first line of the message``. It is neither the first line nor the last.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_HEADLINE = 500
_SHOWN_MEMBERS = 3
_TRACEBACK = re.compile(r"^(?:(?:  \+ )?Exception Group )?Traceback \(most recent call last\):$", re.M)
_CHAINED = re.compile(
    r"^\n?(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n$",
    re.M,
)
_TYPE = r"[^\W\d][\w.<>]*"
_GUTTER = re.compile(r"^ *\| ?")
_LAST = re.compile(r"^ *\+-{36}$")
_RUN_ERRORS = "Workflow Errors: ["


@dataclass(frozen=True, kw_only=True)
class ErrorText:
    """An error's text in its parts.

    Attributes:
        headline: ``Type: first line of the message``, of groups with their members; at most 500 characters.
        way: How it came to it: frames, and the exceptions before; "" where the worker sent no traceback.
        words: The exception itself, from its type to the last of its notes or members.
    """

    headline: str
    way: str
    words: str


def headline(error: str | None) -> str:
    """Say in one line what went wrong."""
    return read_error(error or "").headline


def read_error(error: str) -> ErrorText:
    """Take an error's text apart."""
    text = error.strip("\n").replace("\r\n", "\n")
    start = _start_of_exception(text)
    if start is None:
        first = next((line for line in text.split("\n") if line.strip()), "")
        return ErrorText(headline=_shorten(_told(first.strip())), way="", words=text)
    traceback = _TRACEBACK.search(text)
    begin = min(traceback.start(), start) if traceback else start
    words = text[start:]
    told = _of_group(words.split("\n"), 2) if words.startswith("  |") else _of_exception(words)
    return ErrorText(headline=_shorten(told), way=text[begin:start], words=words)


def _start_of_exception(text: str) -> int | None:
    """Find where the last exception of the chain begins, ``Type: message``; None: the text has no such place."""
    message = text.split("\n", 1)[0].strip()
    # Its message stands before the traceback too, so the line that repeats it is the one: what looks like a traceback
    # may be part of the message, as when a step reports what a child's step reported.
    if message and not _TRACEBACK.match(text):
        said = re.compile(rf"^(?: +\| )?(?:{_TYPE}: {re.escape(message)}|(?:{_TYPE}\.)?{re.escape(message)})$", re.M)
        after = _TRACEBACK.search(text)
        if found := [match.start() for match in said.finditer(text, after.end() if after else 0)]:
            return found[-1]
    return _after_head(text)


def _after_head(text: str) -> int | None:
    """Find it by the form of a traceback."""
    first = _TRACEBACK.search(text)
    if first is None:
        return None
    position = first.start()
    for chained in _CHAINED.finditer(text, position):
        following = _TRACEBACK.search(text, chained.end())
        position = following.start() if following else chained.end() + 1
    return _after_frames(text, position)


def _after_frames(text: str, position: int) -> int | None:
    """Skip a traceback's head and its frames, which are all indented."""
    is_group = text.startswith("  + ", position)
    while position < len(text):
        end = text.find("\n", position)
        line = text[position : end if end >= 0 else len(text)]
        content = _GUTTER.sub("", line) if is_group else line
        if content.strip() and not content.startswith(
            ("  ", "Traceback (most", "Exception Group Traceback (most", "+ Exception Group", "… ")
        ):
            return position
        if end < 0:
            return None
        position = end + 1
    return None


def _of_exception(words: str) -> str:
    """Return ``Type: first line``; where the message begins with empty lines, its first line that is not."""
    first, _, rest = words.partition("\n")
    if first.rstrip().endswith(":"):
        following = next((line.strip() for line in rest.split("\n") if line.strip()), "")
        first = f"{first.rstrip()} {following}".rstrip()
    return _told(_without_module(first.strip()))


def _told(first: str) -> str:
    """Shorten what a run's failure says, a list of whole error texts, to the headline of each."""
    place = first.find(_RUN_ERRORS)
    if place < 0:
        return first
    rest = first[place + len(_RUN_ERRORS) - 1 :]
    try:
        errors = [str(error) for error in ast.literal_eval(rest)]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return first.partition("\\n")[0]  # it was cut
    told = "; ".join(headline(error) for error in errors[:_SHOWN_MEMBERS])
    more = f"; and {len(errors) - _SHOWN_MEMBERS} more" if len(errors) > _SHOWN_MEMBERS else ""
    return f"{first[:place]}Workflow Errors: [{told}{more}]"


def _of_group(lines: Sequence[str], depth: int) -> str:
    """Name a group and its members out of their drawing, whose left edge has so many spaces before it."""
    edge = " " * depth
    rulers = [at for at, line in enumerate(lines) if _is_ruler(line, depth)]
    own = "\n".join(line.removeprefix(f"{edge}|").removeprefix(" ") for line in lines[: rulers[0] if rulers else None])
    start = _after_head(own)
    named = [
        _of_group(lines[begin + 1 : end], depth + 2) for begin, end in pairwise(rulers) if not _LAST.match(lines[begin])
    ]
    told = "; ".join(named[:_SHOWN_MEMBERS])
    more = f"; and {len(named) - _SHOWN_MEMBERS} more" if len(named) > _SHOWN_MEMBERS else ""
    return _of_exception(own[start or 0 :]) + (f": {told}{more}" if named else "")


def _is_ruler(line: str, depth: int) -> bool:
    """Tell whether a line divides the members of the group at this depth; the first is drawn from the group's edge."""
    return line.startswith((f"{' ' * depth}+-+--", f"{' ' * (depth + 2)}+---"))


def _without_module(line: str) -> str:
    """Leave out where the exception's class is from: ``pydantic_core._pydantic_core.ValidationError`` says less."""
    kind, colon, rest = line.partition(":")
    return f"{kind.rpartition('.')[2]}{colon}{rest}" if re.fullmatch(_TYPE, kind) else line


def _shorten(line: str) -> str:
    return line if len(line) <= MAX_HEADLINE else line[: MAX_HEADLINE - 1] + "…"
