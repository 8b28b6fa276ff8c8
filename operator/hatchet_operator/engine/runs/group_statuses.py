"""What Workflows show of their concurrency groups: who goes on, and who waits.

    members came, went or were admitted ─► after three seconds, and ten after the last write ─► one status PUT, if it
    differs from what is shown

So runs that are over by then leave no trace, and however many there are, a workflow is written once in ten seconds.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from hatchet_operator.decisions.concurrency import with_groups
from hatchet_operator.engine.runs.groups import Groups
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import WorkflowStatus

log = logging.getLogger(__name__)

_GATHER_SECONDS = 3.0
_BETWEEN_STATUSES_SECONDS = 10.0


class GroupStatuses:
    """Writes the groups of each workflow into its status.

    Args:
        groups: The groups.
        workflows: The workflows.
    """

    def __init__(self, groups: Groups, *, workflows: Workflows) -> None:
        self._groups = groups
        self._workflows = workflows
        self._written_at: dict[ObjectRef, float] = {}
        self._started = False
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._look_at, failed=self._failed)
        groups.on_change.append(self.changed)

    def start(self) -> None:
        """Begin to write: everything that exists has been read."""
        self._started = True
        for ref in self._workflows.known():
            if self._shows_another(ref):
                self.changed(ref)

    def changed(self, workflow: ObjectRef) -> None:
        """Have a workflow's groups shown, soon."""
        if self._started:
            self._work.add_after(workflow, max(_GATHER_SECONDS, self._seconds_to_wait(workflow)))

    def _seconds_to_wait(self, workflow: ObjectRef) -> float:
        written_at = self._written_at.get(workflow)
        if written_at is None:
            return 0.0
        return written_at + _BETWEEN_STATUSES_SECONDS - asyncio.get_running_loop().time()

    def _shows_another(self, ref: ObjectRef) -> bool:
        workflow = self._workflows.get(ref)
        return workflow is not None and with_groups(workflow.status, self._groups.seen(ref)) != workflow.status

    def _look_at(self, ref: ObjectRef) -> Coroutine[Any, Any, None] | None:
        if not self._shows_another(ref):
            if self._workflows.get(ref) is None:
                self._written_at.pop(ref, None)
            return None
        self._written_at[ref] = asyncio.get_running_loop().time()
        return self._write(ref)

    async def _write(self, ref: ObjectRef) -> None:
        def show(status: WorkflowStatus) -> WorkflowStatus:
            return with_groups(status, self._groups.seen(ref))

        await self._workflows.change_status(ref, show)

    def _failed(self, ref: ObjectRef, error: Exception) -> None:
        if isinstance(error, InvalidRequest):
            log.warning("concurrency groups not shown", extra={"workflow": str(ref), "error": str(error)})
        else:
            log.error("concurrency groups not shown, trying again", extra={"workflow": str(ref)}, exc_info=error)
            self.changed(ref)

    async def stop(self) -> None:
        await self._work.stop()
