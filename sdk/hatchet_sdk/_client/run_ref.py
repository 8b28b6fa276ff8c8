"""A run that somebody started: its id, and its result when it has one."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from hatchet_sdk.errors import WorkflowRunCancelled, WorkflowRunDeleted, WorkflowRunFailed

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk.contracts.dispatcher_pb2 import WorkflowRunEvent

RunResult = dict[str, dict[str, Any]]


class WorkflowRunRef:
    """A workflow run; printed, it is the name under which ``kubectl get wfr`` shows it."""

    def __init__(
        self, workflow_run_id: str, client: "Client", *, hold: "Callable[[Future[Any]], None] | None" = None
    ) -> None:
        if not isinstance(workflow_run_id, str):
            raise TypeError(f"the id of a run is {workflow_run_id!r} (expected a str, as ref.workflow_run_id is)")
        if not workflow_run_id:
            raise ValueError("the id of a run is empty")
        self._workflow_run_id = workflow_run_id
        self._client = client
        self._hold = hold  # told of what a thread waits for here

    @property
    def workflow_run_id(self) -> str:
        return self._workflow_run_id

    def __str__(self) -> str:
        return self.workflow_run_id

    def __repr__(self) -> str:
        return f"WorkflowRunRef({self.workflow_run_id!r})"

    async def result(self) -> RunResult:
        """Wait for the run's end, however long the operator may be away meanwhile.

        Returns:
            The output of each step that has one, by the step's name.

        Raises:
            WorkflowRunFailed: The run failed, or as a subclass of it: was cancelled or deleted.
        """
        return _result_of(await asyncio.wrap_future(self._client.end_of_run(self.workflow_run_id)))

    def sync_result(self, timeout: float | None = None) -> RunResult:
        """Block until the run's end; otherwise as `result`.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: The run goes on.
            AttemptCancelled: The step that spawned it was cancelled or timed out, and its grace period is over.
            RuntimeError: Called in an async step, where it would block the very loop that may have to run the child.
        """
        self._client.refuse_to_block_steps()
        end: Future[WorkflowRunEvent] = self._client.end_of_run(self.workflow_run_id)
        if self._hold is not None:
            self._hold(end)
        try:
            return _result_of(end.result(timeout))
        except TimeoutError:
            end.cancel()
            raise TimeoutError(f"run {self.workflow_run_id} did not end within {timeout} seconds") from None


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
