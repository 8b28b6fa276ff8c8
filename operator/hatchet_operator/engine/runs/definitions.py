"""Which definition a run executes, and what follows from that for its attempts."""

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef


class Definitions:
    """Looks up definitions.

    Args:
        workflows: Where definitions are.
    """

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    def graph_of(self, record: RunRecord) -> Graph | None:
        """Return the graph that a run executes; None: there is no definition of its workflow (yet)."""
        if record.graph is not None or record.whole is None:
            return record.graph or self._workflows.current_graph(record.workflow_ref)
        return self._workflows.graph_of(record.whole)

    def newest_graph_of(self, record: RunRecord) -> Graph | None:
        """Return what a run executes, going by its workflow as it is now, and not as it was when an attempt began."""
        newest = self._workflows.graph_of(record.whole) if record.whole is not None else None
        return newest or record.graph

    def step_of(self, record: RunRecord, identity: str) -> str | None:
        """Return the unfinished step whose current attempt this is, going by the persisted status alone."""
        if record.is_final or (graph := self.graph_of(record)) is None:
            return None
        states = record.run.status.steps
        steps = [step.name for step in graph.steps] + ([graph.on_failure.name] if graph.on_failure else [])
        unfinished = [name for name in steps if name not in states or not states[name].phase.is_final]
        return next((name for name in unfinished if current_attempt_id(record.run, name) == identity), None)

    def may_have(self, pool: ObjectRef, record: RunRecord) -> bool:
        """Whether attempts of this run are for workers of this pool, as far as is known."""
        graph = self.graph_of(record)
        return record.ref.namespace == pool.namespace and (graph is None or graph.pool in (None, pool.name))
