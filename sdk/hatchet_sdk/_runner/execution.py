"""Running user code: async steps as tasks of the worker's loop, sync steps in a thread each, and what came of it."""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from hatchet_sdk._client.json_text import encode_object
from hatchet_sdk._runner.context import Assignment, Context
from hatchet_sdk._runner.definition import Step
from hatchet_sdk.errors import NonRetryableError

CANCEL_GRACE_SECONDS = 1.0  # how long a cancelled step may still finish by itself
MAX_ERROR_BYTES = 16 * 1024
_SDK_FOLDER = str(Path(__file__).parent.parent)


class Ending(Enum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the operator is told about an ended attempt."""

    ending: Ending
    payload: str = ""
    should_not_retry: bool = False


@dataclass(kw_only=True, eq=False, slots=True)
class Attempt:
    """An attempt that this worker holds; known to the session until its outcome is acknowledged."""

    assignment: Assignment
    step: Step
    workflow: object
    context: Context
    started_at: float = field(default_factory=time.time)
    cancelled_at: float | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def id(self) -> str:
        return self.assignment.task_run_external_id

    @property
    def is_out_of_time(self) -> bool:
        """Whether it was cancelled so long ago that nobody wants to hear of it."""
        return self.cancelled_at is not None and time.monotonic() - self.cancelled_at > CANCEL_GRACE_SECONDS


class Execution:
    """Starts and cancels attempts.

    ``ended`` is called once per attempt, in whatever thread it ran, with None if there is nothing to tell.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[Attempt, Outcome | None], None]) -> None:
        self._loop = loop
        self._ended = ended

    def start(self, attempt: Attempt) -> None:
        if attempt.step.is_async:
            self._loop.call_soon_threadsafe(self._start_task, attempt)
        else:
            name = f"{attempt.assignment.workflow_run_id}/{attempt.step.name}"
            # A thread each, no pool: the operator bounds them by slots and lets steps that wait for children go beside.
            thread = threading.Thread(target=self._run_sync, args=(attempt,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine has no thread left: this attempt's misfortune, not the worker's
                self._ended(attempt, _of_error(attempt, error))

    def cancel(self, attempt: Attempt) -> None:
        """Set the exit flag; after the grace period end an async step. A thread cannot be ended: it is only told."""
        if attempt.cancelled_at is None:
            attempt.cancelled_at = time.monotonic()
            attempt.context._cancelled = True
            if attempt.step.is_async:
                self._loop.call_soon_threadsafe(self._loop.call_later, CANCEL_GRACE_SECONDS, partial(_end, attempt))

    def _start_task(self, attempt: Attempt) -> None:
        attempt.task = self._loop.create_task(self._run_async(attempt), name=attempt.id)

    async def _run_async(self, attempt: Attempt) -> None:
        outcome: Outcome | None = None
        try:
            outcome = _of_return(attempt, await attempt.step.function(attempt.workflow, attempt.context))
        except asyncio.CancelledError as error:
            # Swallowed on purpose: the task is ours and ends here. If we did not cancel it, the step failed by itself.
            outcome = None if attempt.cancelled_at is not None else _of_error(attempt, error)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises, SystemExit too, is its outcome
            outcome = _of_error(attempt, error)
        finally:
            self._ended(attempt, outcome)

    def _run_sync(self, attempt: Attempt) -> None:
        try:
            outcome = _of_return(attempt, attempt.step.function(attempt.workflow, attempt.context))
        except BaseException as error:  # noqa: BLE001 - as above
            outcome = _of_error(attempt, error)
        self._ended(attempt, outcome)


def _end(attempt: Attempt) -> None:
    if attempt.task is not None:
        attempt.task.cancel()


def _of_return(attempt: Attempt, value: object) -> Outcome | None:
    if attempt.is_out_of_time:
        return None
    if attempt.context._cancelled_by_step:
        return Outcome(Ending.CANCELLED)
    if value is None:
        return Outcome(Ending.COMPLETED)
    what = f'what step "{attempt.step.name}" returned'
    try:
        return Outcome(Ending.COMPLETED, encode_object(value, what=what, expected="a mapping, or None for no output"))
    except (TypeError, ValueError) as error:
        return Outcome(Ending.FAILED, _sendable(f"{type(error).__name__}: {error}"))


def _of_error(attempt: Attempt, error: BaseException) -> Outcome | None:
    if attempt.is_out_of_time:
        return None
    if attempt.context._cancelled_by_step:
        return Outcome(Ending.CANCELLED)
    text = f"{_sendable(_message(error) or type(error).__name__, MAX_ERROR_BYTES // 4)}\n{_user_traceback(error)}"
    return Outcome(Ending.FAILED, _sendable(text), should_not_retry=isinstance(error, NonRetryableError))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - user code again: a broken __str__ must not hide the failure
        return ""


def _user_traceback(error: BaseException) -> str:
    """Format a traceback without the frames of this package, which tell a user nothing."""
    shown = traceback.TracebackException.from_exception(error)
    todo: list[traceback.TracebackException | None] = [shown]
    while todo:
        if (part := todo.pop()) is not None:
            part.stack = traceback.StackSummary.from_list(
                [frame for frame in part.stack if not frame.filename.startswith(_SDK_FOLDER)]
            )
            todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
    return "".join(shown.format())


def _sendable(text: str, max_bytes: int = MAX_ERROR_BYTES) -> str:
    """Make text fit: no lone surrogates, and of a long one the beginning and the end."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > max_bytes:
        half = max_bytes // 2 - 50
        data = data[:half] + f"\n… {len(data) - 2 * half} bytes cut …\n".encode() + data[-half:]
    return data.decode("utf-8", "ignore")
