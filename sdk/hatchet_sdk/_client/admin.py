"""Starting runs from outside a step, and finding runs by their id."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import TriggerWorkflowOptions, WorkflowRunDict, checked_items, input_of
from hatchet_sdk._client.run_ref import WorkflowRunRef

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk._client.triggers import Trigger

T = TypeVar("T")


class Admin:
    """Runs workflows; ``aio`` has the same methods for async code."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client
        self._aio = AdminAio(client)

    @property
    def aio(self) -> "AdminAio":
        """The same methods for async code."""
        return self._aio

    def run_workflow(
        self, workflow_name: str, input: JsonObject, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef:
        """Start a run and block until the operator has it.

        A lost answer makes no second run: each call, or ``options["request_id"]``, names one.

        Args:
            workflow_name: The workflow's name.
            input: A mapping, dataclass or pydantic model, as JSON at most 256 KiB.
            options: See `TriggerWorkflowOptions`.

        Raises:
            TypeError, ValueError: The input has no JSON form or is too large.
            RequestRefused: The operator said no.
            OperatorUnavailable: It did not answer for a minute.
        """
        client = self._client()
        (answer,) = client.trigger([client.prepare_run(workflow_name, input, options)], with_others=False)
        return WorkflowRunRef(answer.result(), client)

    def run_workflows(self, workflow_runs: Sequence[WorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many runs at once; raises the first error after all are answered."""
        client = self._client()
        answers = client.trigger(_prepared(client, workflow_runs), with_others=False)
        return [WorkflowRunRef(run_id, client) for run_id in all_of(answers)]

    def get_workflow_run(self, workflow_run_id: str) -> WorkflowRunRef:
        """Refer to a run by its id, without asking whether there is one."""
        return WorkflowRunRef(workflow_run_id, self._client())


class AdminAio:
    """`Admin` for async code; runs started together travel together."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client

    async def run_workflow(
        self, workflow_name: str, input: JsonObject, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef:
        """Start a run and wait until the operator has it; see `Admin.run_workflow`."""
        client = self._client()
        (answer,) = client.trigger([client.prepare_run(workflow_name, input, options)], with_others=True)
        return WorkflowRunRef(await asyncio.wrap_future(answer), client)

    async def run_workflows(self, workflow_runs: Sequence[WorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many runs at once; see `Admin.run_workflows`."""
        client = self._client()
        answers = client.trigger(_prepared(client, workflow_runs), with_others=True)
        await settled(answers)
        return [WorkflowRunRef(run_id, client) for run_id in all_of(answers)]

    def get_workflow_run(self, workflow_run_id: str) -> WorkflowRunRef:
        """Refer to a run by its id, without asking whether there is one."""
        return WorkflowRunRef(workflow_run_id, self._client())


async def settled(answers: "Sequence[Future[T]]") -> None:
    """Wait until every answer has come, good or bad."""
    await asyncio.gather(*map(asyncio.wrap_future, answers), return_exceptions=True)


def all_of(answers: "Sequence[Future[T]]") -> list[T]:
    """Return all answers, or raise the first error once every one has come."""
    errors = [error for answer in answers if (error := answer.exception()) is not None]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(answers)} runs were not started; the others were")
        raise errors[0]
    return [answer.result() for answer in answers]


def _prepared(client: "Client", runs: Sequence[WorkflowRunDict]) -> "list[Trigger]":
    return [
        client.prepare_run(run["workflow_name"], input_of(run), run.get("options"))
        for run in checked_items(runs, WorkflowRunDict)
    ]
