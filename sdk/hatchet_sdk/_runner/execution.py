"""Running user code: async steps as tasks of the worker's loop, sync steps in a thread each, and their outcomes.

Each attempt has a copy of the context variables that were set when the worker started, and leaves none to the next.
"""

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from hatchet_sdk._client import forks, tracing
from hatchet_sdk._client.json_text import MAX_BYTES, encode_object
from hatchet_sdk._runner.assignment import Assignment
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.definition import Step
from hatchet_sdk._runner.failures import asked_delay, failure_text, sendable
from hatchet_sdk.errors import NonRetryableError


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
    retry_after_ms: int | None = None


@dataclass(kw_only=True, eq=False, slots=True)
class Attempt:
    """An attempt that this worker has; known to the session until its outcome is acknowledged."""

    assignment: Assignment
    step: Step
    workflow: object
    context: Context
    grace_seconds: float  # how long it may still finish by itself once it is cancelled
    started_at: float = field(default_factory=time.time)
    cancelled_at: float | None = None
    task: "asyncio.Task[None] | None" = None
    has_ended: bool = False
    max_output_bytes: int = MAX_BYTES

    @property
    def id(self) -> str:
        return self.assignment.task_run_external_id

    @property
    def is_out_of_time(self) -> bool:
        """Whether it was cancelled so long ago that its outcome no longer matters."""
        return self.overran_for(self.grace_seconds)

    def overran_for(self, seconds: float) -> bool:
        """Whether it was cancelled longer ago than that."""
        return self.cancelled_at is not None and time.monotonic() - self.cancelled_at > seconds


class Execution:
    """Starts and cancels attempts.

    ``ended`` is called once per attempt, in whatever thread it ran, with None if there is nothing to tell.

    Args:
        loop: Where async steps run.
        variables: What every attempt finds in its context variables.
        ended: See above.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        variables: contextvars.Context,
        ended: Callable[[Attempt, Outcome | None], None],
    ) -> None:
        self._loop = loop
        self._variables = variables
        self._ended = ended
        self._home = os.getpid()

    def start(self, attempt: Attempt) -> None:
        variables = self._variables.copy()
        variables.run(attempt.context._output.begin)
        variables.run(tracing.enter, attempt.context._output.traceparent)
        if attempt.step.is_async:
            self._loop.call_soon_threadsafe(self._start_task, attempt, variables, partial(_call, attempt))
        else:
            name = f"{attempt.assignment.workflow_run_id}/{attempt.step.name}"
            # A thread each, no pool: the operator bounds them by slots, and steps that wait for children don't count.
            thread = threading.Thread(target=self._run_sync, args=(attempt, variables), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the machine has no thread left: this attempt's misfortune, not the worker's
                self._ended(attempt, _of_error(attempt, error))

    def cancel(self, attempt: Attempt) -> None:
        """Set the exit flag; after the grace period end an async step, and a sync one's wait for its children.

        Otherwise a thread cannot be ended: it is only told. Called in the I/O loop.
        """
        if attempt.cancelled_at is None:
            attempt.cancelled_at = time.monotonic()
            attempt.context._announce_cancel()
            self._loop.call_soon_threadsafe(self._loop.call_later, attempt.grace_seconds, partial(_end, attempt))
            # A thread that waits for a child of the step would wait for one that perhaps needs this very slot.
            asyncio.get_running_loop().call_later(attempt.grace_seconds * 1.1, attempt.context._end_waits)

    def abandon(self, attempt: Attempt) -> None:
        """Set the exit flag, and end an async step at once; nobody waits for either."""
        attempt.cancelled_at = attempt.cancelled_at or time.monotonic()
        attempt.context._announce_cancel()
        attempt.context._end_waits()
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(_end, attempt)

    def _start_task(self, attempt: Attempt, variables: contextvars.Context, call: Callable[[], object]) -> None:
        attempt.task = self._loop.create_task(self._run_async(attempt, call), name=attempt.id, context=variables)

    async def _run_async(self, attempt: Attempt, call: Callable[[], object]) -> None:
        outcome: Outcome | None = None
        try:
            value = call()
            while inspect.isawaitable(value):  # a step may be wrapped in what returns the step's own coroutine
                value = await value
            self._leave_forks()
            outcome = _of_return(attempt, value)
        except asyncio.CancelledError as error:
            self._leave_forks(error)
            # Swallowed on purpose: the task is ours and ends here. If we did not cancel it, the step failed by itself.
            outcome = None if attempt.cancelled_at is not None else _of_error(attempt, error)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises, SystemExit too, is its outcome
            self._leave_forks(error)
            outcome = _of_error(attempt, error)
        finally:
            attempt.context._output.end()  # before anybody hears that it has ended
            self._ended(attempt, outcome)

    def _run_sync(self, attempt: Attempt, variables: contextvars.Context) -> None:
        try:
            value = variables.run(_call, attempt)
            self._leave_forks()
            if inspect.isawaitable(value):  # a plain function around an async step: the rest of it runs as one
                self._loop.call_soon_threadsafe(self._start_task, attempt, variables, partial(_given, value))
                return
            outcome = variables.run(_of_return, attempt, value)
        except BaseException as error:  # noqa: BLE001 - as above
            self._leave_forks(error)
            outcome = _of_error(attempt, error)
        attempt.context._output.end()
        self._ended(attempt, outcome)

    def _leave_forks(self, error: BaseException | None = None) -> None:
        if os.getpid() != self._home:
            forks.end_forked_process(error)


def _call(attempt: Attempt) -> object:
    if not attempt.step.options.on_failure:  # which is for runs that failed, for this reason too
        attempt.context._validated_input()
    return attempt.step.function(attempt.workflow, attempt.context)


def _given(value: Awaitable[object]) -> object:
    return value


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
    what, expected = f'what step "{attempt.step.name}" returned', "a mapping, or None for no output"
    try:
        text = encode_object(value, what=what, expected=expected, max_bytes=attempt.max_output_bytes)
        return Outcome(Ending.COMPLETED, text)
    except (TypeError, ValueError) as error:
        return Outcome(Ending.FAILED, sendable(f"{type(error).__name__}: {error}"))


def _of_error(attempt: Attempt, error: BaseException) -> Outcome | None:
    if attempt.is_out_of_time:
        return None
    if attempt.context._cancelled_by_step:
        return Outcome(Ending.CANCELLED)
    # By its class: isinstance would ask the exception for its __class__, which may raise.
    should_not_retry = issubclass(type(error), NonRetryableError)
    return Outcome(
        Ending.FAILED, failure_text(error), should_not_retry=should_not_retry, retry_after_ms=asked_delay(error)
    )
