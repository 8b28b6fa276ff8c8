"""Starting runs from outside a step, and finding runs by their id."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import TriggerWorkflowOptions, WorkflowRunDict, checked_items, input_of
from hatchet_sdk._client.rate_limits import RateLimitDuration, put_rate_limit_request
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.typed import InputT, ResultT, Workflow, name_of, result_model

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

    @overload
    def run_workflow(
        self,
        workflow_name: type[Workflow[InputT, ResultT]],
        input: InputT,
        options: TriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[ResultT]: ...

    @overload
    def run_workflow(
        self, workflow_name: str, input: JsonObject, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef: ...

    def run_workflow(
        self, workflow_name: object, input: Any, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef[Any]:
        """Start a run and block until the operator has it.

        A lost answer does not lead to a second run: each call, or ``options["request_id"]``, identifies one.

        Args:
            workflow_name: The workflow's name, or its class, whose `Workflow` base says what it takes and returns.
            input: A mapping, dataclass or pydantic model, as JSON at most 256 KiB (with a payload store, 1 GiB).
            options: See `TriggerWorkflowOptions`.

        Raises:
            TypeError, ValueError: The input has no JSON form or is too large.
            RequestRefused: The operator refused.
            OperatorUnavailable: It did not answer for a minute.
        """
        client = self._client()
        (answer,) = client.trigger([client.prepare_run(name_of(workflow_name), input, options)], with_others=False)
        return WorkflowRunRef(answer.result(), client, model=result_model(workflow_name))

    def run_workflows(self, workflow_runs: Sequence[WorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many runs at once; raises the first error after all are answered."""
        client = self._client()
        answers = client.trigger(_prepared(client, workflow_runs), with_others=False)
        return [WorkflowRunRef(run_id, client) for run_id in all_of(answers)]

    def schedule_workflow(
        self,
        name: str | type,
        schedules: Sequence[datetime],
        input: JsonObject | None = None,
        options: TriggerWorkflowOptions | None = None,
    ) -> list[WorkflowRunRef]:
        """Create runs that start at given times, one for each; see `run_workflow`.

        Args:
            name: The workflow's name, or its class.
            schedules: When; a time without a zone is local, one in the past means now.
            input: The input of all of them.
            options: See `TriggerWorkflowOptions`.
        """
        client = self._client()
        runs = client.schedule(name_of(name), schedules, input, options).result()
        return [WorkflowRunRef(run, client) for run in runs]

    def put_rate_limit(self, key: str, limit: int, duration: RateLimitDuration = RateLimitDuration.SECOND) -> None:
        """Set a rate limit, for all steps of the namespace that name its key; it is in effect when this returns.

        Args:
            key: Which limit.
            limit: Units per window.
            duration: How long a window is.

        Raises:
            ValueError: An argument is invalid.
            RequestRefused: The operator refused.
            OperatorUnavailable: It did not answer for a minute.
        """
        self._client().put_rate_limit(put_rate_limit_request(key, limit, duration)).result()

    def get_workflow_run(self, workflow_run_id: str) -> WorkflowRunRef:
        """Refer to a run by its id, without asking whether there is one."""
        return WorkflowRunRef(workflow_run_id, self._client())


class AdminAio:
    """`Admin` for async code; runs started together are sent together."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client

    @overload
    async def run_workflow(
        self,
        workflow_name: type[Workflow[InputT, ResultT]],
        input: InputT,
        options: TriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[ResultT]: ...

    @overload
    async def run_workflow(
        self, workflow_name: str, input: JsonObject, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef: ...

    async def run_workflow(
        self, workflow_name: object, input: Any, options: TriggerWorkflowOptions | None = None
    ) -> WorkflowRunRef[Any]:
        """Start a run and wait until the operator has it; see `Admin.run_workflow`."""
        client = self._client()
        (answer,) = client.trigger([client.prepare_run(name_of(workflow_name), input, options)], with_others=True)
        return WorkflowRunRef(await asyncio.wrap_future(answer), client, model=result_model(workflow_name))

    async def run_workflows(self, workflow_runs: Sequence[WorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many runs at once; see `Admin.run_workflows`."""
        client = self._client()
        answers = client.trigger(_prepared(client, workflow_runs), with_others=True)
        await settled(answers)
        return [WorkflowRunRef(run_id, client) for run_id in all_of(answers)]

    async def schedule_workflow(
        self,
        name: str | type,
        schedules: Sequence[datetime],
        input: JsonObject | None = None,
        options: TriggerWorkflowOptions | None = None,
    ) -> list[WorkflowRunRef]:
        """Create runs that start at given times; see `Admin.schedule_workflow`."""
        client = self._client()
        runs = await asyncio.wrap_future(client.schedule(name_of(name), schedules, input, options))
        return [WorkflowRunRef(run, client) for run in runs]

    async def put_rate_limit(
        self, key: str, limit: int, duration: RateLimitDuration = RateLimitDuration.SECOND
    ) -> None:
        """Set a rate limit; see `Admin.put_rate_limit`."""
        await asyncio.wrap_future(self._client().put_rate_limit(put_rate_limit_request(key, limit, duration)))

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
        client.prepare_run(name_of(run["workflow_name"]), input_of(run), run.get("options"))
        for run in checked_items(runs, WorkflowRunDict)
    ]
