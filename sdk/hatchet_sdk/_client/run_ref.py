"""A run that was started: its id, and its result when it has one."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, cast

from hatchet_sdk._client.arguments import check_seconds
from hatchet_sdk._client.typed import ResultT, RunResult
from hatchet_sdk._client.validation import validated
from hatchet_sdk.errors import WorkflowRunCancelled, WorkflowRunDeleted, WorkflowRunFailed

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk._client.streams import RunStream
    from hatchet_sdk._client.triggers import Trigger
    from hatchet_sdk.contracts.dispatcher_pb2 import WorkflowRunEvent


class WorkflowRunRef(Generic[ResultT]):
    """A workflow run; printed, it is the name under which ``kubectl get wfr`` shows it."""

    def __init__(
        self,
        workflow_run_id: str,
        client: "Client",
        *,
        on_block: "Callable[[Future[Any]], None] | None" = None,
        model: type[Any] | None = None,
        started_by: "Trigger | None" = None,
    ) -> None:
        if not isinstance(workflow_run_id, str):
            raise TypeError(f"the id of a run is {workflow_run_id!r} (expected a str, as ref.workflow_run_id is)")
        if not workflow_run_id:
            raise ValueError("the id of a run is empty (expected a str, as ref.workflow_run_id is)")
        self._workflow_run_id = workflow_run_id
        self._client = client
        self._on_block = on_block  # told of what a thread waits for here
        self._model = model  # of the result
        self._again = started_by if started_by is not None and started_by.is_light else None

    @property
    def workflow_run_id(self) -> str:
        return self._workflow_run_id

    def __str__(self) -> str:
        return self.workflow_run_id

    def __repr__(self) -> str:
        return f"WorkflowRunRef({self.workflow_run_id!r})"

    async def result(self) -> ResultT:
        """Wait for the run's end, however long the operator may be down meanwhile.

        Returns:
            The output of each step that has one, by the step's name; as a model, if the workflow's class says one.

        Raises:
            WorkflowRunFailed: The run failed; subclasses: it was cancelled or deleted.
            InvalidInput: The model does not accept what the run returned.
        """
        return self._result_of(await asyncio.wrap_future(self._end()))

    def sync_result(self, timeout: float | None = None) -> ResultT:
        """Block until the run's end; otherwise as `result`.

        Args:
            timeout: Seconds; None waits forever.

        Raises:
            TimeoutError: The run is still running.
            AttemptCancelled: The step that spawned it was cancelled or timed out, and its grace period is over.
            RuntimeError: Called in an async step, where it would block the very loop that may have to run the child.
        """
        check_seconds(timeout, what="sync_result(): timeout")
        end = self._end(blocking=True)
        try:
            return self._result_of(end.result(timeout))
        except TimeoutError:
            end.cancel()
            raise TimeoutError(f"run {self.workflow_run_id} did not end within {timeout} seconds") from None

    def _result_of(self, end: "WorkflowRunEvent") -> ResultT:
        result: Any = _result_of(end)
        if self._model is None:
            return cast("ResultT", result)
        return cast("ResultT", validated(result, self._model, what=f"the result of run {self.workflow_run_id}"))

    def _end(self, *, blocking: bool = False) -> "Future[WorkflowRunEvent]":
        """Return the future of the run's end; ``blocking``: a thread will block on it."""
        if blocking:
            self._client.refuse_to_block_steps()
        end: Future[WorkflowRunEvent] = self._client.end_of_run(self.workflow_run_id, again=self._again)
        if blocking and self._on_block is not None:
            self._on_block(end)
        return end

    def stream(self) -> "RunStream":
        """Listen to what the run's steps say (`Context.put_stream`) and how they end.

        ``async for event in ref.stream()``, or ``for`` outside of async code, to the run's end. A connection that
        breaks is reopened, from where it was. What steps published before comes first, as far as the operator still
        has it.
        """
        return self._client.stream_of_run(self.workflow_run_id, on_block=self._on_block)


def _result_of(end: "WorkflowRunEvent") -> RunResult:
    run_id = end.workflow_run_id
    errors = {step.task_name: step.error for step in end.results if step.error}
    phase = end.phase or ("Failed" if errors else "Succeeded")
    # Hatchet's words, to the letter: programs compare them.
    message = f"Workflow Errors: {list(errors.values()) or [f'run {run_id} ended as {phase}']}"
    if phase == "Deleted":
        message = errors.get("") or f"run {run_id} was deleted"  # or can't be read, or never was there
        raise WorkflowRunDeleted(message, workflow_run_id=run_id, errors=errors, phase=phase)
    if phase == "Cancelled":
        raise WorkflowRunCancelled(message, workflow_run_id=run_id, errors=errors, phase=phase)
    if errors or phase != "Succeeded":
        raise WorkflowRunFailed(message, workflow_run_id=run_id, errors=errors, phase=phase)
    return {step.task_name: json.loads(step.output) for step in end.results if step.output}
