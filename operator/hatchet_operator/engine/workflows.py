"""Workflows: registration by workers, and the graph that a run executes.

Registering writes three things, in this order: the ControllerRevision that keeps the definition, the Workflow object,
its status. A crash in between repeats the registration, which finds what is there. It is in effect before it is
answered. Revisions are not owned by the Workflow: deleting a Workflow leaves its unfinished runs running.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

import orjson

from hatchet_operator.cluster.api import Api, Json, back_off
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import REVISIONS, WORKFLOWS
from hatchet_operator.decisions.actions import OfferedStep, action_conflict, conflict_message, offered_steps
from hatchet_operator.decisions.graph import (
    Graph,
    InvalidDefinitionError,
    check_definition,
    effective_graph,
)
from hatchet_operator.decisions.pooling import may_supersede
from hatchet_operator.decisions.workflow_status import Offer, with_conditions, workflow_conditions
from hatchet_operator.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, NotReady, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.names import ObjectRef, revision_name, workflow_object_name
from hatchet_operator.resources.reasons import ConditionType, Execution, Reason
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowSpec, WorkflowStatus

log = logging.getLogger(__name__)

_FORBIDDEN_PAUSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class WorkflowRecord:
    """One Workflow: the newest object and the graph that new runs of it execute."""

    workflow: Workflow
    version: int
    graph: Graph | None = None
    offer: Offer | None = None


@dataclass(slots=True)
class _Revisions:
    """Definitions of runs in flight that are no longer the current one."""

    graphs: dict[ObjectRef, Graph] = field(default_factory=dict)
    loading: dict[ObjectRef, asyncio.Task[None]] = field(default_factory=dict)
    missing: set[ObjectRef] = field(default_factory=set)
    written: set[ObjectRef] = field(default_factory=set)  # or found to be there, by this operator


class Workflows:
    """All workflows of the operator.

    Args:
        api: Where they are.
        events: Tells on a workflow what was done to it.
        on_change: Called with a workflow that is another now, or gone.
        template_of: The hash of a pool's current template.
        pool_exists: Whether a pool is there, or workers of one that nobody made.
        revisions_in_use: Names the definitions that unfinished runs of a workflow execute.
        is_offered: Whether a worker of a pool that is there registered an action.
    """

    def __init__(
        self,
        api: Api,
        *,
        events: EventRecorder,
        on_change: Callable[[ObjectRef], None],
        template_of: Callable[[ObjectRef], str | None],
        pool_exists: Callable[[ObjectRef], bool],
        revisions_in_use: Callable[[ObjectRef], set[str]],
        is_offered: Callable[[ObjectRef, str], bool],
    ) -> None:
        self._api = api
        self._events = events
        self._records: dict[ObjectRef, WorkflowRecord] = {}
        self._revisions = _Revisions()
        self._locks: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_change = on_change
        self._template_of = template_of
        self._pool_exists = pool_exists
        self._revisions_in_use = revisions_in_use
        self._is_offered = is_offered
        self._registering: dict[ObjectRef, tuple[str, WorkflowDefinition]] = {}
        self._last_offered: dict[tuple[ObjectRef, str], OfferedStep] = {}  # by pool and action

    # --- What runs ask

    def __contains__(self, ref: ObjectRef) -> bool:
        record = self._records.get(ref)
        return record is not None and record.graph is not None

    def get(self, ref: ObjectRef) -> Workflow | None:
        record = self._records.get(ref)
        return record.workflow if record else None

    def names_in(self, namespace: str) -> tuple[str, ...]:
        """Return the object names of a namespace's workflows."""
        return tuple(ref.name for ref in self._records if ref.namespace == namespace)

    def offered_by(self, namespace: str, actions: set[str]) -> list[str]:
        """Return the exact names of the workflows whose steps are all among these actions."""
        return [
            record.workflow.exact_name
            for ref, record in self._records.items()
            if ref.namespace == namespace
            and record.graph is not None
            and all(step.action in actions for step in record.graph.steps)
        ]

    def graphs_of_pool(self, pool: ObjectRef) -> list[tuple[ObjectRef, Graph]]:
        """Return the workflows that workers of a pool run; those whose runs have pods of their own are not."""
        return [
            (ref, record.graph)
            for ref, record in self._records.items()
            if ref.namespace == pool.namespace
            and record.graph is not None
            and (record.graph.pool, record.graph.execution) == (pool.name, Execution.POOL)
        ]

    def offered(self, ref: ObjectRef, offer: Offer) -> None:
        """Show who could take a workflow's steps."""
        record = self._records.get(ref)
        if record is not None and record.offer != offer:
            record.offer = offer
            task = asyncio.get_running_loop().create_task(self._show_offer(ref))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _show_offer(self, ref: ObjectRef) -> None:
        try:
            await self.reconcile(ref)
        except InvalidRequest as error:
            log.warning("workflow's status not written", extra={"workflow": str(ref), "error": str(error)})

    def graph_of(self, run: WorkflowRun) -> Graph | None:
        """The graph that a run executes: of the definition it began with, or else of the current one."""
        current = self.current_graph(ObjectRef(run.metadata.namespace, run.spec.workflow))
        pinned = run.status.definition
        if pinned is None or (current is not None and current.revision == pinned):
            return current
        return self._revisions.graphs.get(ObjectRef(run.metadata.namespace, pinned), current)

    def current_graph(self, workflow: ObjectRef) -> Graph | None:
        record = self._records.get(workflow)
        return record.graph if record else None

    def is_loading(self, run: WorkflowRun) -> bool:
        """Whether the definition that a run began with has to be read first; reading it begins here."""
        pinned = run.status.definition
        if pinned is None or run.status.phase.is_final:
            return False
        record = self._records.get(ObjectRef(run.metadata.namespace, run.spec.workflow))
        if record is not None and record.graph is not None and record.graph.revision == pinned:
            return False
        ref = ObjectRef(run.metadata.namespace, pinned)
        if ref in self._revisions.graphs or ref in self._revisions.missing:
            return False
        if ref not in self._revisions.loading:
            task = asyncio.get_running_loop().create_task(self._load(ref, run.spec.workflow))
            self._revisions.loading[ref] = task
        return True

    async def wait_until_loaded(self) -> None:
        """Return when no definition is being read."""
        while self._revisions.loading:
            await asyncio.wait(self._revisions.loading.values())

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
        """Take in a Workflow as the API server has it."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._records.get(ref)
        if kind == "DELETED":
            if known is not None and known.workflow.metadata.uid == metadata["uid"]:
                del self._records[ref]
                self._on_change(ref)
            return
        version = int(metadata["resourceVersion"])
        if known is not None and known.workflow.metadata.uid == metadata["uid"] and version <= known.version:
            return
        try:
            workflow = Workflow.model_validate(obj)
        except ValueError as error:
            # A status that somebody edited by hand; registration writes it anew.
            log.warning("workflow is not understood", extra={"workflow": str(ref), "error": str(error)})
            workflow = Workflow.model_validate({**obj, "status": {}})
        offer = known.offer if known is not None else None
        record = self._records[ref] = WorkflowRecord(workflow=workflow, version=version, offer=offer)
        self._compile(record)
        self._move_revisions(ref, record.graph)
        self._on_change(ref)

    def known(self) -> list[ObjectRef]:
        return list(self._records)

    def version_of(self, ref: ObjectRef) -> int:
        return self._records[ref].version

    def forget(self, ref: ObjectRef) -> None:
        """It is not there any more."""
        if self._records.pop(ref, None) is not None:
            self._on_change(ref)

    def _compile(self, record: WorkflowRecord) -> None:
        workflow = record.workflow
        definition, revision = workflow.status.definition, workflow.status.revision
        if definition is None or revision is None:
            return
        pool = workflow.spec.pool or workflow.status.pool
        if self._moved_onto(workflow) is not None:
            return  # its Valid condition says why
        try:
            record.graph = effective_graph(
                workflow.metadata.name, workflow.spec, definition, revision=revision, pool=pool
            )
        except InvalidDefinitionError as error:
            log.warning("definition is no graph", extra={"workflow": workflow.metadata.name, "error": str(error)})

    def _move_revisions(self, workflow: ObjectRef, current: Graph | None) -> None:
        """Earlier definitions are executed by the pool that the workflow has now."""
        for ref, graph in self._revisions.graphs.items():
            if current is not None and (ref.namespace, graph.workflow) == (workflow.namespace, workflow.name):
                self._revisions.graphs[ref] = replace(graph, pool=current.pool)

    async def reconcile(self, ref: ObjectRef) -> None:
        """Write the conditions that a person should see of their spec."""
        async with self._lock(ref):
            record = self._records.get(ref)
            if record is None:
                return
            conflict = self._moved_onto(record.workflow)
            wanted = workflow_conditions(record.workflow, datetime.now(UTC), conflict=conflict, offer=record.offer)
            workers = record.offer.workers if record.offer else record.workflow.status.workers
            if (wanted, workers) != (record.workflow.status.conditions, record.workflow.status.workers):
                for condition in wanted:
                    if condition.type == ConditionType.VALID and condition.status == "False":
                        self._events.warn(record.workflow, condition.reason, condition.message)
                await self._put_status(ref, lambda status: status)

    # --- Registration

    async def register(
        self, namespace: str, pool: str, definition: WorkflowDefinition, *, template: str | None = None
    ) -> str:
        """Put a definition into effect, for a worker of ``pool``, unless a newer pod registered another.

        Args:
            namespace: Of the worker.
            pool: Of the worker.
            definition: What it registers.
            template: What its Pod was made from; None: the pool does not make it.

        Returns:
            The name of its revision.

        Raises:
            InvalidRequest: It is no graph, or the workflow belongs to another name or pool.
        """
        try:
            check_definition(definition)
            name = workflow_object_name(definition.name)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        ref = ObjectRef(namespace, name)
        text = orjson.dumps(definition.to_wire()).decode()
        revision = revision_name(name, text)
        async with self._lock(ref):
            record = self._records.get(ref)
            if record is not None:
                self._check_owner(record.workflow, definition, pool)
                status = record.workflow.status
                current = self._template_of(ObjectRef(namespace, pool))
                may = may_supersede(template, in_effect=status.template, current=current)
                in_effect = (status.definition, status.revision, status.pool) == (definition, revision, pool)
                if (
                    in_effect
                    and (template in (None, status.template) or not may)
                    and ObjectRef(namespace, revision) in self._revisions.written
                ):
                    return revision  # one more worker of the same code; with a pod per run, each run has one
            with self._distinct(ref, definition, pool):
                if record is not None and status.definition is not None and status.pool == pool and not may:
                    return revision  # which is there while runs of it are
                await self._put_definition(ref, definition, revision=revision, pool=pool, template=template)
        task = asyncio.get_running_loop().create_task(self._delete_unused_revisions(ref))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return revision

    async def _put_definition(
        self, ref: ObjectRef, definition: WorkflowDefinition, *, revision: str, pool: str, template: str | None
    ) -> None:
        await self._create_revision(ref, revision, definition, pool)
        if ref not in self._records:
            await self._create_workflow(ref, definition, pool)

        def registered(status: WorkflowStatus) -> WorkflowStatus:
            return status.model_copy(
                update={"definition": definition, "revision": revision, "pool": pool, "template": template}
            )

        if not await self._put_status(ref, registered):
            raise NotReady(f'workflow "{definition.name}" was deleted while it was registered; repeat the call')

    @contextlib.contextmanager
    def _distinct(self, ref: ObjectRef, definition: WorkflowDefinition, pool: str) -> Iterator[None]:
        """Refuse a definition with a step that a worker of the pool would take for another; hold its names meanwhile.

        Raises:
            InvalidRequest: There is such a step.
        """
        where = ObjectRef(ref.namespace, pool)
        mine = offered_steps(ref.name, definition)
        others = [step for step in self._offered_in(where) if step.workflow != ref.name]
        # A worker that connected with a definition of before goes on offering its steps.
        before = (self._last_offered.get((where, step.action)) for step in mine)
        others += [step for step in before if step is not None and self._is_offered(where, step.action)]
        if (conflict := action_conflict(mine, others)) is not None:
            raise InvalidRequest(conflict_message(*conflict))
        self._registering[ref] = (pool, definition)
        try:
            yield
        finally:
            del self._registering[ref]
        unclear = (step for step in mine if step.action.count(":") != 1 or not step.is_named_so)
        self._last_offered |= {(where, step.action): step for step in unclear}

    def _moved_onto(self, workflow: Workflow) -> str | None:
        """Say that a person gave a workflow to a pool whose workers would take its steps for others; or None."""
        status, pool = workflow.status, workflow.spec.pool
        if pool is None or pool == status.pool or status.definition is None:
            return None
        name, where = workflow.metadata.name, ObjectRef(workflow.metadata.namespace, pool)
        others = [step for step in self._offered_in(where) if step.workflow != name]
        conflict = action_conflict(offered_steps(name, status.definition), others)
        return conflict_message(*conflict) if conflict else None

    def _offered_in(self, pool: ObjectRef) -> Iterator[OfferedStep]:
        """Yield the steps that workers of a pool offer, or are registering, or that runs in flight still have."""
        for ref, record in self._records.items():
            status, owner = record.workflow.status, record.workflow.spec.pool or record.workflow.status.pool
            if ref.namespace == pool.namespace and owner == pool.name and status.definition is not None:
                yield from offered_steps(ref.name, status.definition)
        for ref, (owner, definition) in self._registering.items():
            if ref.namespace == pool.namespace and owner == pool.name:
                yield from offered_steps(ref.name, definition)
        for ref, graph in self._revisions.graphs.items():
            if (ref.namespace, graph.pool) == (pool.namespace, pool.name):
                known = self._records.get(ObjectRef(ref.namespace, graph.workflow))
                exact = known.workflow.exact_name if known else graph.workflow
                steps = (*graph.steps, graph.on_failure) if graph.on_failure else graph.steps
                yield from (OfferedStep(graph.workflow, exact, step.name, step.action) for step in steps)

    def _check_owner(self, workflow: Workflow, definition: WorkflowDefinition, pool: str) -> None:
        name = workflow.metadata.name
        # A Workflow that nobody registered yet and whose spec names nothing takes the first exact name that fits.
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
            return  # its pool is gone, so another may take it over
        message = (
            f'workflow "{definition.name}" belongs to pool "{owner}", so pool "{pool}" may not register it; '
            f"rename the workflow, or set spec.pool of Workflow {workflow.metadata.namespace}/{name} to the pool "
            "that should have it"
        )
        self._events.warn(workflow, Reason.POOL_CONFLICT, message)
        raise InvalidRequest(message)

    async def _create_revision(self, workflow: ObjectRef, name: str, definition: WorkflowDefinition, pool: str) -> None:
        body: Json = {
            "apiVersion": REVISIONS.api_version,
            "kind": REVISIONS.kind,
            "metadata": {
                "name": name,
                "namespace": workflow.namespace,
                "labels": {labels.WORKFLOW: workflow.name, labels.POOL: pool, labels.MANAGED_BY: labels.MANAGER},
            },
            "revision": 1,  # required by the API; the order of definitions means nothing to us
            "data": {"definition": definition.to_wire()},
        }
        with contextlib.suppress(AlreadyExists):  # its name is the hash of what is in it
            await self._api.until_answered(self._api.create, REVISIONS, workflow.namespace, body)
        self._revisions.written.add(ObjectRef(workflow.namespace, name))

    async def _create_workflow(self, ref: ObjectRef, definition: WorkflowDefinition, pool: str) -> None:
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": WORKFLOWS.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "spec": {} if ref.name == definition.name else {"name": definition.name},
        }
        try:
            created = await self._api.until_answered(self._api.create, WORKFLOWS, ref.namespace, body)
        except AlreadyExists:
            if await self._read_again(ref):
                self._check_owner(self._records[ref].workflow, definition, pool)
            return
        except Refused as error:
            raise InvalidRequest(f'workflow "{definition.name}" was refused: {error.message}') from error
        self.observe("MODIFIED", created)

    async def _put_status(self, ref: ObjectRef, change: Callable[[WorkflowStatus], WorkflowStatus]) -> bool:
        """Write a changed status, from the newest object; nothing if nothing changes. False: the object is gone."""
        conflicts = 0
        while (record := self._records.get(ref)) is not None:
            status = self._with_conditions(record.workflow, change(record.workflow.status))
            if status == record.workflow.status:
                return True
            try:
                self.observe("MODIFIED", await self._replace_status(record.workflow, status))
            except Conflict:
                conflicts += 1
                await asyncio.sleep(back_off(conflicts, longest_seconds=5))
                if not await self._read_again(ref):
                    return False
            except NotFound:
                return False
            except Refused as error:
                raise InvalidRequest(f'the definition of workflow "{ref.name}" was refused: {error.message}') from error
            else:
                return True
        return False

    def _with_conditions(self, workflow: Workflow, status: WorkflowStatus) -> WorkflowStatus:
        conflict = self._moved_onto(workflow.model_copy(update={"status": status}))
        record = self._records.get(ObjectRef(workflow.metadata.namespace, workflow.metadata.name))
        offer = record.offer if record else None
        return with_conditions(workflow, status, datetime.now(UTC), conflict=conflict, offer=offer)

    async def _replace_status(self, workflow: Workflow, status: WorkflowStatus) -> Json:
        namespace, name = workflow.metadata.namespace, workflow.metadata.name
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": WORKFLOWS.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": workflow.metadata.uid,
                "resourceVersion": workflow.metadata.resource_version,
            },
            "status": status.to_wire(),
        }
        return await self._api.until_answered(self._api.replace, WORKFLOWS, namespace, name, body, subresource="status")

    async def _read_again(self, ref: ObjectRef) -> bool:
        try:
            answer = await self._api.until_answered(self._api.get, WORKFLOWS, ref.namespace, ref.name)
        except NotFound:
            return False
        self.observe("MODIFIED", answer)
        return True

    # --- Revisions

    async def _load(self, ref: ObjectRef, workflow: str) -> None:
        """Read the definition that a run began with."""
        try:
            obj = await self._read_revision(ref)
            definition = _definition_in(obj)
            record = self._records.get(ObjectRef(ref.namespace, workflow))
            spec = record.workflow.spec if record else WorkflowSpec()
            registered_by = (
                record.workflow.status.pool if record else obj["metadata"].get("labels", {}).get(labels.POOL)
            )
            pool = spec.pool or registered_by
            self._revisions.graphs[ref] = effective_graph(workflow, spec, definition, revision=ref.name, pool=pool)
        except (NotFound, ValueError) as error:
            log.warning(
                "revision is missing, the current definition is used", extra={"revision": str(ref), "error": str(error)}
            )
            self._revisions.missing.add(ref)
        finally:
            self._revisions.loading.pop(ref, None)
        self._on_change(ObjectRef(ref.namespace, workflow))

    async def _read_revision(self, ref: ObjectRef) -> Json:
        """Read a revision, however long that takes: to go on with another definition would be wrong."""
        while True:
            try:
                return await self._api.until_answered(self._api.get, REVISIONS, ref.namespace, ref.name)
            except Refused as error:
                log.error("revision not read", extra={"revision": str(ref), "error": error.message})
                await asyncio.sleep(_FORBIDDEN_PAUSE_SECONDS)

    async def _delete_unused_revisions(self, workflow: ObjectRef) -> None:
        """Delete definitions that are neither current nor executed by any unfinished run."""
        selector = f"{labels.WORKFLOW}={workflow.name},{labels.MANAGED_BY}={labels.MANAGER}"
        async with self._lock(workflow):  # or one that is being registered again would be deleted under it
            items, _ = await self._api.until_answered(
                self._api.list_all, REVISIONS, workflow.namespace, label_selector=selector
            )
            current = self.get(workflow)
            needed = self._revisions_in_use(workflow) | {current.status.revision or "" if current else ""}
            for name in {item["metadata"]["name"] for item in items} - needed:
                await self._delete_revision(ObjectRef(workflow.namespace, name))

    async def _delete_revision(self, ref: ObjectRef) -> None:
        self._revisions.written.discard(ref)
        try:
            await self._api.until_answered(self._api.delete, REVISIONS, ref.namespace, ref.name)
        except NotFound:
            return
        self._revisions.graphs.pop(ref, None)

    def _lock(self, ref: ObjectRef) -> asyncio.Lock:
        return self._locks.setdefault(ref, asyncio.Lock())

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._revisions.loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _definition_in(revision: Json) -> WorkflowDefinition:
    """Return what a ControllerRevision has kept.

    Raises:
        ValueError: It is nothing of ours: who may write revisions may put anything there.
    """
    data = revision.get("data")
    return WorkflowDefinition.model_validate(data.get("definition") if isinstance(data, dict) else data)
