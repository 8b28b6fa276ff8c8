"""What ends a command before its work does: a value that an option can't have, a file that can't be used, no stdout.

typer reads values with pydantic, and prints pydantic's words ("Input should be less than or equal to 3"); here they
become ours. A file without rights, a full disk or a closed stream ends a command with one line, not with a traceback.
"""

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


class Commands(TyperGroup):
    """The commands of a program; what is wrong with a call of one is said in our words."""

    def make_context(self, *args: Any, **given: Any) -> Any:
        with _in_words():
            return super().make_context(*args, **given)

    def invoke(self, ctx: Any) -> Any:
        with _in_words():
            return super().invoke(ctx)


def file_problem(error: OSError) -> str | None:
    """Say which file can't be used, and why; None: it is another kind of error."""
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno == errno.ENOENT:  # of getcwd(), which names none
        return "the working directory is gone; change to one that is there"
    return f"the output can't be written: {error.strerror}" if error.errno in _OUTPUT else None


def value_problem(found: Mapping[str, Any], least: object = None, most: object = None) -> str:
    """Say what is wrong with the value of an option, of which pydantic says it in its own words.

    Args:
        found: One of the errors of a ``ValidationError``.
        least: The smallest number that the option takes; None: there is no such bound.
        most: The largest.
    """
    given = found.get("input")
    number = "a number"
    if least is not None:
        number = f"{least} or more" if most is None else f"{least} to {most}"
    match str(found["type"]):
        case "int_parsing" | "int_from_float" | "float_parsing":
            return f'"{given}" is not a whole number; expected {number}'
        case "less_than_equal" | "greater_than_equal":
            return f"{given} is out of bounds; expected {number}"
    return str(found["msg"]).removeprefix("Value error, ").removesuffix(".").replace("is not one of", "is none of")


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        errors = getattr(error.__cause__, "errors", None)
        if callable(errors):
            takes = getattr(getattr(error.param, "type_descriptor", None), "parameter_info", None)
            error.message = value_problem(errors()[0], getattr(takes, "min", None), getattr(takes, "max", None))
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        if (problem := file_problem(error)) is None:
            raise
        sys.stderr.write(f"error: {problem}\n")
        raise typer.Exit(1) from error
