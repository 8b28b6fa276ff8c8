"""The calls of `Context` that async steps await."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from hatchet_sdk._client.admin import settled
from hatchet_sdk._client.arguments import check_seconds
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import ChildScheduleWorkflowOptions, ChildTriggerWorkflowOptions, ChildWorkflowRunDict
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.typed import InputT, ResultT, Workflow, result_model
from hatchet_sdk._runner.spawns import spawn_item

if TYPE_CHECKING:
    from hatchet_sdk._runner.context import Context


class ContextAio:
    """`Context`'s calls for async steps; spawns awaited together are sent together."""

    def __init__(self, context: "Context") -> None:
        self._context = context

    @overload
    async def spawn_workflow(
        self,
        workflow_name: type[Workflow[InputT, ResultT]],
        input: InputT,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[ResultT]: ...

    @overload
    async def spawn_workflow(
        self,
        workflow_name: str,
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef: ...

    async def spawn_workflow(
        self,
        workflow_name: object,
        input: Any = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[Any]:
        """Start a child run and wait until the operator has it; see `Context.spawn_workflow`."""
        (trigger,) = self._context._spawns.spawn([spawn_item(workflow_name, input, key, options)], with_others=True)
        run_id = await asyncio.wrap_future(trigger.answer)
        return self._context._spawns.ref_of(trigger, run_id, model=result_model(workflow_name))

    async def spawn_workflows(self, child_workflow_runs: Sequence[ChildWorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many child runs at once; see `Context.spawn_workflows`."""
        triggers = self._context._spawns.spawn(child_workflow_runs, with_others=True)
        await settled([trigger.answer for trigger in triggers])
        return self._context._spawns.refs(triggers)

    async def schedule_workflow(
        self,
        workflow_name: str | type,
        schedules: Sequence[datetime],
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildScheduleWorkflowOptions | None = None,
    ) -> list[WorkflowRunRef]:
        """Create child runs that start at given times; see `Context.schedule_workflow`."""
        context = self._context
        answer = context._spawns.schedule(workflow_name, schedules, input, key, options)
        return context._spawns.refs_of(await asyncio.wrap_future(answer))

    async def wait_until_stopping(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as its sync twin
        """Wait until the worker is about to stop, or this step should; see `Context.wait_until_stopping`."""
        check_seconds(timeout, what="wait_until_stopping(): timeout")
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
        """Extend this attempt's deadline; see `Context.refresh_timeout`."""
        context = self._context
        await asyncio.wrap_future(context._client.refresh_timeout(context.step_run_id, increment_by))

    async def release_slot(self) -> None:
        """Let the worker take another attempt beside this one."""
        context = self._context
        await asyncio.wrap_future(context._client.release_slot(context.step_run_id))
