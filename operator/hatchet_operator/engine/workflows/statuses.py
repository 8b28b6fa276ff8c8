"""Statuses of Workflows: their conditions, what registration and crons report, who offers their steps."""

import asyncio
import logging
from collections.abc import Callable
from weakref import WeakValueDictionary

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.cluster.statuses import write_status
from hatchet_operator.decisions.workflow_status import Offer, with_conditions, workflow_conditions
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.actions import Actions
from hatchet_operator.errors import InvalidRequest, NotFound, Refused
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.workflow import Workflow, WorkflowStatus

log = logging.getLogger(__name__)


class Statuses:
    """Writes statuses, one at a time for each workflow.

    Args:
        api: Where they are.
        events: Records on a workflow what is wrong with its spec.
        clock: Tells the time.
        actions: Says what is wrong with its pool.
        find: Returns a Workflow, if there is one.
        observe: Observes the results of our own writes.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        clock: Clock,
        actions: Actions,
        find: Callable[[ObjectRef], Workflow | None],
        observe: Callable[[str, Json], None],
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock
        self._actions = actions
        self._find = find
        self._observe = observe
        self._offers: dict[ObjectRef, Offer] = {}
        self._locks: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()
        self._work: WorkQueue[ObjectRef] = WorkQueue(self.reconcile, failed=_not_written)

    def lock(self, ref: ObjectRef) -> asyncio.Lock:
        """Return the lock that every writer of a workflow or its definitions must acquire."""
        return self._locks.setdefault(ref, asyncio.Lock())

    def offered(self, ref: ObjectRef, offer: Offer) -> None:
        """Show which workers could take a workflow's steps."""
        if self._find(ref) is not None and self._offers.get(ref) != offer:
            self._offers[ref] = offer
            self._work.add(ref)

    def forget(self, ref: ObjectRef) -> None:
        """Forget a workflow that is gone."""
        self._offers.pop(ref, None)
        self._work.forget(ref)

    async def reconcile(self, ref: ObjectRef) -> None:
        """Write the conditions that tell people about their spec."""
        async with self.lock(ref):
            workflow = self._find(ref)
            if workflow is None:
                return
            conflict, offer = self._actions.moved_onto(workflow), self._offers.get(ref)
            wanted = workflow_conditions(workflow, self._clock.now(), conflict=conflict, offer=offer)
            workers = offer.workers if offer else workflow.status.workers
            if (wanted, workers) != (workflow.status.conditions, workflow.status.workers):
                for condition in wanted:
                    if condition.type == ConditionType.VALID and condition.status == "False":
                        self._events.warn(workflow, condition.reason, condition.message)
                await self.put(ref, lambda status: status)

    async def change(self, ref: ObjectRef, change: Callable[[WorkflowStatus], WorkflowStatus]) -> None:
        """Write what rooms other than registration report on a workflow, if it has changed."""
        async with self.lock(ref):
            await self.put(ref, change)

    async def put(self, ref: ObjectRef, change: Callable[[WorkflowStatus], WorkflowStatus]) -> bool:
        """Write a changed status, from the newest object; nothing if nothing changes. False: the object is gone.

        The caller must hold the workflow's lock.
        """

        def decide() -> tuple[Workflow, WorkflowStatus] | None:
            if (workflow := self._find(ref)) is None:
                return None
            status = self._with_conditions(ref, workflow, change(workflow.status))
            return (workflow, status) if status != workflow.status else None

        def observe(obj: Json) -> None:
            self._observe("MODIFIED", obj)

        try:
            await write_status(self._api, WORKFLOWS, ref, decide=decide, observe=observe)
        except NotFound:
            return False
        except Refused as error:
            raise InvalidRequest(f'the definition of workflow "{ref.name}" was refused: {error.message}') from error
        return self._find(ref) is not None

    def _with_conditions(self, ref: ObjectRef, workflow: Workflow, status: WorkflowStatus) -> WorkflowStatus:
        conflict = self._actions.moved_onto(workflow.model_copy(update={"status": status}))
        return with_conditions(workflow, status, self._clock.now(), conflict=conflict, offer=self._offers.get(ref))

    async def stop(self) -> None:
        await self._work.stop()


def _not_written(workflow: ObjectRef, error: Exception) -> None:
    if isinstance(error, InvalidRequest):
        log.warning("workflow's status not written", extra={"workflow": str(workflow), "error": str(error)})
    else:
        log.error("workflow's status not written", extra={"workflow": str(workflow)}, exc_info=error)
