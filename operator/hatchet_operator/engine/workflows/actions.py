"""Which steps belong to which workflow: workers tell steps apart by action, so no two workflows of a pool share one."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from hatchet_operator.decisions.actions import OfferedStep, action_conflict, conflict_message, offered_steps
from hatchet_operator.engine.workflows.revisions import Revisions
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition


class Actions:
    """The actions that workers of pools offer, or are registering.

    Args:
        revisions: Definitions that runs in flight still have.
        in_namespace: The workflows of a namespace.
        is_offered: Whether a current worker of a pool registered an action.
    """

    def __init__(
        self,
        revisions: Revisions,
        *,
        in_namespace: Callable[[str], Iterable[tuple[ObjectRef, Workflow]]],
        is_offered: Callable[[ObjectRef, str], bool],
    ) -> None:
        self._revisions = revisions
        self._in_namespace = in_namespace
        self._is_offered = is_offered
        self._registering: dict[ObjectRef, tuple[str, WorkflowDefinition]] = {}
        self._last_offered: dict[tuple[ObjectRef, str], OfferedStep] = {}  # by pool and action

    @contextlib.contextmanager
    def distinct(self, ref: ObjectRef, definition: WorkflowDefinition, pool: str) -> Iterator[None]:
        """Refuse a definition with a step that the pool's workers would mistake for another; reserve its actions.

        Raises:
            InvalidRequest: There is such a step.
        """
        where = ObjectRef(ref.namespace, pool)
        mine = offered_steps(ref.name, definition)
        others = [step for step in self._offered_in(where) if step.workflow != ref.name]
        # A worker that connected with an earlier definition continues to offer its steps.
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

    def moved_onto(self, workflow: Workflow) -> str | None:
        """Say that somebody moved a workflow to a pool whose workers would mistake its steps for others; or None."""
        status, pool = workflow.status, workflow.spec.pool
        if pool is None or pool == status.pool or status.definition is None:
            return None
        name, where = workflow.metadata.name, ObjectRef(workflow.metadata.namespace, pool)
        others = [step for step in self._offered_in(where) if step.workflow != name]
        conflict = action_conflict(offered_steps(name, status.definition), others)
        return conflict_message(*conflict) if conflict else None

    def _offered_in(self, pool: ObjectRef) -> Iterator[OfferedStep]:
        """Yield the steps that workers of a pool offer, or are registering, or that runs in flight still have."""
        known = dict(self._in_namespace(pool.namespace))
        for ref, workflow in known.items():
            status, owner = workflow.status, workflow.spec.pool or workflow.status.pool
            if owner == pool.name and status.definition is not None:
                yield from offered_steps(ref.name, status.definition)
        for ref, (owner, definition) in self._registering.items():
            if ref.namespace == pool.namespace and owner == pool.name:
                yield from offered_steps(ref.name, definition)
        for ref, graph in self._revisions.graphs.items():
            if (ref.namespace, graph.pool) == (pool.namespace, pool.name):
                current = known.get(ObjectRef(ref.namespace, graph.workflow))
                exact = current.exact_name if current else graph.workflow
                steps = (*graph.steps, graph.on_failure) if graph.on_failure else graph.steps
                yield from (OfferedStep(graph.workflow, exact, step.name, step.action) for step in steps)
