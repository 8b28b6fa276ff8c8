"""The text that describes an exception, which whatever user code raises has, and how long it asks to wait.

An exception is user code too. Its ``__str__``, ``__getattr__`` or ``__notes__`` may raise, SystemExit included, its
fields may be of any type and its chain of any length. The class's name and where it was raised are always included.
"""

import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from hatchet_sdk.errors import RetryAfterError

MAX_ERROR_BYTES = 16 * 1024
_LONGEST_WAIT_MS = 86_400_000  # the operator's limit
_SDK_FOLDER = str(Path(__file__).parent.parent)
# Read past what a class or metaclass may have put in front of them.
_NAME_OF_CLASS = type.__dict__["__name__"]
_TRACEBACK = BaseException.__dict__["__traceback__"]


def failure_text(error: BaseException) -> str:
    """Return the exception's message, or its class's name without one, and the traceback as far as it is user code."""
    message = sendable(_message(error) or class_name(error), MAX_ERROR_BYTES // 4)
    return sendable(f"{message}\n{_user_traceback(error)}")


def asked_delay(error: BaseException) -> int | None:
    """Return the milliseconds that an error asks its next attempt to wait; None: it gives no readable value."""
    if not issubclass(type(error), RetryAfterError):
        return None
    try:
        wait = error.retry_after  # type: ignore[attr-defined]  # of a subclass it could be anything
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else float(wait)
        return min(int(seconds * 1000), _LONGEST_WAIT_MS)
    except BaseException:  # noqa: BLE001 - user code again: the step failed, whatever its error's attribute does
        return None


def class_name(error: BaseException) -> str:
    name: str = _NAME_OF_CLASS.__get__(type(error))
    return name


def sendable(text: str, max_bytes: int = MAX_ERROR_BYTES) -> str:
    """Make text fit: without lone surrogates, and a long one cut to its beginning and end."""
    data = str.encode(text, "utf-8", "backslashreplace")  # not text.encode(): of a subclass that could be anything
    if len(data) > max_bytes:
        half = max_bytes // 2 - 50
        data = data[:half] + f"\n… {len(data) - 2 * half} bytes cut …\n".encode() + data[-half:]
    return data.decode("utf-8", "ignore")


def _message(error: BaseException) -> str:
    try:
        return str.__str__(str(error))
    except BaseException:  # noqa: BLE001 - user code again: a broken __str__ must not hide the failure
        return ""


def _user_traceback(error: BaseException) -> str:
    """Format a traceback without the frames of this package, which are of no use to a user."""
    try:
        shown = traceback.TracebackException.from_exception(error)
        todo: list[traceback.TracebackException | None] = [shown]
        while todo:
            if (part := todo.pop()) is not None:
                part.stack = _of_users(part.stack)
                todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
        return "".join(shown.format())
    except BaseException as trouble:  # noqa: BLE001 - as above; traceback asks an exception for much
        return _plain_traceback(error, because=class_name(trouble))


def _plain_traceback(error: BaseException, *, because: str) -> str:
    """Format a traceback without asking the exception for anything."""
    where = _or_nothing(lambda: "".join(_of_users(_stack(_TRACEBACK.__get__(error))).format()))
    words = f": {message}" if (message := _message(error)) else ""
    return (
        f"Traceback (most recent call last):\n{where}{class_name(error)}{words}\n"
        f"(the rest can't be shown: formatting this {class_name(error)} raised {because})\n"
    )


def _stack(trace: TracebackType | None) -> traceback.StackSummary:
    return traceback.StackSummary.extract(traceback.walk_tb(trace))


def _of_users(stack: traceback.StackSummary) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in stack if not frame.filename.startswith(_SDK_FOLDER)])


def _or_nothing(text: Callable[[], str]) -> str:
    try:
        return text()
    except BaseException:  # noqa: BLE001 - a module's loader is asked for source lines, and may be anybody's
        return ""
