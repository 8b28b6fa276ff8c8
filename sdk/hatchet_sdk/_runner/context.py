"""What a step knows about its run and may ask for while it runs."""

import asyncio
import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hatchet_sdk._client.admin import all_of, settled
from hatchet_sdk._client.io_thread import settle
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import (
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    SpawningAttempt,
    checked_items,
    input_of,
)
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._runner.output import StepOutput
from hatchet_sdk.errors import AttemptCancelled

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hatchet_sdk._client.client import Client


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One attempt of a step, as the operator gave it out."""

    workflow_run_id: str
    task_run_external_id: str
    step: str
    action_id: str
    job_id: str
    retry_count: int
    payload: str
    additional_metadata: str
    child_index: int
    child_key: str
    parent_workflow_run_id: str


class Context:
    """The second argument of a step. One per attempt; usable from any thread of it."""

    def __init__(self, assignment: Assignment, client: "Client") -> None:
        self._aio = ContextAio(self)
        self._assignment = assignment
        self._client = client
        self._next_index = itertools.count(-1)  # as Hatchet counts; one counter for every kind of spawn
        self._cancelled = False
        self._cancelled_by_step = False
        self._output = StepOutput(assignment.workflow_run_id, assignment.step, assignment.retry_count + 1)
        self._stopping = False
        self._interrupted = threading.Event()
        self._awaited: set[Future[Any]] = set()
        self._waits_no_more = False
        self._when_interrupted: set[Callable[[], object]] = set()

    @property  # not set by __init__ alone: a mock that has a class for its spec knows what the class has
    def aio(self) -> "ContextAio":
        """The same calls for async steps."""
        return self._aio

    @cached_property
    def _payload(self) -> Mapping[str, Any]:
        read: Mapping[str, Any] = json.loads(self._assignment.payload or "{}")
        return read

    @cached_property
    def _is_in_a_pod(self) -> bool:
        return bool(os.environ.get("HATCHET_POD_NAME"))

    @cached_property
    def _as_parent(self) -> SpawningAttempt:
        return SpawningAttempt(
            workflow_run_id=self._assignment.workflow_run_id,
            task_run_external_id=self._assignment.task_run_external_id,
            additional_metadata=self.additional_metadata(),
            is_current=lambda: not self._cancelled,
        )

    @property
    def step_run_id(self) -> str:
        """The id of this attempt."""
        return self._assignment.task_run_external_id

    @property
    def exit_flag(self) -> bool:
        """Whether the step should stop: it was cancelled, or timed out."""
        return self._cancelled

    def done(self) -> bool:
        """Tell whether the step should stop; same as `exit_flag`."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel this step from within: when it returns or raises, it ends as cancelled."""
        self._cancelled_by_step = True
        self._announce_cancel()

    @property
    def stopping(self) -> bool:
        """Whether the worker is about to stop: save what you have.

        It was told to (its pod is drained, replaced or scaled in; Ctrl-C), takes nothing new and waits for this step as
        long as its pod's grace period lasts. What does not end until then is executed again by another worker, which
        uses up no retry.
        """
        return self._stopping

    def wait_until_stopping(self, timeout: float | None = None) -> bool:
        """Block until the worker is about to stop, or this step should (`exit_flag`).

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            False if nothing happened within the timeout, so that ``while not context.wait_until_stopping(60):`` is a
            loop that saves in time.
        """
        return self._interrupted.wait(timeout)

    def _hold(self, awaited: "Future[Any]") -> None:
        """Remember what a thread of this step waits for."""
        self._awaited.add(awaited)
        awaited.add_done_callback(self._awaited.discard)
        if self._waits_no_more:
            self._end_waits()

    def _end_waits(self) -> None:
        self._waits_no_more = True  # before the look at what is awaited, as _hold looks the other way round
        for awaited in tuple(self._awaited):
            settle(awaited, AttemptCancelled(f'step "{self._assignment.step}" was cancelled and waits no more'))

    def _announce_stop(self) -> None:
        self._stopping = True
        self._interrupt()

    def _announce_cancel(self) -> None:
        self._cancelled = True
        self._interrupt()

    def _interrupt(self) -> None:
        self._interrupted.set()  # before the look at who waits: whoever begins to wait now looks at this after adding
        for wake in tuple(self._when_interrupted):
            wake()

    def workflow_run_id(self) -> str:
        return self._assignment.workflow_run_id

    def workflow_input(self) -> dict[str, Any]:
        read: dict[str, Any] = self._payload.get("input") or {}
        return read

    def step_output(self, step: str) -> dict[str, Any]:
        """Return what an earlier step of this run returned.

        Raises:
            ValueError: There is no output of that step.
        """
        outputs: Mapping[str, dict[str, Any]] = self._payload.get("parents") or {}
        try:
            return outputs[step.lower()]
        except KeyError:
            there = ", ".join(sorted(outputs)) or "none"
            raise ValueError(
                f'step "{self._assignment.step}" has no output of step "{step}" (there are: {there}); '
                "name it in parents=[...], and let it return a mapping"
            ) from None

    def step_run_errors(self) -> dict[str, str]:
        """Return the errors of the run's failed steps by step name; for on-failure steps."""
        read: dict[str, str] = self._payload.get("step_run_errors") or {}
        return read

    def retry_count(self) -> int:
        """Return 0 in the first attempt."""
        return self._assignment.retry_count

    def additional_metadata(self) -> dict[str, Any]:
        read = json.loads(self._assignment.additional_metadata or "{}")
        return read if isinstance(read, dict) else {}

    def child_index(self) -> int:
        """Return the position among the parent's spawns, which Hatchet counts from -1; 0 in a root run."""
        return self._assignment.child_index

    def child_key(self) -> str:
        """Return the key that the parent gave; "" without one."""
        return self._assignment.child_key

    def parent_workflow_run_id(self) -> str:
        """Return the parent's id; "" in a root run."""
        return self._assignment.parent_workflow_run_id

    def log(self, message: object) -> None:
        """Write to this process's standard output, each line with run, step and attempt before it.

        It is output and no matter of ``logging``: nothing that a program makes of that, or of ``sys.stdout``, hides it.
        """
        text = str(message)
        self._output.log(text)
        if not self._is_in_a_pod:  # whose log Kubernetes keeps; elsewhere the operator's has it too, at best effort
            sendable = text.encode("utf-8", "backslashreplace").decode()  # gRPC takes no lone surrogates
            self._client.put_log(self.step_run_id, sendable, self.retry_count())

    def refresh_timeout(self, increment_by: str) -> None:
        """Put this attempt's deadline off, e.g. by "10s"; blocks until the operator agreed."""
        self._client.refresh_timeout(self.step_run_id, increment_by).result()

    def release_slot(self) -> None:
        """Let the worker take another attempt beside this one; blocks until the operator agreed."""
        self._client.release_slot(self.step_run_id).result()

    def spawn_workflow(
        self,
        workflow_name: str,
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef:
        """Start a child run and block until the operator has it.

        A retried attempt that spawns again with the same key, or without one at the same place in the order of its
        spawns, gets the child that is already there, whatever became of it. In an async step use ``aio``: this blocks
        its event loop.

        Args:
            workflow_name: The child's workflow.
            input: A mapping, dataclass or pydantic model, as JSON at most 256 KiB; None: an empty one.
            key: What names the child within this step; any text but the empty one.
            options: See `ChildTriggerWorkflowOptions`.

        Raises:
            TypeError, ValueError: Input or key cannot be sent; nothing was.
            WorkflowNotFound: There is no such workflow.
            SpawnConflict: ``on_conflict`` is "fail", and the child that is there differs.
            AttemptSuperseded, AttemptCancelled: This attempt may not spawn any more.
        """
        (answer,) = self._spawn([_child(workflow_name, input, key, options)], with_others=False)
        return WorkflowRunRef(answer.result(), self._client, hold=self._hold)

    def spawn_workflows(self, child_workflow_runs: Sequence[ChildWorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many child runs at once; raises the first error after all are answered."""
        return self._refs(self._spawn(child_workflow_runs, with_others=False))

    def _spawn(self, children: Sequence[ChildWorkflowRunDict], *, with_others: bool) -> "list[Future[str]]":
        if self._cancelled:
            raise AttemptCancelled(f'step "{self._assignment.step}" was cancelled and spawns nothing more')
        triggers = [
            self._client.prepare_spawn(
                child["workflow_name"],
                input_of(child),
                key=child.get("key"),
                index=index,
                options=child.get("options"),
                parent=self._as_parent,
            )
            # Before anything that may fail or be repeated: the place in the code is the identity.
            for child, index in [
                (child, next(self._next_index)) for child in checked_items(children, ChildWorkflowRunDict)
            ]
        ]
        return self._client.trigger(triggers, with_others=with_others)

    def _refs(self, answers: "Sequence[Future[str]]") -> list[WorkflowRunRef]:
        return [WorkflowRunRef(run_id, self._client, hold=self._hold) for run_id in all_of(answers)]


class ContextAio:
    """`Context`'s calls for async steps; spawns awaited together travel together."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def spawn_workflow(
        self,
        workflow_name: str,
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef:
        """Start a child run and wait until the operator has it; see `Context.spawn_workflow`."""
        (answer,) = self._context._spawn([_child(workflow_name, input, key, options)], with_others=True)
        context = self._context
        return WorkflowRunRef(await asyncio.wrap_future(answer), context._client, hold=context._hold)

    async def spawn_workflows(self, child_workflow_runs: Sequence[ChildWorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many child runs at once; see `Context.spawn_workflows`."""
        answers = self._context._spawn(child_workflow_runs, with_others=True)
        await settled(answers)
        return self._context._refs(answers)

    async def wait_until_stopping(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as its sync twin
        """Wait until the worker is about to stop, or this step should; see `Context.wait_until_stopping`."""
        context, loop, told = self._context, asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # that loop was closed
                loop.call_soon_threadsafe(told.set)

        context._when_interrupted.add(wake)
        try:
            if not context._interrupted.is_set():
                async with asyncio.timeout(timeout):
                    await told.wait()
        except TimeoutError:
            return False
        finally:
            context._when_interrupted.discard(wake)
        return True

    async def refresh_timeout(self, increment_by: str) -> None:
        """Put this attempt's deadline off; see `Context.refresh_timeout`."""
        context = self._context
        await asyncio.wrap_future(context._client.refresh_timeout(context.step_run_id, increment_by))

    async def release_slot(self) -> None:
        """Let the worker take another attempt beside this one."""
        context = self._context
        await asyncio.wrap_future(context._client.release_slot(context.step_run_id))


def _child(
    name: str, input: JsonObject | None, key: str | None, options: ChildTriggerWorkflowOptions | None
) -> ChildWorkflowRunDict:
    return {"workflow_name": name, "input": input, "key": key, "options": options}
