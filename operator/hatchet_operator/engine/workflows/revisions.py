"""Kept definitions: a ControllerRevision each, for as long as it is current or a run executes it.

They are not owned by the Workflow: deleting a Workflow leaves its unfinished runs running.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from hatchet_operator.backoff import FORBIDDEN_SECONDS
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import REVISIONS
from hatchet_operator.cluster.upkeep import create_unless_there
from hatchet_operator.decisions.graph import Graph, effective_graph
from hatchet_operator.errors import NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition, WorkflowSpec

log = logging.getLogger(__name__)


class Revisions:
    """Definitions that are kept, and the graphs of those that runs in flight execute but are no longer current.

    Args:
        api: Where they are.
        find: Returns a Workflow, if there is one.
        on_change: Called with a workflow when a definition of it was read.
    """

    def __init__(
        self,
        api: Api,
        *,
        find: Callable[[ObjectRef], Workflow | None],
        on_change: Callable[[ObjectRef], None],
    ) -> None:
        self._api = api
        self._find = find
        self._on_change = on_change
        self.graphs: dict[ObjectRef, Graph] = {}
        self.missing: set[ObjectRef] = set()
        self._loading: dict[ObjectRef, asyncio.Task[None]] = {}
        self._written: set[ObjectRef] = set()  # or found to exist, by this operator

    def begin_loading(self, ref: ObjectRef, workflow: str) -> bool:
        """Begin to read a definition, if it has to be read first; return whether it has."""
        if ref in self.graphs or ref in self.missing:
            return False
        if ref not in self._loading:
            self._loading[ref] = asyncio.get_running_loop().create_task(self._load(ref, workflow))
        return True

    def is_kept(self, ref: ObjectRef) -> bool:
        """Whether this operator wrote it, or found that it exists."""
        return ref in self._written

    async def wait_until_loaded(self) -> None:
        """Return when no definition is being read."""
        while self._loading:
            await asyncio.wait(self._loading.values())

    def move(self, workflow: ObjectRef, current: Graph | None) -> None:
        """Have earlier definitions executed by the pool that the workflow has now."""
        for ref, graph in self.graphs.items():
            if current is not None and (ref.namespace, graph.workflow) == (workflow.namespace, workflow.name):
                self.graphs[ref] = replace(graph, pool=current.pool)

    async def keep(self, workflow: ObjectRef, name: str, definition: WorkflowDefinition, pool: str) -> None:
        """Ensure that a definition is kept."""
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
        await create_unless_there(self._api, REVISIONS, body)  # its name is the hash of its content
        self._written.add(ObjectRef(workflow.namespace, name))

    async def _load(self, ref: ObjectRef, workflow: str) -> None:
        """Read the definition that a run began with."""
        try:
            obj = await self._read(ref)
            definition = _definition_in(obj)
            current = self._find(ObjectRef(ref.namespace, workflow))
            spec = current.spec if current else WorkflowSpec()
            registered_by = current.status.pool if current else obj["metadata"].get("labels", {}).get(labels.POOL)
            pool = spec.pool or registered_by
            self.graphs[ref] = effective_graph(workflow, spec, definition, revision=ref.name, pool=pool)
        except (NotFound, ValueError) as error:
            log.warning(
                "revision is missing, the current definition is used", extra={"revision": str(ref), "error": str(error)}
            )
            self.missing.add(ref)
        finally:
            self._loading.pop(ref, None)
        self._on_change(ObjectRef(ref.namespace, workflow))

    async def _read(self, ref: ObjectRef) -> Json:
        """Read a revision, however long that takes: continuing with another definition would be wrong."""
        while True:
            try:
                return await self._api.until_answered(self._api.get, REVISIONS, ref.namespace, ref.name)
            except Refused as error:
                log.error("revision not read", extra={"revision": str(ref), "error": error.message})
                await asyncio.sleep(FORBIDDEN_SECONDS)

    async def delete_all_but(self, needed: set[str], *, of: ObjectRef) -> None:
        """Delete the definitions of a workflow that are not needed."""
        selector = f"{labels.WORKFLOW}={of.name},{labels.MANAGED_BY}={labels.MANAGER}"
        items, _ = await self._api.until_answered(self._api.list_all, REVISIONS, of.namespace, label_selector=selector)
        for name in {item["metadata"]["name"] for item in items} - needed:
            await self._delete(ObjectRef(of.namespace, name))

    async def _delete(self, ref: ObjectRef) -> None:
        self._written.discard(ref)
        try:
            await self._api.until_answered(self._api.delete, REVISIONS, ref.namespace, ref.name)
        except NotFound:
            return
        self.graphs.pop(ref, None)

    async def stop(self) -> None:
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _definition_in(revision: Json) -> WorkflowDefinition:
    """Return the definition in a ControllerRevision.

    Raises:
        ValueError: It is not ours: anyone who may write revisions may put anything there.
    """
    data = revision.get("data")
    return WorkflowDefinition.model_validate(data.get("definition") if isinstance(data, dict) else data)
