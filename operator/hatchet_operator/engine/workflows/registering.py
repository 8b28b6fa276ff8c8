"""Registration of workflows by workers.

It writes three things, in this order: the ControllerRevision that keeps the definition, the Workflow object, its
status. After a crash in between, the registration is repeated and finds what exists. It is in effect before the answer.
"""

import logging
from collections.abc import Callable

import orjson

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.cluster.upkeep import create_unless_there
from hatchet_operator.decisions.graph import check_definition
from hatchet_operator.decisions.pooling import may_supersede
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.actions import Actions
from hatchet_operator.engine.workflows.revisions import Revisions
from hatchet_operator.engine.workflows.statuses import Statuses
from hatchet_operator.errors import InvalidRequest, NotFound, NotReady, Refused
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef, revision_name, workflow_object_name
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowStatus

log = logging.getLogger(__name__)


class Registering:
    """Puts definitions into effect.

    Args:
        api: Where workflows are.
        events: Records on a workflow who may not register it.
        revisions: Keep definitions.
        actions: Refuse steps that would be taken for others.
        statuses: Say which definition is in effect.
        find: Returns a Workflow, if there is one.
        observe: Observes the results of our own writes.
        template_of: The hash of a pool's current template.
        pool_exists: Whether a pool exists, or workers of one without an object.
        revisions_in_use: Names the definitions that unfinished runs of a workflow execute.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        revisions: Revisions,
        actions: Actions,
        statuses: Statuses,
        find: Callable[[ObjectRef], Workflow | None],
        observe: Callable[[str, Json], None],
        template_of: Callable[[ObjectRef], str | None],
        pool_exists: Callable[[ObjectRef], bool],
        revisions_in_use: Callable[[ObjectRef], set[str]],
    ) -> None:
        self._api = api
        self._events = events
        self._revisions = revisions
        self._actions = actions
        self._statuses = statuses
        self._find = find
        self._observe = observe
        self._template_of = template_of
        self._pool_exists = pool_exists
        self._revisions_in_use = revisions_in_use
        self._unused: WorkQueue[ObjectRef] = WorkQueue(self._delete_unused, failed=_not_deleted)

    async def register(
        self, namespace: str, pool: str, definition: WorkflowDefinition, *, template: str | None = None
    ) -> str:
        """Put a definition into effect, for a worker of ``pool``, unless a newer pod registered another.

        Args:
            namespace: The worker's.
            pool: The worker's.
            definition: What it registers.
            template: The hash of the template that its Pod was made from; None: its Pod is not the pool's.

        Returns:
            The name of its revision.

        Raises:
            InvalidRequest: It is not a graph, or the workflow belongs to another name or pool.
        """
        try:
            check_definition(definition)
            name = workflow_object_name(definition.name)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        ref = ObjectRef(namespace, name)
        text = orjson.dumps(definition.to_wire()).decode()
        revision = revision_name(name, text)
        async with self._statuses.lock(ref):
            known = self._find(ref)
            if known is not None:
                self._check_owner(known, definition, pool)
                status = known.status
                current = self._template_of(ObjectRef(namespace, pool))
                may = may_supersede(template, in_effect=status.template, current=current)
                in_effect = (status.definition, status.revision, status.pool) == (definition, revision, pool)
                if (
                    in_effect
                    and (template in (None, status.template) or not may)
                    and self._revisions.is_kept(ObjectRef(namespace, revision))
                ):
                    return revision  # another worker with the same code; with a pod per run, each run has one
            with self._actions.distinct(ref, definition, pool):
                if known is not None and status.definition is not None and status.pool == pool and not may:
                    return revision  # which exists as long as its runs do
                await self._put_definition(ref, definition, revision=revision, pool=pool, template=template)
        self._unused.add(ref)
        return revision

    async def _put_definition(
        self, ref: ObjectRef, definition: WorkflowDefinition, *, revision: str, pool: str, template: str | None
    ) -> None:
        await self._revisions.keep(ref, revision, definition, pool)
        if self._find(ref) is None:
            await self._create_workflow(ref, definition, pool)

        def registered(status: WorkflowStatus) -> WorkflowStatus:
            return status.model_copy(
                update={"definition": definition, "revision": revision, "pool": pool, "template": template}
            )

        if not await self._statuses.put(ref, registered):
            raise NotReady(f'workflow "{definition.name}" was deleted while it was registered; repeat the call')

    def _check_owner(self, workflow: Workflow, definition: WorkflowDefinition, pool: str) -> None:
        name = workflow.metadata.name
        # A Workflow that nobody has registered yet and whose spec has no name takes the first exact name that fits.
        exact = workflow.spec.name or (workflow.status.definition.name if workflow.status.definition else None)
        if exact is not None and exact != definition.name:
            raise InvalidRequest(
                f'workflows "{exact}" and "{definition.name}" would both be the Workflow object '
                f'"{workflow.metadata.namespace}/{name}"; rename one of them'
            )
        owner = workflow.spec.pool or workflow.status.pool
        if owner is None or owner == pool:
            return
        if workflow.spec.pool is None and not self._pool_exists(ObjectRef(workflow.metadata.namespace, owner)):
            return  # its pool is gone, so another pool may take it over
        message = (
            f'workflow "{definition.name}" belongs to pool "{owner}", so pool "{pool}" may not register it; '
            f"rename the workflow, or set spec.pool of Workflow {workflow.metadata.namespace}/{name} to the pool "
            "that should have it"
        )
        self._events.warn(workflow, Reason.POOL_CONFLICT, message)
        raise InvalidRequest(message)

    async def _create_workflow(self, ref: ObjectRef, definition: WorkflowDefinition, pool: str) -> None:
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": WORKFLOWS.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "spec": {} if ref.name == definition.name else {"name": definition.name},
        }
        try:
            created = await create_unless_there(self._api, WORKFLOWS, body)
        except Refused as error:
            raise InvalidRequest(f'workflow "{definition.name}" was refused: {error.message}') from error
        if created is not None:
            self._observe("MODIFIED", created)
        elif (there := await self._read_again(ref)) is not None:
            self._check_owner(there, definition, pool)

    async def _read_again(self, ref: ObjectRef) -> Workflow | None:
        try:
            answer = await self._api.until_answered(self._api.get, WORKFLOWS, ref.namespace, ref.name)
        except NotFound:
            return None
        self._observe("MODIFIED", answer)
        return self._find(ref)

    async def _delete_unused(self, workflow: ObjectRef) -> None:
        """Delete definitions that are neither current nor executed by any unfinished run."""
        async with self._statuses.lock(workflow):  # or one that is being registered again could be deleted
            current = self._find(workflow)
            needed = self._revisions_in_use(workflow) | {current.status.revision or "" if current else ""}
            await self._revisions.delete_all_but(needed, of=workflow)

    async def stop(self) -> None:
        await self._unused.stop()


def _not_deleted(workflow: ObjectRef, error: Exception) -> None:
    log.error("unused definitions not deleted", extra={"workflow": str(workflow)}, exc_info=error)
