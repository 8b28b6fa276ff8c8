"""Workflows: what is known of them, and the graph that a run executes."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.graph import Graph, InvalidDefinitionError, effective_graph
from hatchet_operator.decisions.workflow_status import Offer
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.workflows.actions import Actions
from hatchet_operator.engine.workflows.registering import Registering
from hatchet_operator.engine.workflows.revisions import Revisions
from hatchet_operator.engine.workflows.statuses import Statuses
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Execution
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowStatus

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class WorkflowRecord:
    """One Workflow: the newest object and the graph that new runs of it execute."""

    workflow: Workflow
    version: int
    graph: Graph | None = None


class Workflows:
    """All workflows of the operator.

    Args:
        api: Where they are.
        events: Records on a workflow what was done to it.
        clock: Tells the time.
        on_change: Called with a workflow that changed or is gone.
        template_of: The hash of a pool's current template.
        pool_exists: Whether a pool exists, or workers of one without an object.
        revisions_in_use: Names the definitions that unfinished runs of a workflow execute.
        is_offered: Whether a current worker of a pool registered an action.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        clock: Clock,
        on_change: Callable[[ObjectRef], None],
        template_of: Callable[[ObjectRef], str | None],
        pool_exists: Callable[[ObjectRef], bool],
        revisions_in_use: Callable[[ObjectRef], set[str]],
        is_offered: Callable[[ObjectRef, str], bool],
    ) -> None:
        self._records: dict[ObjectRef, WorkflowRecord] = {}
        self._by_namespace: dict[str, dict[str, WorkflowRecord]] = {}  # the same, by name
        self._on_change = on_change
        self._revisions = Revisions(api, find=self.get, on_change=on_change)
        self._actions = Actions(self._revisions, in_namespace=self.in_namespace, is_offered=is_offered)
        self._statuses = Statuses(
            api, events=events, clock=clock, actions=self._actions, find=self.get, observe=self.observe
        )
        self._registering = Registering(
            api,
            events=events,
            revisions=self._revisions,
            actions=self._actions,
            statuses=self._statuses,
            find=self.get,
            observe=self.observe,
            template_of=template_of,
            pool_exists=pool_exists,
            revisions_in_use=revisions_in_use,
        )

    # --- What runs ask

    def __contains__(self, ref: ObjectRef) -> bool:
        record = self._records.get(ref)
        return record is not None and record.graph is not None

    def get(self, ref: ObjectRef) -> Workflow | None:
        record = self._records.get(ref)
        return record.workflow if record else None

    def names_in(self, namespace: str) -> tuple[str, ...]:
        """Return the object names of a namespace's workflows."""
        return tuple(self._by_namespace.get(namespace, ()))

    def in_namespace(self, namespace: str) -> list[tuple[ObjectRef, Workflow]]:
        """Return the workflows of a namespace, including those that nobody has registered yet."""
        return [(ref, record.workflow) for ref, record in self._records_in(namespace)]

    def in_effect(self, namespace: str) -> list[tuple[ObjectRef, Workflow]]:
        """Return the workflows of a namespace that can be run."""
        return [(ref, record.workflow) for ref, record in self._records_in(namespace) if record.graph is not None]

    def _records_in(self, namespace: str) -> Iterator[tuple[ObjectRef, WorkflowRecord]]:
        for name, record in self._by_namespace.get(namespace, {}).items():
            yield ObjectRef(namespace, name), record

    def offered_by(self, namespace: str, actions: set[str]) -> list[str]:
        """Return the exact names of the workflows whose steps are all among these actions."""
        return [
            record.workflow.exact_name
            for _, record in self._records_in(namespace)
            if record.graph is not None and all(step.action in actions for step in record.graph.steps)
        ]

    def graphs_of_pool(self, pool: ObjectRef) -> list[tuple[ObjectRef, Graph]]:
        """Return the workflows that workers of a pool run; not those whose runs have pods of their own."""
        return [
            (ref, record.graph)
            for ref, record in self._records_in(pool.namespace)
            if record.graph is not None and (record.graph.pool, record.graph.execution) == (pool.name, Execution.POOL)
        ]

    def graph_of(self, run: WorkflowRun) -> Graph | None:
        """Return the graph that a run executes: of the definition it began with, or otherwise of the current one."""
        current = self.current_graph(ObjectRef(run.metadata.namespace, run.spec.workflow))
        pinned = run.status.definition
        if pinned is None or (current is not None and current.revision == pinned):
            return current
        return self._revisions.graphs.get(ObjectRef(run.metadata.namespace, pinned), current)

    def current_graph(self, workflow: ObjectRef) -> Graph | None:
        record = self._records.get(workflow)
        return record.graph if record else None

    def begin_loading(self, run: WorkflowRun) -> bool:
        """Begin to read the definition that a run began with, if it has to be read first; return whether it has."""
        pinned = run.status.definition
        if pinned is None or run.status.phase.is_final:
            return False
        record = self._records.get(ObjectRef(run.metadata.namespace, run.spec.workflow))
        if record is not None and record.graph is not None and record.graph.revision == pinned:
            return False
        return self._revisions.begin_loading(ObjectRef(run.metadata.namespace, pinned), run.spec.workflow)

    async def wait_until_loaded(self) -> None:
        """See `Revisions.wait_until_loaded`."""
        await self._revisions.wait_until_loaded()

    def of(self, run: WorkflowRun) -> Workflow | None:
        return self.get(ObjectRef(run.metadata.namespace, run.spec.workflow))

    def is_suspended(self, run: WorkflowRun) -> bool:
        workflow = self.of(run)
        return workflow is not None and workflow.spec.suspended

    def ttl_of(self, ref: ObjectRef) -> timedelta | None:
        workflow = self.get(ref)
        return workflow.spec.ttl if workflow else None

    # --- What is observed

    def observe(self, kind: str, obj: Json) -> None:
        """Observe a Workflow as the API server has it."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._records.get(ref)
        if kind == "DELETED":
            if known is not None and known.workflow.metadata.uid == metadata["uid"]:
                self.forget(ref)
            return
        version = int(metadata["resourceVersion"])
        if known is not None and known.workflow.metadata.uid == metadata["uid"] and version <= known.version:
            return
        try:
            workflow = Workflow.model_validate(obj)
        except ValueError as error:
            # A status that somebody edited by hand; registration writes it again.
            log.warning("workflow is not understood", extra={"workflow": str(ref), "error": str(error)})
            workflow = Workflow.model_validate({**obj, "status": {}})
        record = self._records[ref] = WorkflowRecord(workflow=workflow, version=version)
        self._by_namespace.setdefault(ref.namespace, {})[ref.name] = record
        self._compile(record)
        self._revisions.move(ref, record.graph)
        if known is None or _what_matters(known.workflow) != _what_matters(workflow):
            self._on_change(ref)

    def known(self) -> list[ObjectRef]:
        return list(self._records)

    def version_of(self, ref: ObjectRef) -> int:
        return self._records[ref].version

    def forget(self, ref: ObjectRef) -> None:
        """Forget a Workflow that no longer exists."""
        if self._records.pop(ref, None) is None:
            return
        of_namespace = self._by_namespace[ref.namespace]
        del of_namespace[ref.name]
        if not of_namespace:
            del self._by_namespace[ref.namespace]
        self._statuses.forget(ref)
        self._on_change(ref)

    def _compile(self, record: WorkflowRecord) -> None:
        workflow = record.workflow
        definition, revision = workflow.status.definition, workflow.status.revision
        if definition is None or revision is None:
            return
        pool = workflow.spec.pool or workflow.status.pool
        if self._actions.moved_onto(workflow) is not None:
            return  # its Valid condition says why
        try:
            record.graph = effective_graph(
                workflow.metadata.name, workflow.spec, definition, revision=revision, pool=pool
            )
        except InvalidDefinitionError as error:
            log.warning("definition is no graph", extra={"workflow": workflow.metadata.name, "error": str(error)})

    # --- What is written

    async def register(
        self, namespace: str, pool: str, definition: WorkflowDefinition, *, template: str | None = None
    ) -> str:
        """See `Registering.register`."""
        return await self._registering.register(namespace, pool, definition, template=template)

    async def reconcile(self, ref: ObjectRef) -> None:
        """See `Statuses.reconcile`."""
        await self._statuses.reconcile(ref)

    async def change_status(self, ref: ObjectRef, change: Callable[[WorkflowStatus], WorkflowStatus]) -> None:
        """See `Statuses.change`."""
        await self._statuses.change(ref, change)

    def offered(self, ref: ObjectRef, offer: Offer) -> None:
        """See `Statuses.offered`."""
        self._statuses.offered(ref, offer)

    async def stop(self) -> None:
        await self._registering.stop()
        await self._statuses.stop()
        await self._revisions.stop()


def _what_matters(workflow: Workflow) -> tuple[object, ...]:
    """Return what runs and crons depend on: not what is only shown of groups, since that follows from the runs."""
    shown = {"concurrency_groups": None, "groups": None, "waiting": None}
    metadata = workflow.metadata.model_copy(update={"resource_version": ""})
    return metadata, workflow.spec, workflow.status.model_copy(update=shown)
